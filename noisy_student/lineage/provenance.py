"""What is on record about a trained model: data, settings, metrics, ancestors.

Looks into the model's own directory and, with `ancestors`, into those it was made
from. These count only where a digest ties them to the model; what no record says is
left out.
"""

import dataclasses
import os

import tensorflow as tf

from data import json_form
from noisy_student import recipes
from noisy_student.evaluation.evaluation import METRICS, read_metrics
from noisy_student.lineage import ancestors
from noisy_student.lineage.ancestors import above, name_of
from noisy_student.models.model_files import ModelInfo
from noisy_student.stages import layout

RECORD = "record"  # Where the manifest of an export keeps it.


def provenance(model: str, info: ModelInfo) -> dict:
    """JSON values; empty for a model without any record, such as a converted one.

    Returns:
        Each key only where it is known.
        `role`: teacher, student or control; `generation`: 0 or more.
        `recipe`: its name, where the run's configuration is exactly that.
        `settings`: `model`, `training` and `augmentation`, each a dict.
        `seed`, `steps`: of the training.
        `initial_weights`: digest of those it started from, where not from random ones.
        `data`: by name of set, `images` and `dataset`.
        `metrics`: by name of set, `images`, `top_1` and `top_5` (0 to 1).
        `lineage`: from the first teacher to this model, each with
        `weights_sha256`, `model` (its directory) and, for students,
        `pseudo_labeled` (examples) and `pseudo_label_accuracy` (0 to 1).
    """
    manifest = ancestors.manifest_of(model)
    if manifest.get("stage") == "export":
        return manifest["results"].get(RECORD, {})
    record: dict = {"metrics": metrics(model, info)}
    of_these_weights = (
        manifest.get("results", {}).get("weights_sha256") == info.weights_sha256
    )
    if manifest.get("stage") == "train" and of_these_weights:
        record |= {**training_facts(model, manifest), "lineage": teachers_of(model)}
    return known(record)


def teachers_of(model: str) -> list[dict]:
    """The chain of teachers that ends with `model`, as far back as it is on record."""
    chain: list[dict] = []
    manifest = ancestors.manifest_of(model)
    while manifest:
        weights = ancestors.weights_of(manifest)
        link = {"model": name_of(manifest["directory"]), "weights_sha256": weights}
        chain.insert(0, link)
        balanced = _matching(ancestors.balanced(manifest))
        if balanced:
            link["pseudo_labeled"] = balanced["results"]["examples"]
            link["pseudo_label_accuracy"] = balanced["results"]["accuracy"]
        teacher, manifest = _teacher(manifest, balanced)
        if teacher and not manifest:
            chain.insert(0, {"weights_sha256": teacher})
    return [known(link) for link in chain]


def _teacher(training: dict, balanced: dict) -> tuple[str | None, dict]:
    """Digest and, where it is still there, record of what labeled for a training."""
    digest = training["identity"].get("online_teacher")
    child, role = training, "online_teacher"
    if balanced:
        child, role = _matching(ancestors.predictions(balanced)), "teacher"
        digest = child and child["identity"].get("teacher_sha256")
    if not digest:
        return None, {}
    return digest, _matching(ancestors.model(child, role, digest))


def training_facts(model: str, manifest: dict) -> dict:
    """What `provenance` says of a training, but for its metrics and lineage."""
    identity = manifest["identity"]
    role, generation = _place(model, bool(identity.get("pseudo_labeled_data")))
    config = _run_config(model, role, identity)
    return {
        "role": role,
        "generation": generation,
        "recipe": _recipe(config),
        "settings": {k: identity[k] for k in ("model", "training", "augmentation")},
        "seed": identity["seed"],
        "initial_weights": (identity.get("initial_weights") or {}).get("weights_sha256"),
        "steps": manifest["results"]["steps"],
        "data": _data(model, manifest, config),
    }


def _place(model: str, has_pseudo_labels: bool) -> tuple[str | None, int | None]:
    """Role and generation, from the name of the directory."""
    found = layout.role_of(name_of(model))
    if not found:
        return "student" if has_pseudo_labels else None, None
    role, generation = found
    return (role, generation) if (role == "student") == has_pseudo_labels else (None, None)


def _run_config(model: str, role: str | None, identity: dict) -> dict:
    """The configuration of the run around the model, if it is the model's own."""
    path = os.path.join(above(above(model)), layout.CONFIG)
    if not role or not tf.io.gfile.exists(path):
        return {}
    config = json_form.read(path, dict, "the configuration of a run")
    prefix = "teacher" if role == "teacher" else "student"
    parts = {"model": prefix, "training": f"{prefix}_training"}
    same = all(config.get(theirs) == identity[own] for own, theirs in parts.items())
    return config if same else {}


def _recipe(config: dict) -> str | None:
    for name in recipes.names() if config else ():
        if dataclasses.asdict(recipes.load(name)) == config:
            return name
    return None


def metrics(model: str, info: ModelInfo) -> dict:
    """By name of set, `images`, `top_1` and `top_5`, of these weights alone."""
    stored = _stored_metrics(model)
    if stored.get("identity", {}).get("weights_sha256") != info.weights_sha256:
        return {}
    keys = ("images", "top_1", "top_5")
    return {
        name: {key: values[key] for key in keys}
        for name, values in stored["metrics"].items()
    }


def _stored_metrics(model: str) -> dict:
    path = os.path.join(model, METRICS)
    return read_metrics(path) if tf.io.gfile.exists(path) else {}


def _data(model: str, manifest: dict, config: dict) -> dict:
    """Sets by name, with their number of images and the data sets they are from."""
    identity = manifest["identity"]
    counts = manifest["results"].get("images", {})
    found = {"labeled": (identity["labeled_data"], counts.get("labeled"))}
    if balanced := _matching(ancestors.balanced(manifest)):
        unlabeled = balanced["results"]["unlabeled"]
        found["unlabeled"] = (balanced["identity"]["unlabeled_data"], unlabeled)
    stored = _stored_metrics(model)
    for name, (fingerprint, _) in stored.get("identity", {}).get("sets", {}).items():
        found[name] = (fingerprint, stored["metrics"][name]["images"])
    prepared = _prepared(model)
    return {
        name: known(
            {
                "images": images,
                "dataset": prepared.get(fingerprint)
                or config.get("data", {}).get(f"{name}_data")
                or None,
            }
        )
        for name, (fingerprint, images) in found.items()
    }


def _prepared(model: str) -> dict[str | None, str]:
    """Data set strings by fingerprint of the sets that were prepared for the run."""
    data = os.path.join(above(above(model)), layout.DATA)
    return {
        ancestors.fingerprint_of(manifest): manifest["identity"]["dataset"]
        for manifest in ancestors.stages(data, "prepare")
    }


def _matching(found: ancestors.Ancestor | None) -> dict:
    """Its manifest, if it is what its child was made from; else nothing."""
    return found.manifest if found and found.matches else {}


def known(record: dict) -> dict:
    """The record without what is not known: None, and what is empty."""
    return {key: value for key, value in record.items() if value not in (None, {}, [])}
