"""Finds what a stage was made from: where its manifest says, or in its neighbourhood.

The neighbourhood is what `iterate`, and the stages by hand, lay out around a model.
What is found is tied to the stage by a digest, or said not to be.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable

import tensorflow as tf

from data import files, json_form
from data.errors import InputError
from data.json_form import optional
from data.records import RecordSet
from noisy_student.models import model_files
from noisy_student.stages import layout
from noisy_student.stages.manifest import MANIFEST, stored_manifest
from noisy_student.stages.parents import resolved
from noisy_student.training import best_model


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """An input of a stage, as it is now.

    Attributes:
        manifest: Its own, as `manifest_of` gives it.
        matches: Whether it is still what the stage was made from, by its digest.
    """

    manifest: dict
    matches: bool

    @property
    def directory(self) -> str:
        return self.manifest["directory"]


# What lineage and provenance read of finished stages.
_FORMS = {
    "train": {
        "identity": {
            "labeled_data": str,
            "pseudo_labeled_data": optional(str),
            "online_teacher": optional(str),
            "model": dict,
            "training": dict,
            "augmentation": dict,
            "seed": int,
            "initial_weights": optional({"weights_sha256": str}),
        },
        "results": {
            "steps": int,
            "images": {"labeled": int, "pseudo_labeled": optional(int)},
            "weights_sha256": str,
            "best": optional({"step": int, "validation_top_1": float}),
            "skipped_records": optional({"count": int}),
        },
    },
    "label": {
        "identity": {
            "teacher_sha256": optional(str),
            "imported_sha256": optional({str: str}),
            "unlabeled_data": optional(str),
            "calibration": optional({"temperature": float, "validation_data": str}),
        },
        "results": {
            "images": optional(int),
            "mean_confidence": optional(float),
            "accuracy": optional(float),
            "skipped_records": optional({"count": int}),
        },
    },
    "balance": {
        "identity": {"predictions": {str: str}, "unlabeled_data": optional(str)},
        "results": {
            "kept": int,
            "dropped": int,
            "examples": int,
            "accuracy": optional(float),
        },
    },
    "prepare": {
        "identity": {"dataset": str, "seed": int},
        "results": {"images": optional(int)},
    },
    "export": {
        "identity": dict,
        "results": {"weights_sha256": optional(str), "record": optional(dict)},
    },
}


def manifest_of(directory: str) -> dict:
    """The manifest with `directory` added; empty where there is none."""
    path = os.path.join(directory, MANIFEST)
    if not tf.io.gfile.exists(path):
        return {}
    manifest = stored_manifest(path)
    problem = manifest["complete"] and json_form.problem(
        manifest, _FORMS.get(manifest["stage"], {})
    )
    if problem:
        raise InputError(
            f"{path}: expected what a stage {manifest['stage']!r} puts on record; received "
            f"{problem}. Put back a copy, or delete its directory and run the stage again."
        )
    return {**manifest, "directory": directory}


def weights_of(manifest: dict) -> str | None:
    """Digest of the weights that a training or an export put on record."""
    return manifest["results"].get("weights_sha256")


def fingerprint_of(manifest: dict) -> str | None:
    """`RecordSet.fingerprint` of a stage's shards; None where some are gone."""
    names = [
        name
        for name, facts in sorted(manifest["shards"].items())
        if facts["records"] or manifest["stage"] != "balance"
    ]
    paths = tuple(os.path.join(manifest["directory"], name) for name in names)
    if not all(map(tf.io.gfile.exists, paths)):
        return None
    return RecordSet(paths, (), class_names=()).fingerprint()


def digests_of(manifest: dict) -> dict[str, str]:
    """SHA-256 by name of a stage's shards."""
    return {name: facts["sha256"] for name, facts in manifest["shards"].items()}


def balanced(training: dict) -> Ancestor | None:
    """The pseudo-labeled set that a training learned from."""
    wanted = training["identity"].get("pseudo_labeled_data")
    if not wanted or training["identity"].get("online_teacher"):
        return None
    role = "pseudo_labeled_data"
    digests = _fingerprints(training, role, wanted)
    return _find(
        _recorded(training, role),
        stages(above(training["directory"]), "balance"),
        lambda found: found["stage"] == "balance" and fingerprint_of(found) in digests,
    )


