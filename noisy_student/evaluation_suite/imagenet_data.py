"""ImageNet and its variants: from TensorFlow Datasets, or the folders of their authors."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from data import encoded_images, sources
from data.encoded_images import EncodedImages
from data.errors import InputError
from data.sources import FolderSource, Source
from data.sources.datasets import TfdsSource
from noisy_student.evaluation_suite.benchmark import BenchmarkData
from noisy_student.evaluation_suite.imagenet_classes import (
    NUM_CLASSES,
    validation_labels,
    wordnet_ids,
)

VALIDATION_IMAGES = 50_000
IMAGES = {
    "imagenet": VALIDATION_IMAGES,
    "imagenet_real": VALIDATION_IMAGES,
    "imagenet_sketch": 50_889,
    "imagenet_a": 7_500,
    "imagenet_r": 30_000,
}
V2_IMAGES = 10_000  # Of each of the three.
# By part: name in TensorFlow Datasets, and beginning of the authors' folder.
V2_VARIANTS = {
    "matched_frequency": ("matched-frequency", "imagenetv2-matched-frequency"),
    "threshold_0.7": ("threshold-0.7", "imagenetv2-threshold0.7"),
    "top_images": ("topimages", "imagenetv2-top-images"),
}
_NAMED = 5  # Missing parts that a message names.


@dataclasses.dataclass(frozen=True)
class Part:
    """Images of a part of a benchmark: counted before, listed again when they are read."""

    count: int
    fingerprint: str
    open: Callable[[], EncodedImages]


def part_of(dataset: str, open_part: Callable[[], Source]) -> Part:
    """Lists a part's images once; what is kept is how many, and their fingerprint."""

    def opened():
        return encoded_images.of_source(dataset, open_part())

    found = opened()
    return Part(found.count, found.fingerprint, opened)


def open_labeled(name: str, dataset: str) -> tuple[Source, Part]:
    """A benchmark of one part: `folder:DIR` with a folder a class, or `tfds:NAME:SPLIT`.

    Args:
        name: `imagenet`, `imagenet_sketch`, `imagenet_a` or `imagenet_r`.
        dataset: Of `imagenet` also a folder with the validation images as they are
            published, `ILSVRC2012_val_00000001.JPEG`, without class folders.
    """
    source = open_imagenet(name, dataset, wordnet_ids())
    return source, _opened(dataset, source)


def open_v2(dataset: str) -> dict[str, Part]:
    """The variants of ImageNetV2 that are there, by part.

    Args:
        dataset: `tfds:imagenet_v2`, or `folder:DIR` with `imagenetv2-top-images…` and
            its siblings, whose class folders are `0` to `999`.
    """
    kind, _, rest = dataset.partition(":")
    labels = [str(label) for label in range(NUM_CLASSES)]
    parts = {}
    for part, (name, folder) in V2_VARIANTS.items():
        if kind == "tfds":
            found = f"tfds:{rest}/{name}:test"
            expected: Sequence[str] = wordnet_ids()
        else:
            matches = sorted(tf.io.gfile.glob(os.path.join(rest, f"{folder}*")))
            matches = [path for path in matches if tf.io.gfile.isdir(path)]
            if not matches:
                continue
            found, expected = f"folder:{matches[0]}", labels
        parts[part] = _opened(found, open_imagenet("imagenet_v2", found, expected))
    return parts


