"""Where images come from: one string names a data set, in every script.

* `digits[:pool|validation|test]`: scikit-learn's 1,797 hand-written digits;
* `folder:DIR`: one folder a class; unlabeled images in any arrangement;
* `idx:DIR[:train|test]`: MNIST-format files;
* `tfds:NAME[:SPLIT]`: TensorFlow Datasets;
* `tfrecord:GLOB`: shards in the features of `data.records`, or a folder of them;
  a `class_names.json` beside them names the labels.
"""

import gzip
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data import files, images, records
from data.errors import InputError
from data.records import Record

CLASS_NAMES = "class_names.json"  # Beside TFRecord files: a list, by label.
FORMS = "digits[:SPLIT], folder:DIR, idx:DIR[:train|test], tfds:NAME[:SPLIT], tfrecord:GLOB"


class Source:
    """Images with ids that can be read by index.

    Attributes:
        class_names: Names by label, or None where nothing is labeled.
        labels: int64 `[N]`, -1 where unknown.
        sequential: Reading in order is much cheaper than at random.
    """

    class_names: tuple[str, ...] | None
    labels: np.ndarray
    sequential = False

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int]) -> Iterator[Record]:
        """Yields the records at `indices` (ascending if `sequential`).

        The image bytes are as found: `data.images` has yet to check them.
        """
        raise NotImplementedError


def open_source(
    dataset: str,
    *,
    class_names: Sequence[str] | None = None,
    label_offset: int = 0,
    labeled: bool = True,
) -> Source:
    """Opens the data set that a string like `folder:photos` names.

    Args:
        dataset: See the module's docstring.
        class_names: The labels' names, where they are already settled by
            another set; a folder of test images must then have the same ones.
        label_offset: Subtracted from labels in TFRecord files.
        labeled: Whether labels are needed. Folders need not be class folders
            otherwise.

    Raises:
        InputError: Unknown form, nothing there, no images, other classes.
    """
    kind, _, rest = dataset.partition(":")
    if kind == "digits":
        return _digits(rest or "pool")
    if not rest or kind not in ("folder", "idx", "tfds", "tfrecord"):
        raise InputError(
            f"Unknown data set: expected one of {FORMS}; received {dataset!r}."
        )
    if kind == "folder":
        return FolderSource(rest, class_names, labeled)
    if kind == "idx":
        return _idx(rest)
    if kind == "tfds":
        return TfdsSource(rest)
    return TFRecordSource(rest, label_offset, class_names)


class ArraySource(Source):
    """uint8 images in memory, stored as PNG."""

    def __init__(self, pixels, labels, class_names, prefix):
        self.class_names = tuple(class_names)
        self.labels = np.asarray(labels, np.int64)
        self._pixels, self._prefix = pixels, prefix

    def read(self, indices):
        for index in indices:
            yield Record(
                id=f"{self._prefix}/{index:06d}",
                image=images.encode_png(self._pixels[index]),
                label=int(self.labels[index]),
            )


def _digits(split: str) -> ArraySource:
    """8x8 grey images; 1,000 pool, 297 validation, 500 test, fixed for ever."""
    import sklearn.datasets

    splits = {
        "pool": slice(0, 1000),
        "validation": slice(1000, 1297),
        "test": slice(1297, 1797),
    }
    if split not in splits:
        raise InputError(
            f"Unknown split of digits: expected one of {', '.join(splits)}; "
            f"received {split!r}."
        )
    digits = sklearn.datasets.load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    chosen = np.random.default_rng(1797).permutation(len(pixels))[splits[split]]
    names = [str(digit) for digit in range(10)]
    return ArraySource(pixels[chosen], digits.target[chosen], names, f"digits/{split}")


