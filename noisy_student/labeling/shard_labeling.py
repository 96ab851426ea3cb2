"""A teacher labels shards one after the other, none waiting for another.

The stream of images goes on from shard to shard: while the network has a batch, the
next ones are read and decoded, and the one before is written.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np

from data import evaluation_input
from data.evaluation_input import EvaluationInput
from data.records import RecordSet
from noisy_student.labeling.prediction_writer import PredictedBatch, PredictionWriter
from noisy_student.models.inference import Predictor
from noisy_student.models.model_files import ModelInfo
from noisy_student.stages.progress import Progress

_DRAWS_OF_SHARD = 2**15  # Batches of a shard that have noise of their own.


@dataclasses.dataclass(frozen=True)
class TeacherInput:
    """What the teacher sees.

    Attributes:
        unlabeled: The images.
        teacher: Decides their size and crop.
        noise: On the images; None in the paper's method.
    """

    unlabeled: RecordSet
    teacher: ModelInfo
    noise: evaluation_input.InputNoise | None = None


def label_shards(
    predictor: Predictor,
    images: TeacherInput,
    numbers: Iterable[int],
    writer: PredictionWriter,
    progress: Progress,
    done: int = 0,
) -> None:
    """Labels some of the shards, in order, and puts each on record.

    Args:
        predictor: The teacher.
        images: What it sees.
        numbers: Of the shards, in `images.unlabeled.files`.
        writer: Takes the predictions.
        progress: Told of every batch.
        done: Images that it knows of already.
    """
    unlabeled = images.unlabeled
    batches = _batches(images, numbers, predictor.batch_size)
    for number, of_shard in itertools.groupby(batches, lambda batch: batch["number"]):
        shard = os.path.basename(unlabeled.files[number])
        for draw, batch in enumerate(of_shard, number * _DRAWS_OF_SHARD):
            count = batch["count"]
            truth = batch["label"][:count]
            if not unlabeled.truth_known:
                truth = np.full_like(truth, -1)
            predicted = PredictedBatch(
                shard,
                ids=list(batch["id"][:count]),
                truth=truth,
                probabilities=predictor.start(batch["image"][:count], draw),
                last=count < predictor.batch_size,
            )
            writer.add(predicted)
            done += count
            progress.update(done)


def _batches(
    images: TeacherInput, numbers: Iterable[int], batch_size: int
) -> Iterator[dict]:
    """`data.evaluation_input.evaluation_batches`, by file.

    Beside their examples, blank ones at the end included, batches have the `number`
    of their shard and the `count` of those that are not blank: in the last batch of a
    shard, and in no other, fewer than all.
    """
    teacher = images.teacher
    stream = EvaluationInput(
        images.unlabeled, teacher.image_size, teacher.crop, noise=images.noise
    )
    numbers = {images.unlabeled.files[number]: number for number in numbers}
    batches = evaluation_input.evaluation_batches(
        stream, batch_size, list(numbers), by_file=True
    ).as_numpy_iterator()
    left = list(numbers)  # From the file that is read: a bad record lies in these.
    while True:
        with evaluation_input.explained_evaluation(stream, left):
            batch = next(batches, None)
        if batch is None:
            return
        path = batch["path"][0].decode()
        left = left[left.index(path) :]
        count = int((batch["position"] >= 0).sum())
        yield {**batch, "number": numbers[path], "count": count}
