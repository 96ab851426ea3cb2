"""What is on record about a trained model: data, settings, metrics, ancestors.

Looks into the model's own directory and into those that `iterate`, and the
stages by hand, lay out around it. A neighbour counts only where a digest ties
it to the model; what no record says is left out.
"""

import os
import re

import tensorflow as tf

from data import files
from data.records import RecordSet
from noisy_student import recipes
from noisy_student.config import to_dict
from noisy_student.evaluation import METRICS
from noisy_student.manifest import MANIFEST
from noisy_student.model_files import ModelInfo

RECORD = "record"  # Where the manifest of an export keeps it.
_CONFIG = "config.json"  # Of a whole run, see `iterate`.


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
    manifest = _manifest(model)
    if manifest.get("stage") == "export":
        return manifest["results"].get(RECORD, {})
    record = {"metrics": _metrics(model, info)}
    of_these_weights = (
        manifest.get("results", {}).get("weights_sha256") == info.weights_sha256
    )
    if manifest.get("stage") == "train" and of_these_weights:
        record |= _training(model, manifest)
    return _known(record)


def lineage(model: str) -> list[dict]:
    """The chain of teachers that ends with `model`, as far back as it is on record."""
    chain = []
    while model:
        manifest = _manifest(model)
        link = {
            "model": _name(model),
            "weights_sha256": manifest["results"]["weights_sha256"],
        }
        chain.insert(0, link)
        balanced = _balanced(model, manifest["identity"])
        predictions = _predictions(model, balanced)
        teacher = manifest["identity"].get("online_teacher")
        if predictions:
            link["pseudo_labeled"] = balanced["results"]["examples"]
            link["pseudo_label_accuracy"] = balanced["results"]["accuracy"]
            teacher = predictions["identity"].get("teacher_sha256")
        model = _trained_model(model, teacher) if teacher else None
        if teacher and not model:
            chain.insert(0, {"weights_sha256": teacher})
    return [_known(link) for link in chain]


def _training(model: str, manifest: dict) -> dict:
    identity = manifest["identity"]
    role, generation = _place(model, bool(identity["pseudo_labeled_data"]))
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
        "lineage": lineage(model),
    }


def _place(model: str, has_pseudo_labels: bool) -> tuple[str | None, int | None]:
    """Role and generation, from the name `generation_<g>/<role>` of the directory."""
    match = re.fullmatch(r"generation_(\d+)/(teacher|student|control)", _name(model))
    if not match:
        return "student" if has_pseudo_labels else None, None
    generation, role = int(match[1]), match[2]
    return (role, generation) if (role == "student") == has_pseudo_labels else (None, None)


def _run_config(model: str, role: str | None, identity: dict) -> dict:
    """The configuration of the run around the model, if it is the model's own."""
    path = os.path.join(_above(_above(model)), _CONFIG)
    if not role or not tf.io.gfile.exists(path):
        return {}
    config = files.read_json(path)
    prefix = "teacher" if role == "teacher" else "student"
    parts = {"model": prefix, "training": f"{prefix}_training"}
    same = all(config.get(theirs) == identity[own] for own, theirs in parts.items())
    return config if same else {}


def _recipe(config: dict) -> str | None:
    for name in recipes.names() if config else ():
        if to_dict(recipes.load(name)) == config:
            return name
    return None


def _metrics(model: str, info: ModelInfo) -> dict:
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
    return files.read_json(path) if tf.io.gfile.exists(path) else {}


def _data(model: str, manifest: dict, config: dict) -> dict:
    """Sets by name, with their number of images and the data sets they are from."""
    identity = manifest["identity"]
    counts = manifest["results"].get("images", {})
    found = {"labeled": (identity["labeled_data"], counts.get("labeled"))}
    balanced = _balanced(model, identity)
    if balanced:
        unlabeled = balanced["results"]["unlabeled"]
        found["unlabeled"] = (balanced["identity"]["unlabeled_data"], unlabeled)
    stored = _stored_metrics(model)
    for name, (fingerprint, _) in stored.get("identity", {}).get("sets", {}).items():
        found[name] = (fingerprint, stored["metrics"][name]["images"])
    prepared = _prepared(model)
    return {
        name: _known(
            {
                "images": images,
                "dataset": prepared.get(fingerprint)
                or config.get("data", {}).get(f"{name}_data")
                or None,
            }
        )
        for name, (fingerprint, images) in found.items()
    }


def _prepared(model: str) -> dict[str, str]:
    """Data set strings by fingerprint of the sets that were prepared for the run."""
    data = os.path.join(_above(_above(model)), "data")
    return {
        _fingerprint(manifest): manifest["identity"]["dataset"]
        for manifest in _stages(data, "prepare")
    }


def _balanced(model: str, identity: dict) -> dict | None:
    """The manifest, beside the model, of the pseudo-labeled set it learned from."""
    wanted = identity["pseudo_labeled_data"]
    for manifest in _stages(_above(model), "balance") if wanted else ():
        if _fingerprint(manifest) == wanted:
            return manifest
    return None


def _predictions(model: str, balanced: dict | None) -> dict | None:
    """The manifest, beside the model, of the predictions that were balanced."""
    for manifest in _stages(_above(model), "label") if balanced else ():
        digests = {name: facts["sha256"] for name, facts in manifest["shards"].items()}
        if digests == balanced["identity"]["predictions"]:
            return manifest
    return None


def _trained_model(near: str, weights_sha256: str) -> str | None:
    """The directory of these weights, of this generation or of another one."""
    generation = _above(near)
    others = os.path.join(_above(generation), "generation_*")
    for manifest in [*_stages(generation, "train"), *_stages(others, "train")]:
        if manifest["results"]["weights_sha256"] == weights_sha256:
            return manifest["directory"]
    return None


def _fingerprint(manifest: dict) -> str | None:
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


def _stages(parent: str, stage: str) -> list[dict]:
    """Manifests of the finished stages in the directories right below `parent`."""
    paths = sorted(tf.io.gfile.glob(os.path.join(parent, "*", MANIFEST)))
    manifests = [_manifest(os.path.dirname(path)) for path in paths]
    return [each for each in manifests if each["stage"] == stage and each["complete"]]


def _manifest(directory: str) -> dict:
    """With `directory` added; empty where there is none."""
    path = os.path.join(directory, MANIFEST)
    if not tf.io.gfile.exists(path):
        return {}
    return {**files.read_json(path), "directory": directory}


def _name(model: str) -> str:
    return "/".join(model.rstrip("/").split("/")[-2:])


def _above(directory: str) -> str:
    return os.path.dirname(directory.rstrip("/"))


def _known(record: dict) -> dict:
    return {key: value for key, value in record.items() if value not in (None, {}, [])}
