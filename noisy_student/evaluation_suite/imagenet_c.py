"""ImageNet-C: the authors' JPEG files, or corruptions computed anew by TFDS.

Only the files of the authors (Hendrycks & Dietterich, arXiv 1903.12261), at 224 pixels
or at 299, give numbers that can stand beside published ones. TensorFlow Datasets makes
others from the validation images, at 224 alone: `imagenet_c_recomputed`.
"""

import functools
import hashlib
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from data.errors import InputError
from noisy_student.evaluation import alexnet
from noisy_student.evaluation.corruption_error import SEVERITIES, corruption_errors
from noisy_student.evaluation_suite import outcomes, plots
from noisy_student.evaluation_suite.benchmark import BenchmarkData, Finished
from noisy_student.evaluation_suite.imagenet_classes import wordnet_ids
from noisy_student.evaluation_suite.imagenet_data import (
    VALIDATION_IMAGES,
    Part,
    checked,
    open_imagenet,
    part_of,
    too_few,
)
from noisy_student.evaluation_suite.labeled import LabeledBenchmark, is_right
from noisy_student.evaluation_suite.outcomes import Table

AUTHORS, RECOMPUTED = "imagenet_c", "imagenet_c_recomputed"


class ImageNetC(LabeledBenchmark):
    """Errors under corruptions; parts are `gaussian_noise/3`.

    Args:
        name: `AUTHORS` or `RECOMPUTED`.
        data: What it is run on.
        sets: By part.
    """

    def __init__(self, name: str, data: BenchmarkData, sets: Mapping[str, Part]):
        super().__init__(name, data, sets, whole_image=True)

    def scores(self, tables: Mapping[str, Table]) -> Table:
        """Errors, 0 to 1, by corruption; `error`, their mean over the 15; `mce`."""
        by_corruption: dict[str, list[Table]] = {}
        for part, table in tables.items():
            by_corruption.setdefault(part.split("/")[0], []).append(table)
        rows = {name: outcomes.joined(found) for name, found in by_corruption.items()}
        scores = outcomes.by_id(
            {name: (row["id"], ~is_right(row)) for name, row in rows.items()}
        )
        counted = [name for name in alexnet.ERRORS if name in scores]
        if counted:
            scores["error"] = np.mean([scores[name] for name in counted], axis=0)
        if not self.data.missing:
            relative = [scores[name] / alexnet.ERRORS[name] for name in counted]
            scores["mce"] = 100 * np.mean(relative, axis=0)
        return scores

    def results(self, done: Finished) -> dict:
        """`errors` by corruption and severity, and of the whole what is published."""
        found = _errors(done.tables)
        images = sum(len(table["id"]) for table in done.tables.values())
        result: dict = {"errors": found, "images": images}
        if self.data.missing:
            return result  # The mean of some of them is no mCE.
        whole = {
            name: [e for e in errors if e is not None] for name, errors in found.items()
        }
        return {**corruption_errors(whole, done.clean_error), **result}

    def draw(self, done: Finished, path: str) -> None:
        plots.errors_by_corruption({"": _errors(done.tables)}, self.name, path)


def open_imagenet_c(name: str, dataset: str, allow_partial: bool) -> ImageNetC:
    """The benchmark, with every corruption and severity, and the extra ones if any.

    Args:
        name: `AUTHORS` or `RECOMPUTED`.
        dataset: Of the authors `folder:DIR` with `gaussian_noise/3/n01440764/*.JPEG`;
            else `tfds:imagenet2012_corrupted`.
        allow_partial: Take what is there, and mark the result.

    Raises:
        InputError: A corruption or severity is missing, or has too few images.
    """
    kind, _, rest = dataset.partition(":")
    expected = "folder" if name == AUTHORS else "tfds"
    if kind != expected or not rest:
        hint = (
            f" What TensorFlow Datasets computes is another benchmark: --on={RECOMPUTED}."
            if name == AUTHORS
            else ""
        )
        raise InputError(f"`{name}`: expected {expected}:…; received {dataset!r}.{hint}")
    parts, missing = {}, []
    for corruption in alexnet.ERRORS | alexnet.EXTRA_ERRORS:
        extra = corruption in alexnet.EXTRA_ERRORS
        if extra and not _extra_is_there(name, rest, corruption):
            continue
        for severity in SEVERITIES:
            part = f"{corruption}/{severity}"
            found = f"folder:{os.path.join(rest, part)}"
            if name == RECOMPUTED:
                found = f"tfds:{rest}/{corruption}_{severity}:validation"
            elif not tf.io.gfile.isdir(os.path.join(rest, part)):
                missing.append(part)
                continue
            opened = functools.partial(open_imagenet, name, found, wordnet_ids())
            parts[part] = part_of(found, opened)
            missing += too_few(parts[part].count, VALIDATION_IMAGES, f"images of {part}")
    if not parts:
        raise InputError(
            f"`{name}`: expected folders such as gaussian_noise/3 in {rest}; found none."
        )
    digest = hashlib.sha256(
        "".join(f"{part}:{found.fingerprint};" for part, found in parts.items()).encode()
    )
    data = checked(name, dataset, digest.hexdigest()[:16], missing, allow_partial)
    return ImageNetC(name, data, parts)


def _errors(tables: Mapping[str, Table]) -> dict[str, list[float | None]]:
    """Top-1 errors of severities 1 to 5 by corruption; None where one is missing."""
    errors = {part: float(np.mean(~is_right(table))) for part, table in tables.items()}
    return {
        name: [errors.get(f"{name}/{severity}") for severity in SEVERITIES]
        for name in alexnet.ERRORS | alexnet.EXTRA_ERRORS
        if any(f"{name}/{severity}" in errors for severity in SEVERITIES)
    }


def _extra_is_there(name: str, directory: str, corruption: str) -> bool:
    """Of the authors' files; those that TFDS makes are not run."""
    return name == AUTHORS and tf.io.gfile.isdir(os.path.join(directory, corruption))
