"""The teacher labels the unlabeled images (paper §2, step 2).

The teacher has its EMA weights and no noise, and sees the clean evaluation
crop at its own resolution; with noise only to show what that costs (table 6).
Output per unlabeled shard: a shard of predictions of the same name, and beside it
a Parquet index (id, label, confidence).
"""

import dataclasses
import os
import zlib

import numpy as np
import tensorflow as tf

from data import bad_records, pipeline, records, soft_labels
from data.augmentation import Augmentation
from data.errors import InputError
from data.records import RecordSet
from noisy_student import model_files
from noisy_student.inference import Predictor
from noisy_student.manifest import Stage
from noisy_student.predictions import Index, write_index
from noisy_student.progress import Progress

BATCH_SIZE = 256
_DRAWS_OF_SHARD = 2**15  # Batches of a shard that have noise of their own.


@dataclasses.dataclass(frozen=True)
class TeacherNoise:
    """Training's noise, on while the teacher labels.

    The paper's method has none; it is the last row of its noise ablation (table 6).
    Dropout and stochastic depth have the teacher's rates, batch norm its moving
    statistics. Every teacher draws another noise of the same seed; a shard that is
    labeled again, with the same batch size and number of replicas, draws the same.
    """

    augmentation: Augmentation
    seed: int


@dataclasses.dataclass(frozen=True)
class LabelingOptions:
    """How labels are made.

    Attributes:
        batch_size: Images a step, over all replicas.
        noise: None in the paper's method.
        label_format: How probabilities are stored, see `data.soft_labels`.
    """

    batch_size: int = BATCH_SIZE
    noise: TeacherNoise | None = None
    label_format: str = "float32"


def label(
    teacher: str,
    unlabeled: RecordSet,
    directory: str,
    strategy: tf.distribute.Strategy,
    options: LabelingOptions = LabelingOptions(),
    name: str = "labeling",
) -> str:
    """Writes the teacher's probabilities for every image; returns `directory`.

    Args:
        teacher: Directory of a trained model.
        unlabeled: The images.
        directory: Where predictions go. Shards finished earlier are kept.
        strategy: Where to compute.
        options: How labels are made.
        name: For the progress line.
    """
    info, noise = model_files.load_info(teacher), options.noise
    soft_labels.parse_format(options.label_format, len(info.class_names))
    shards = shards_by_name(unlabeled)
    identity = {
        "teacher_sha256": info.weights_sha256,
        "class_names": info.class_names,
        "images": unlabeled.num_examples,
        "unlabeled_data": unlabeled.fingerprint(),
        "teacher_noise": noise and dataclasses.asdict(noise),
        "label_format": options.label_format,
    }
    stage = Stage(directory, "label", identity)
    if stage.complete:
        return directory
    model, _ = model_files.load_model(teacher)
    input_noise = noise and _noise_of(noise, info)
    noise_seed = noise and input_noise.seed
    predictor = Predictor(model, strategy, options.batch_size, noise_seed)
    finished = [stage.finished_shard(shard) for shard in shards]
    done = sum(facts["records"] for facts in finished if facts)
    progress = Progress(name, unlabeled.num_examples, start=done)
    for number, (shard, path) in enumerate(shards.items()):
        if finished[number] is None:
            batches = _batches(path, unlabeled, info, predictor.batch_size, input_noise)
            predicted = predictor.over(batches, number * _DRAWS_OF_SHARD)
            rows = _predict_shard(predicted, path, unlabeled, info, progress, done)
            done += write_predictions(stage, shard, rows)["records"]
    summary = summarize([stage.finished_shard(shard) for shard in shards])
    summary["skipped_records"] = bad_records.report(unlabeled.skipped)
    timing = progress.finish(f"mean confidence {summary['mean_confidence']:.3f}")
    bad_records.print_note(summary["skipped_records"])
    stage.finish(list(shards), summary, timing)
    return directory


def shards_by_name(unlabeled: RecordSet) -> dict[str, str]:
    """Paths by file name; predictions and balanced shards take these names."""
    shards = {os.path.basename(path): path for path in unlabeled.files}
    if len(shards) < len(unlabeled.files):
        raise InputError(
            f"`unlabeled_data`: expected {len(unlabeled.files)} files of different names; "
            f"received {len(shards)} names. Rename files that share a name."
        )
    return shards


def _noise_of(noise: TeacherNoise, info) -> pipeline.InputNoise:
    seed = zlib.crc32(f"{noise.seed} {info.weights_sha256}".encode()) // 2  # 31 bits.
    return pipeline.InputNoise(noise.augmentation, seed)


def _batches(path, unlabeled, info, batch_size, noise) -> tf.data.Dataset:
    return pipeline.evaluation_batches(
        [path],
        info.image_size,
        info.crop,
        batch_size,
        unlabeled.label_offset,
        skipped=unlabeled.skipped,
        noise=noise,
    )


def _predict_shard(predicted, path, unlabeled, info, progress, start) -> dict:
    """Arrays over a shard's images: id, label, confidence, probabilities, truth."""
    columns = {"id": [], "probabilities": [], "truth": []}
    with pipeline.explained_evaluation(unlabeled, "unlabeled", [path]):
        for batch in predicted:
            columns["id"].append(batch["id"])
            columns["probabilities"].append(batch["probabilities"])
            columns["truth"].append(batch["label"])
            start += len(batch["id"])
            progress.update(start)
    if not columns["id"]:
        empty = np.zeros((0, len(info.class_names)), np.float32)
        columns = {"id": [[]], "probabilities": [empty], "truth": [[]]}
    rows = {key: np.concatenate(parts) for key, parts in columns.items()}
    if not unlabeled.truth_known:
        rows["truth"] = np.full(len(rows["id"]), -1)
    rows["label"] = rows["probabilities"].argmax(-1)
    rows["confidence"] = rows["probabilities"].max(-1)
    return rows


def write_predictions(stage: Stage, shard: str, rows: dict) -> dict:
    """Writes a shard of predictions and its index; returns its facts.

    Args:
        stage: With `label_format` in its identity.
        shard: File name.
        rows: Arrays over the images: id, label, confidence, probabilities, truth.
    """
    label_format = soft_labels.parse_format(stage.identity["label_format"])
    labels = soft_labels.encode(rows["probabilities"], label_format)
    index = Index(rows["id"], rows["label"], rows["confidence"])
    write_index(stage.path(shard), index)
    count = records.write_shard(
        stage.path(shard),
        (
            {
                records.ID: rows["id"][i],
                records.LABEL: int(rows["label"][i]),
                records.CONFIDENCE: float(rows["confidence"][i]),
                **labels[i],
            }
            for i in range(len(rows["id"]))
        ),
    )
    known = rows["truth"] >= 0
    return stage.finish_shard(
        shard,
        count,
        confidence_sum=float(rows["confidence"].sum(dtype=np.float64)),
        truth_known=int(known.sum()),
        correct=int((rows["label"] == rows["truth"])[known].sum()),
    )


def summarize(shards: list[dict]) -> dict:
    """Totals; `accuracy` only where the truth of all images is known."""
    count = sum(facts["records"] for facts in shards)
    known = sum(facts["truth_known"] for facts in shards)
    correct = sum(facts["correct"] for facts in shards)
    return {
        "images": count,
        "mean_confidence": sum(f["confidence_sum"] for f in shards) / max(count, 1),
        "accuracy": correct / known if known else None,
    }
