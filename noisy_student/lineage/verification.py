"""What is not as a manifest says: one `Mismatch` for each difference, or an empty list."""

import dataclasses
import os
import zipfile

import tensorflow as tf

from data import files
from data.errors import InputError
from noisy_student.evaluation.evaluation import METRICS, read_metrics
from noisy_student.labeling.teacher_calibration import CALIBRATION, read_calibration
from noisy_student.lineage import ancestors
from noisy_student.lineage.ancestors import Ancestor
from noisy_student.models import model_files
from noisy_student.stages.manifest import MANIFEST

_MISSING = "nothing there"
_UNREADABLE = (InputError, OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """One difference.

    Attributes:
        file: Where it was found.
        what: That differs.
        expected: As it was when the later stage was made.
        found: As it is.
    """

    file: str
    what: str
    expected: str | int | float | None
    found: str | int | float | None

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: expected {self.expected}; found {self.found}"


def of_shards(manifest: dict, verify_files: bool) -> list[Mismatch]:
    """Files of a finished stage; their content only where `verify_files`."""
    directory = manifest["directory"]
    if not manifest["complete"]:
        path = os.path.join(directory, MANIFEST)
        return [Mismatch(path, "stage", "finished", "not finished")]
    found = []
    for name, facts in sorted(manifest["shards"].items()):
        path = os.path.join(directory, name)
        if not tf.io.gfile.exists(path):
            found.append(Mismatch(path, "file", f"{facts['bytes']:,} bytes", _MISSING))
            continue
        found += _compared(path, "bytes", facts["bytes"], tf.io.gfile.stat(path).length)
        if verify_files:
            found += _compared(path, "SHA-256", facts["sha256"], files.sha256(path))
    return found


def of_model(manifest: dict) -> list[Mismatch]:
    """Weights, `model.json`, manifest and measured accuracies tell of one model."""
    directory = manifest["directory"]
    if not model_files.exists(directory):
        names = f"{model_files.MODEL} and {model_files.INFO}"
        return [Mismatch(directory, "model", names, _MISSING)]
    on_record = model_files.load_info(directory).weights_sha256
    info, network, metrics = (
        os.path.join(directory, name)
        for name in (model_files.INFO, model_files.MODEL, METRICS)
    )
    what = "weights (SHA-256)"
    found = _compared(info, what, ancestors.weights_of(manifest), on_record)
    try:
        stored = model_files.stored_digest(directory)
    except _UNREADABLE as error:
        stored = f"a file that cannot be read: {' '.join(str(error).split())[:200]}"
    found += _compared(network, what, on_record, stored)
    if tf.io.gfile.exists(metrics):
        measured = read_metrics(metrics)["identity"]["weights_sha256"]
        found += _compared(metrics, f"{what} of the model measured", on_record, measured)
    return found


def of_weights(found: Ancestor, role: str, child: dict, weights: str) -> list[Mismatch]:
    """The model at the place of the one that a stage was made with."""
    path = os.path.join(found.directory, model_files.INFO)
    what = f"weights (SHA-256) of the {role} of {child['directory']}"
    return _compared(path, what, weights, ancestors.weights_of(found.manifest))


def of_fingerprint(found: Ancestor, fingerprint: str) -> list[Mismatch]:
    """Shards at the place of those that a stage read."""
    now = ancestors.fingerprint_of(found.manifest) or _MISSING
    return _compared(found.directory, "fingerprint of the shards", fingerprint, now)


def of_digests(found: Ancestor, wanted: dict[str, str]) -> list[Mismatch]:
    """Predictions at the place of those that were balanced."""
    now = ancestors.digests_of(found.manifest)
    path, what = os.path.join(found.directory, MANIFEST), "SHA-256 of {} as balanced"
    return [
        mismatch
        for name in sorted({*wanted, *now})
        for mismatch in _compared(
            path, what.format(name), wanted.get(name), now.get(name, _MISSING)
        )
    ]


def of_same_images(labeling: dict, balancing: dict) -> list[Mismatch]:
    """The images that were labeled are those that were balanced."""
    path = os.path.join(balancing["directory"], MANIFEST)
    key = "unlabeled_data"
    labeled, balanced = (each["identity"].get(key) for each in (labeling, balancing))
    return _compared(path, f"{key} (fingerprint) as labeled", labeled, balanced)


def of_calibration(labeling: dict) -> list[Mismatch]:
    """The fitted temperature is that of the labels."""
    wanted = labeling["identity"].get("calibration")
    if not wanted:
        return []
    path = os.path.join(labeling["directory"], CALIBRATION)
    record = read_calibration(labeling["directory"])
    if record is None:
        return [Mismatch(path, "file", "the fitted temperature", _MISSING)]
    found = {**record["identity"], "temperature": record["temperature"]}
    teacher = {"teacher_sha256": labeling["identity"]["teacher_sha256"]}
    return [
        mismatch
        for key, value in {**teacher, **wanted}.items()
        for mismatch in _compared(path, key, value, found[key])
    ]


def _compared(
    file: str, what: str, expected: str | None, found: str | None
) -> list[Mismatch]:
    return [] if expected == found else [Mismatch(file, what, expected, found)]