def open_real(dataset: str, real_labels: str) -> tuple[Part, list[np.ndarray]]:
    """The validation images, and the classes that are right for each (Beyer et al. 2020).

    Args:
        dataset: `tfds:imagenet2012_real`, or `folder:DIR` of the validation images.
        real_labels: With a folder: the authors' `real.json`.

    Raises:
        InputError: There is no such file, or it is not of the validation images.
    """
    if dataset.startswith("tfds:"):
        source = sources.open_source(dataset)
        assert isinstance(source, TfdsSource)
        return _opened(dataset, source), source.read_feature("real_label")
    folder, part = open_labeled("imagenet", dataset)
    if not real_labels:
        raise InputError(
            "`real_labels`: expected the file real.json of the authors of ReaL "
            "(github.com/google-research/reassessed-imagenet) with images in a folder; "
            "received none."
        )
    try:
        with tf.io.gfile.GFile(real_labels) as file:
            found = json.load(file)
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(f"`real_labels` {real_labels}: expected JSON; {error}") from error
    if not isinstance(found, list) or len(found) != VALIDATION_IMAGES:
        raise InputError(
            f"`real_labels` {real_labels}: expected a list of {VALIDATION_IMAGES:,} lists "
            "of labels, in the order of the validation images' names."
        )
    assert isinstance(folder, FolderSource)
    names = [name.rsplit("/", 1)[-1] for name in folder.file_names]
    other = next((name for name in names if name not in validation_labels()), None)
    if other:
        raise InputError(
            f"`imagenet_real`: expected the validation images by their names, "
            f"ILSVRC2012_val_00000001.JPEG and so on; received {other}."
        )
    numbers = [int(name.removesuffix(".JPEG").rsplit("_", 1)[-1]) for name in names]
    return part, [np.array(found[number - 1], np.int64) for number in numbers]


def _opened(dataset: str, source: Source) -> Part:
    """A part small enough for its list of images to stay in memory."""
    return part_of(dataset, lambda: source)


def open_imagenet(name: str, dataset: str, class_names: Sequence[str]) -> Source:
    """The images with labels 0 to 999.

    Args:
        name: Of the benchmark, for messages.
        dataset: `folder:DIR` or `tfds:NAME[:SPLIT]`.
        class_names: Names of class folders by label; not all need be there.

    Raises:
        InputError: Nothing is there, or it has other classes.
    """
    kind, _, rest = dataset.partition(":")
    if kind == "tfds" and rest:
        source: Source = TfdsSource(rest)
        if source.class_names is None or len(source.class_names) != NUM_CLASSES:
            raise InputError(
                f"`{name}`: expected a data set with ImageNet's {NUM_CLASSES:,} labels; "
                f"received {dataset}."
            )
        return source
    if kind == "folder" and rest:
        if name == "imagenet" and _is_flat(rest):
            return _ValidationFolder(rest)
        return FolderSource(rest, class_names, labeled=True)
    raise InputError(
        f"`{name}`: expected folder:DIR or tfds:NAME[:SPLIT]; received {dataset!r}."
    )


def checked(
    name: str, dataset: str, fingerprint: str, missing: Sequence[str], allow: bool
) -> BenchmarkData:
    """What the benchmark is run on; refuses a part of it, unless that is allowed.

    Raises:
        InputError: Something is missing and `allow` is false.
    """
    if missing and not allow:
        more = len(missing) - _NAMED
        raise InputError(
            f"`{name}`: expected the whole benchmark in {dataset}; missing: "
            f"{'; '.join(missing[:_NAMED])}"
            + (f"; and {more} more" if more > 0 else "")
            # No number of a part is the benchmark's.
            + ". Get the rest, or pass --allow_partial for a result that is marked as "
            "partial."
        )
    return BenchmarkData(dataset, fingerprint, tuple(missing))


def too_few(count: int, expected: int, what: str = "images") -> list[str]:
    """What to say where not all images are there: nothing where they are."""
    return [] if count == expected else [f"{what}: {count:,} of {expected:,}"]


def _is_flat(directory: str) -> bool:
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    return any(name.startswith("ILSVRC2012_val_") for name in names)


class _ValidationFolder(FolderSource):
    """The validation images without class folders, as they are published."""

    def __init__(self, directory: str):
        super().__init__(directory, None, labeled=False)
        known, names = validation_labels(), self.file_names
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"folder:{directory}: expected ImageNet's validation images, "
                f"ILSVRC2012_val_00000001.JPEG to …{VALIDATION_IMAGES:08d}.JPEG; received "
                f"also {unknown[0]}. Move it elsewhere."
            )
        self.labels = np.array([known[name] for name in names], np.int64)
        self.class_names = wordnet_ids()
