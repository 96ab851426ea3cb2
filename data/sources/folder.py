"""Folders of image files."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from data import images
from data.errors import InputError
from data.records import Record
from data.sources.base import Source

_MOST_NAMES = 20  # Of classes, in a message.


class FolderSource(Source):
    """Image files below a directory. The id is the path below it."""

    def __init__(self, directory: str, class_names: Sequence[str] | None, labeled: bool):
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

    @property
    def file_names(self) -> tuple[str, ...]:
        """Paths below the directory: the ids, in order."""
        return tuple(self._paths)

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

    def digest(self, indices: Sequence[int] | np.ndarray) -> str:
        names = "\0".join(self._paths[index] for index in np.sort(indices))
        whole = super().digest(indices) + names
        return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def read(self, indices: Sequence[int] | np.ndarray) -> Iterator[Record]:
        for index in indices:
            name, label = self._paths[index], int(self.labels[index])
            try:
                with tf.io.gfile.GFile(os.path.join(self._directory, name), "rb") as file:
                    record = Record(name, file.read(), label)
            except tf.errors.OpError as error:  # A dangling link, no permission.
                record = Record(name, b"", label, error.message)
            yield record

    def encoded(self) -> tf.data.Dataset:
        rows = {"id": list(self._paths), "label": self.labels.astype(np.int32)}
        directory = tf.constant(self._directory)

        def read(row):
            path = tf.strings.join([directory, row["id"]], "/")
            return {**row, "encoded": tf.io.read_file(path)}

        dataset = tf.data.Dataset.from_tensor_slices(rows)
        return dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE)


def _check_classes(
    dataset: str, found: Iterable[str], expected: Sequence[str] | None
) -> None:
    if expected is None or set(found) <= set(expected):
        return
    unknown = sorted(set(found) - set(expected))
    absent = sorted(set(expected) - set(found))
    raise InputError(
        f"{dataset}: expected the classes of the labeled data ({_listed(expected)}); "
        f"received also {_listed(unknown)}"
        + (f", and not {_listed(absent)}" if absent else "")
        + ". Rename the folders so that they match."
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _walked(directory: str) -> Iterator[tuple[str, list[str], list[str]]]:
    try:
        yield from tf.io.gfile.walk(directory)
    except UnicodeDecodeError as error:  # TensorFlow's paths are UTF-8.
        raise InputError(
            f"folder:{directory}: expected names of files and folders in UTF-8; received "
            f"one that begins with {error.object[:80]!r}. Rename it; Debian's convmv does "
            "so for whole trees."
        ) from error


def _image_paths(directory: str) -> list[str]:
    paths = []
    for root, _, names in _walked(directory):
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