def predictions(balancing: dict) -> Ancestor | None:
    """The predictions that were balanced."""
    wanted = balancing["identity"].get("predictions")
    return _find(
        _recorded(balancing, "predictions"),
        stages(above(balancing["directory"]), "label"),
        lambda found: digests_of(found) == wanted,
    )


def model(child: dict, role: str, weights_sha256: str) -> Ancestor | None:
    """A model that a stage was made with.

    Args:
        child: Manifest of the stage.
        role: Of the model among the stage's parents: `teacher`, `online_teacher`,
            `initial_weights` or `model`.
        weights_sha256: Digest of the weights it had.

    Returns:
        Of an export the training behind it, where that is still there.
    """
    generation = above(child["directory"])
    others = os.path.join(above(generation), layout.GENERATIONS)
    found = _find(
        _recorded(child, role, model_record),
        # Neighbours that do not match are other models, not this one changed.
        (
            found
            for found in [*stages(generation, "train"), *stages(others, "train")]
            if weights_of(found) == weights_sha256
        ),
        lambda found: weights_of(found) == weights_sha256,
    )
    if found and found.matches and found.manifest["stage"] == "export":
        behind = model(found.manifest, "model", weights_sha256)
        return behind if behind and behind.matches else found
    return found


def prepared(child: dict, role: str, fingerprint: str) -> Ancestor | None:
    """The prepared set, with a manifest of its own, that a stage read as `role`."""
    found = _recorded(child, role)
    if found.get("stage") != "prepare":
        return None
    digests = _fingerprints(child, role, fingerprint)
    return Ancestor(found, fingerprint_of(found) in digests)


def model_record(directory: str) -> dict:
    """The manifest of a model's directory, or as much of one as `model.json` gives."""
    found = manifest_of(directory)
    if found.get("stage") in ("train", "export"):
        return found
    if not model_files.exists(directory):
        return {}
    info = model_files.load_info(directory)
    return {
        "stage": "model",
        "directory": directory,
        "complete": True,
        "identity": {},
        "shards": {},
        "results": {"weights_sha256": info.weights_sha256, **_best(directory)},
    }


def training_of_best(record: dict) -> dict:
    """The manifest of the training that kept this model as its best; or empty."""
    return manifest_of(above(record["directory"])) if "best" in record["results"] else {}


def stages(parent: str, stage: str) -> list[dict]:
    """Manifests of the finished stages in the directories right below `parent`."""
    paths = sorted(tf.io.gfile.glob(os.path.join(parent, "*", MANIFEST)))
    manifests = [manifest_of(os.path.dirname(path)) for path in paths]
    return [each for each in manifests if each["stage"] == stage and each["complete"]]


def name_of(model: str) -> str:
    """`generation_<g>/<role>` in a run's `layout`."""
    return "/".join(model.rstrip("/").split("/")[-2:])


def above(directory: str) -> str:
    return os.path.dirname(directory.rstrip("/"))


def _best(directory: str) -> dict:
    """`best`, its step and accuracy, if the training around keeps it as that."""
    path = os.path.join(directory, best_model.RECORD)
    if not tf.io.gfile.exists(path):
        return {}
    kept = manifest_of(above(directory)).get("results", {}).get("best")
    return {"best": kept} if kept == files.read_json(path) else {}


def _fingerprints(child: dict, role: str, fingerprint: str) -> set[str]:
    """Those that the shards of an input may have.

    Where records were skipped, which ones is part of the fingerprint in the identity;
    the parent has that of the whole files.
    """
    skipped = (child["results"].get("skipped_records") or {}).get("count")
    parent = (child.get("parents") or {}).get(role)
    return {fingerprint, parent["digest"]} if skipped and parent else {fingerprint}


def _recorded(child: dict, role: str, read: Callable = manifest_of) -> dict:
    """What lies where the child's manifest says; empty where it says or finds nothing."""
    parent = (child.get("parents") or {}).get(role)
    return read(resolved(parent["directory"], child["directory"])) if parent else {}


def _find(
    recorded: dict, neighbours: Iterable[dict], matches: Callable[[dict], bool]
) -> Ancestor | None:
    """The recorded one or a neighbour that matches, or else the only candidate."""
    candidates = [each for each in (recorded, *neighbours) if each]
    for each in candidates:
        if matches(each):
            return Ancestor(each, True)
    if recorded or len(candidates) == 1:
        return Ancestor(candidates[0], False)
    return None