def _idx(rest: str) -> ArraySource:
    """`train-images-idx3-ubyte[.gz]` and its siblings (`t10k-…` for test)."""
    directory, split = rest, "train"
    match = re.fullmatch(r"(.+):(train|test)", rest)
    if match:
        directory, split = match.groups()
    stem = {"train": "train", "test": "t10k"}[split]
    pixels = _read_idx(directory, f"{stem}-images", 3)
    labels = _read_idx(directory, f"{stem}-labels", 1)
    if len(pixels) != len(labels):
        raise InputError(
            f"idx:{rest}: expected as many labels as images; received {len(pixels)} "
            f"images and {len(labels)} labels."
        )
    names = [str(label) for label in range(int(labels.max()) + 1)]
    return ArraySource(pixels, labels, names, f"{split}")


def _read_idx(directory: str, stem: str, rank: int) -> np.ndarray:
    """An IDX file of unsigned bytes: magic, sizes (big-endian), values."""
    names = [f"{stem}{dot}idx{rank}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    paths = [os.path.join(directory, name) for name in names]
    path = next((path for path in paths if tf.io.gfile.exists(path)), None)
    if path is None:
        raise InputError(
            f"idx:{directory}: expected a file {names[0]} or {names[1]}; found none."
        )
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    try:
        content = gzip.decompress(content) if path.endswith(".gz") else content
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: damaged gzip file ({error}).") from error
    header = 4 + 4 * rank
    if len(content) < header or content[:4] != bytes([0, 0, 8, rank]):
        raise InputError(
            f"{path}: expected an IDX file of unsigned bytes with {rank} dimensions; "
            f"its first bytes are {content[:4].hex()}."
        )
    shape = np.frombuffer(content[4:header], ">u4").astype(int)
    values = np.frombuffer(content[header:], np.uint8)
    if values.size != shape.prod():
        raise InputError(
            f"{path}: expected {shape.prod()} values from its header; received "
            f"{values.size}. The file is truncated or damaged."
        )
    return values.reshape(shape)


class FolderSource(Source):
    """Image files below a directory. The id is the path below it."""

    def __init__(self, directory, class_names, labeled):
        self._directory = directory.rstrip("/")
        if not tf.io.gfile.isdir(directory):
            raise InputError(
                f"folder:{directory}: expected a directory; there is none. "
                "Give its path from here, or a full one."
            )
        self._paths = _image_paths(self._directory)
        if not self._paths:
            raise InputError(
                f"folder:{directory}: expected image files "
                f"({', '.join(images.EXTENSIONS)}) below it; found none."
            )
        found = self._classes_of_folders(labeled, class_names)
        self.class_names = tuple(class_names) if class_names else found
        numbers = {name: i for i, name in enumerate(self.class_names or ())}
        self.labels = np.array(
            [numbers.get(_top_folder(path), -1) if found else -1 for path in self._paths],
            np.int64,
        )

    def _classes_of_folders(self, labeled, class_names):
        """The class folders' names; None if the arrangement is not by class."""
        folders = {_top_folder(path) for path in self._paths}
        if not labeled:
            by_class = class_names and folders <= set(class_names)
            return tuple(sorted(folders)) if by_class else None
        loose = [path for path in self._paths if "/" not in path]
        if loose:
            raise InputError(
                f"folder:{self._directory}: expected one folder a class with its images "
                f"inside; received {len(loose)} images outside of any, such as "
                f"{loose[0]}. Move them into class folders."
            )
        entries = tf.io.gfile.listdir(self._directory)
        empty = sorted(
            name.rstrip("/")
            for name in entries
            if not name.startswith(".")
            and name.rstrip("/") not in folders
            and tf.io.gfile.isdir(os.path.join(self._directory, name))
        )
        if empty:
            raise InputError(
                f"folder:{self._directory}: expected images in every class folder; none in "
                f"{', '.join(empty)}. Add images or remove the folder."
            )
        _check_classes(f"folder:{self._directory}", folders, class_names)
        return tuple(sorted(folders))

    def read(self, indices):
        for index in indices:
            path = os.path.join(self._directory, self._paths[index])
            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
            yield Record(self._paths[index], content, int(self.labels[index]))


def _check_classes(dataset, found, expected) -> None:
    if expected is None or set(found) <= set(expected):
        return
    unknown = sorted(set(found) - set(expected))
    absent = sorted(set(expected) - set(found))
    raise InputError(
        f"{dataset}: expected the classes of the labeled data ({', '.join(expected)}); "
        f"received also {', '.join(unknown)}"
        + (f", and not {', '.join(absent)}" if absent else "")
        + ". Rename the folders so that they match."
    )


def _image_paths(directory: str) -> list[str]:
    paths = []
    for root, folders, names in tf.io.gfile.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = root[len(directory) :].strip("/")
        if any(part.startswith(".") for part in below.split("/")):
            continue
        paths += [
            f"{below}/{name}" if below else name
            for name in names
            if name.lower().endswith(images.EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(paths)


def _top_folder(path: str) -> str:
    return path.split("/", 1)[0] if "/" in path else ""


class TfdsSource(Source):
    """A TensorFlow Datasets split with the features `image` and `label`."""

    sequential = True

    def __init__(self, name_and_split):
        import tensorflow_datasets as tfds

        match = re.fullmatch(
            r"([^:\[]+(?::[\d*]+\.[\d*]+\.[\d*]+)?)(?::(.+))?", name_and_split
        )
        name, self._split = match.groups() if match else (name_and_split, None)
        self._split = self._split or "train"
        try:
            self._builder = tfds.builder(name)
        except tfds.core.registered.DatasetNotFoundError as error:
            raise InputError(f"tfds:{name}: {error}") from error
        features = self._builder.info.features
        if "image" not in features:
            raise InputError(
                f"tfds:{name}: expected a feature `image`; received {', '.join(features)}."
            )
        known = "label" in features
        self.class_names = tuple(features["label"].names) if known else None
        self._builder.download_and_prepare()
        count = self._builder.info.splits[self._split].num_examples
        self.labels = np.full(count, -1, np.int64)
        if known:
            labels = self._dataset(self._split).map(lambda example: example["label"])
            self.labels = np.fromiter(labels.as_numpy_iterator(), np.int64)

    def _dataset(self, split):
        import tensorflow_datasets as tfds

        return self._builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )

    def read(self, indices):
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


class TFRecordSource(Source):
    """Shards in the features of `data.records`, read where they lie."""

    sequential = True

    def __init__(self, pattern, label_offset, class_names):
        self.files = records.glob_shards(pattern)
        if not self.files:
            raise InputError(
                f"tfrecord:{pattern}: expected at least one file to match; found none."
            )
        absent = records.missing_shards(self.files)
        if absent:
            raise InputError(
                f"tfrecord:{pattern}: {len(absent)} shards of the numbering are missing, "
                f"the first is {absent[0]}."
            )
        self._label_offset = label_offset
        stored = np.array(
            [
                records.example_label(example)
                for path in self.files
                for example in records.read_shard(path)
            ],
            np.int64,
        )
        known = stored >= 0
        if (stored[known] < label_offset).any():
            raise InputError(
                f"tfrecord:{pattern}: `label_offset` {label_offset} makes labels negative; "
                f"the smallest stored label is {stored[known].min()}."
            )
        self.labels = np.where(known, stored - label_offset, -1)
        if class_names is None:
            class_names = self._stored_class_names()
        if class_names is None and known.any():
            class_names = [str(label) for label in range(int(self.labels.max()) + 1)]
        self.class_names = tuple(class_names) if class_names else None

    def _stored_class_names(self):
        path = os.path.join(os.path.dirname(self.files[0]), CLASS_NAMES)
        return files.read_json(path) if tf.io.gfile.exists(path) else None

    def record_set(self) -> records.RecordSet:
        """The files as they lie."""
        return records.RecordSet(
            self.files, len(self), self.class_names or (), self._label_offset
        )

    def read(self, indices):
        wanted = set(np.asarray(indices).tolist())
        index = 0
        for path in self.files:
            for position, example in enumerate(records.read_shard(path)):
                if index in wanted:
                    yield Record(
                        records.example_id(example, path, position),
                        example.features.feature[records.IMAGE].bytes_list.value[0],
                        int(self.labels[index]),
                    )
                index += 1
