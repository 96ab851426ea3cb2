"""TensorFlow Datasets."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data import images
from data.errors import InputError
from data.records import Record
from data.sources.base import Source


class TfdsSource(Source):
    """A TensorFlow Datasets split with the features `image` and `label`."""

    sequential = True

    def __init__(self, name_and_split: str):
        import tensorflow_datasets as tfds

        match = re.fullmatch(
            r"([^:\[]+(?::[\d*]+\.[\d*]+\.[\d*]+)?)(?::(.+))?", name_and_split
        )
        name, split = match.groups() if match else (name_and_split, None)
        self._split = split or "train"
        try:
            self._builder = tfds.builder(name)
        except tfds.core.registered.DatasetNotFoundError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"tfds:{name}: expected a data set of TensorFlow Datasets; received a name "
                f"that it does not know ({reason}). See tensorflow.org/datasets/catalog."
            ) from error
        features = self._builder.info.features
        if "image" not in features:
            raise InputError(
                f"tfds:{name}: expected a feature `image`; received {', '.join(features)}."
            )
        # Of ImageNet ReaL, the one label that each image had before.
        self._label = "original_label" if "original_label" in features else "label"
        known = self._label in features and hasattr(features[self._label], "names")
        self.class_names = tuple(features[self._label].names) if known else None
        try:
            self._builder.download_and_prepare()
        except (AssertionError, OSError) as error:  # To be got by hand, or no network.
            raise InputError(
                f"tfds:{name}: expected its files to be there, or to be free to download; "
                f"{' '.join(str(error).split())[:300]} See tensorflow.org/datasets/catalog."
            ) from error
        # Counted by reading: a mocked data set has no statistics.
        self.labels = np.fromiter(self._read_labels(known), np.int64)

    def _read_labels(self, known):
        try:
            dataset = self._dataset(self._split)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"tfds:{self._builder.name}: expected a split among "
                f"{', '.join(self._builder.info.splits)}, or a part of one; received "
                f"{self._split!r} ({error})."
            ) from error
        dataset = dataset.map(lambda example: example[self._label] if known else -1)
        return dataset.as_numpy_iterator()

    def _dataset(self, split):
        import tensorflow_datasets as tfds

        return self._builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )

    def encoded(self) -> tf.data.Dataset:
        known = self.class_names is not None

        def row(index, example):
            image = example["image"]
            if image.dtype != tf.string:  # Stored as a tensor, not a file.
                image = tf.io.encode_png(image)
            made = tf.strings.join(
                [f"{self._split}/", tf.strings.as_string(index, width=9, fill="0")]
            )
            label = tf.cast(example[self._label], tf.int32) if known else tf.constant(-1)
            return {"id": example.get("file_name", made), "label": label, "encoded": image}

        return self._dataset(self._split).enumerate().map(row)

    def read_feature(self, name: str) -> list[np.ndarray]:
        """Another feature of all examples, in order.

        Raises:
            InputError: There is no such feature.
        """
        features = self._builder.info.features
        if name not in features:
            raise InputError(
                f"tfds:{self._builder.name}: expected a feature `{name}`; received "
                f"{', '.join(features)}."
            )
        dataset = self._dataset(self._split).map(lambda example: example[name])
        return list(dataset.as_numpy_iterator())

    def read(self, indices: Sequence[int] | np.ndarray) -> Iterator[Record]:
        wanted = np.asarray(indices)
        if not len(wanted):
            return
        rows = self._dataset(self._split).skip(int(wanted[0]))
        rows = rows.take(int(wanted[-1] - wanted[0]) + 1).as_numpy_iterator()
        chosen = set(wanted.tolist())
        for index, example in enumerate(rows, start=int(wanted[0])):
            if index in chosen:
                image = example["image"]
                if isinstance(image, np.ndarray):  # Stored as a tensor, not a file.
                    image = images.encode_png(image)
                label = int(self.labels[index])
                yield Record(f"{self._split}/{index:09d}", image, label)
