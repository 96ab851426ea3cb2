"""TFRecord shards: labeled, unlabeled and pseudo-labeled images, and predictions."""

import glob
import os
import random
import zlib
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from benchmarks.torture import mutations
from benchmarks.torture.readers.base import Reader, contents
from data import bad_records, evaluation_input, pipeline, records, soft_labels
from data.augmentation import Augmentation
from data.bad_records import Contract
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from data.records import RecordSet
from data.sources.tfrecords import TFRecordSource
from data.streams import TeacherView, TrainingInput
from noisy_student.balancing.pseudo_labeled_shards import ShardWriter
from noisy_student.balancing.selection import Rule, unbalanced
from noisy_student.config import SelectionConfig
from noisy_student.labeling import predictions

_RECORDS = 4
_CLASSES = tuple(str(digit) for digit in range(10))
_SIZE = 8
_WHOLE = 100  # Every so many-th file is read by whole pipelines too.
_VIEW = TeacherView(_SIZE, "pad")


class Shards(Reader):
    """A file of four records: damaged as a file, or one record of it within its frame.

    In every file each record that is whole, and that a damaged frame before it does not
    hide, must be found good: one bad record costs one record.
    """

    share = 0.15
    kind: str
    label_format = soft_labels.FLOAT32
    read_as: tuple[str, ...] = ("evaluation", "training")

    def __init__(self, directory: str, run: str):
        self._path = os.path.join(directory, "shard.tfrecord")
        self._good = self.serialized(run)
        super().__init__(directory, run)
        self._framed(self._good)
        self._records = tf.data.TFRecordDataset(self._path)
        examples = RecordSet((self._path,), (_RECORDS,), _CLASSES)
        self._contract = Contract(self.kind, len(_CLASSES), label_format=self.label_format)
        # Made once: each reading opens the file at this path anew.
        self._evaluation = EvaluationInput(
            examples, _SIZE, "pad", "labeled" if self.kind == "labeled" else "unlabeled"
        )
        self._evaluated = evaluation_input.evaluation_batches(self._evaluation, 2)
        view = _VIEW if self.kind == "unlabeled" else None
        stream = TrainingInput(examples, _SIZE, Augmentation(), 0, self.kind, view)
        self._training = stream
        self._trained = pipeline.training_batches(stream, 2).take(2)
        zero = tf.constant(0, tf.int64)
        label_format = self.label_format if self.kind == "pseudo_labeled" else None

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def in_graph(serialized):
            return pipeline.training_example(
                stream, label_format, tf.constant(self._path), zero, serialized, zero, zero
            )

        self._in_graph = in_graph

    def serialized(self, run: str) -> list[bytes]:
        """Four whole records."""
        raise NotImplementedError

    def files(self) -> list[bytes]:
        return [self._framed(self._good)]

    def make(self, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return super().make(draw)
        found = list(self._good)
        at = draw.randrange(len(found))
        found[at] = mutations.mutated(found[at], draw, self._good)
        return self._framed(found)

    def read(self, content: bytes) -> None:
        self.written(content, "shard.tfrecord")
        found, whole = self._raw()
        bad = [self._is_bad(position, one) for position, one in enumerate(found)]
        if not zlib.crc32(content) % _WHOLE:
            self._read_in_all_ways()
        if any(bad) or not whole:
            raise InputError(f"{bad.count(True)} bad records, or a damaged file.")

    def _is_bad(self, position: int, serialized: bytes) -> bool:
        """Python's verdict, which must be that of the pipeline."""
        bad = bad_records.check(self._path, position, serialized, self._contract)
        assert not (bad and serialized in self._good), bad
        if serialized in self._good:
            return False
        try:
            self._in_graph(serialized)
        except bad_records.PIPELINE_ERRORS:
            assert bad, "The pipeline refuses it, and nobody could say why."
        return bad is not None

    def _read_in_all_ways(self) -> None:
        """As evaluation, training and `prepare_data` do; building all that is slow."""
        self._good_ones_are_kept()
        errors = []
        for way in self.read_as:
            try:
                getattr(self, f"_{way}_reads")()
            except InputError as error:
                errors.append(error)
        self._sources_read()
        if errors:
            raise errors[0]

    def _good_ones_are_kept(self) -> None:
        whole = set(self._good)
        expected = [one for one in self._raw()[0] if one in whole]
        examined = bad_records.examine(self._path, self._contract)
        found = [records.serialize(example) for example, bad in examined if not bad]
        lost = [one for one in expected if one not in found]
        assert not lost, f"{len(lost)} good records were lost"

    def _raw(self) -> tuple[list[bytes], bool]:
        """The records up to a damaged frame, and whether there is none."""
        found: list[bytes] = []
        try:
            found.extend(self._records.as_numpy_iterator())
        except tf.errors.DataLossError:
            return found, False
        return found, True

    def _evaluation_reads(self) -> None:
        with evaluation_input.explained_evaluation(self._evaluation):
            for _ in self._evaluated:
                pass

    def _training_reads(self) -> None:
        with pipeline.explained_training(self._training, 2, 0, 4):
            for _ in self._trained:
                pass

    def _sources_read(self) -> None:
        labeled = self.kind == "labeled"
        for skip in (False, True):
            try:
                source = TFRecordSource(
                    self._path, 0, _CLASSES, labeled=labeled, skip_bad_records=skip
                )
                for record in source.read(range(len(source))):
                    assert isinstance(record.id, str)
            except InputError:
                pass  # Whether it should is looked at above.

    def _framed(self, found: list[bytes]) -> bytes:
        with tf.io.TFRecordWriter(self._path) as writer:
            for one in found:
                writer.write(one)
        return contents(self._path)


class Labeled(Shards):
    name = "labeled images (TFRecord)"
    kind = "labeled"

    def serialized(self, run: str) -> list[bytes]:
        return _first(run, "data/labeled")


class Unlabeled(Shards):
    name = "unlabeled images (TFRecord)"
    kind = "unlabeled"

    def serialized(self, run: str) -> list[bytes]:
        return _first(run, "data/unlabeled")


class _PseudoLabeled(Shards):
    kind = "pseudo_labeled"
    read_as = ("training",)

    def serialized(self, run: str) -> list[bytes]:
        found = []
        for serialized in _first(run, "generation_1/balanced"):
            example = tf.train.Example.FromString(serialized)
            feature = example.features.feature
            probabilities = soft_labels.decode(feature, soft_labels.FLOAT32, len(_CLASSES))
            del feature[records.PROBABILITIES], feature[records.COPIES]
            encoded = soft_labels.encode(probabilities, self.label_format)
            more = tf.train.Example.FromString(
                records.serialize({**encoded, records.COPIES: 1})
            )
            example.MergeFrom(more)
            found.append(records.serialize(example))
        return found

    def _sources_read(self) -> None:
        """It is no source."""


class PseudoLabeled(_PseudoLabeled):
    name = "pseudo-labeled images (TFRecord, float32)"


class PseudoLabeledHalf(_PseudoLabeled):
    name = "pseudo-labeled images (TFRecord, float16)"
    label_format = soft_labels.FLOAT16


class PseudoLabeledTop(_PseudoLabeled):
    name = "pseudo-labeled images (TFRecord, top_3)"
    label_format = soft_labels.parse_format("top_3")


class Predictions(Reader):
    """A shard of predictions, joined with its index and the images by `balance`."""

    name = "predictions (TFRecord)"
    share = 0.3

    def __init__(self, directory: str, run: str):
        self._shard = _shard(run, "generation_1/predictions")
        name = os.path.basename(self._shard)
        self._images = os.path.join(run, "data", "unlabeled", name)
        super().__init__(directory, run)
        self.written(contents(predictions.index_path(self._shard)), "shard.parquet")
        chosen = unbalanced(np.zeros(len(_CLASSES), np.int64))
        settings = SelectionConfig(filter="none", balance="none")
        stage = SimpleNamespace(
            finished_shard=lambda _: None,
            path=lambda _: os.path.join(directory, "balanced.tfrecord"),
            finish_shard=lambda *_, **__: None,
        )
        self._writer = ShardWriter(
            stage,  # type: ignore[arg-type]  # What there is of one.
            directory,
            chosen,
            Rule(settings, 10, len(_CLASSES), 0, np.zeros(0, np.uint64)),
            RecordSet((self._images,), (0,), _CLASSES),
        )

    def files(self) -> list[bytes]:
        return [contents(self._shard)]

    def make(self, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return super().make(draw)
        dataset = tf.data.TFRecordDataset(self._shard)
        found = list(dataset.as_numpy_iterator())
        at = draw.randrange(len(found))
        found[at] = mutations.mutated(found[at], draw, found)
        path = os.path.join(self.directory, "made.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for one in found:
                writer.write(one)
        return contents(path)

    def read(self, content: bytes) -> None:
        path = self.written(content, "shard.tfrecord")
        try:
            soft_labels.format_of(path)
        finally:
            self._writer.write(("shard.tfrecord", self._images))


def _shard(run: str, directory: str) -> str:
    found = glob.glob(os.path.join(run, directory, "*.tfrecord"))
    return min(found, key=os.path.getsize)


def _first(run: str, directory: str) -> list[bytes]:
    dataset = tf.data.TFRecordDataset(_shard(run, directory)).take(_RECORDS)
    examples = map(tf.train.Example.FromString, dataset.as_numpy_iterator())
    return [records.serialize(example) for example in examples]


READERS = (
    Labeled,
    Unlabeled,
    PseudoLabeled,
    PseudoLabeledHalf,
    PseudoLabeledTop,
    Predictions,
)
