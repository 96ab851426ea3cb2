"""What a lineage says of one stage: as JSON values, and as a block of text."""

from noisy_student.lineage import provenance
from noisy_student.lineage.ancestors import fingerprint_of, weights_of
from noisy_student.models import model_files
from noisy_student.tables import percent

_DIGITS = 12  # Of a digest, for people.
# Parts of the identities of `label` and `balance` that have a place of their own.
_NOT_SETTINGS = (
    "teacher_sha256",
    "class_names",
    "images",
    "unlabeled_data",
    "predictions",
    "calibration",
    "imported_sha256",
)
_TITLES = {
    "export": "export",
    "model": "a model without a record of its own",
    "balance": "selected and balanced pseudo-labels",
    "label": "labels of a teacher",
    "prepare": "images",
}


def facts_of(manifest: dict) -> dict:
    """JSON values; each key only where it is known.

    Returns:
        `stage`: `train`, `export`, `model` (no record but its own), `balance`, `label`
        or `prepare`; `directory`; `code_version` and `created`.
        Of models `weights_sha256`, `architecture`, `parameters`, `image_size`; of
        trainings `role`, `generation`, `recipe`, `settings`, `seed`, `steps`, `data`
        (by set `images`, `dataset`, `fingerprint`), `initial_weights`, `metrics`; of
        the best model of a training `best`: its step and validation accuracy.
        Of the others `fingerprint` of their images, `settings`, and the results.
    """
    of_stage = {"balance": _balancing, "label": _labeling, "prepare": _preparation}
    facts = of_stage.get(manifest["stage"], _model)(manifest)
    facts = {"stage": manifest["stage"], "directory": manifest["directory"], **facts}
    facts |= {key: manifest.get(key) for key in ("code_version", "created")}
    return provenance.known(facts)


def text_of(facts: dict) -> str:
    """A title and indented rows."""
    if not facts.get("found", True):
        digest = f" {facts['digest'][:_DIGITS]}" if "digest" in facts else ""
        return f"{facts['stage']}{digest}: not found; the chain ends here"
    data = facts.get("data", {})
    rows = [
        ("weights", _short(facts.get("weights_sha256"))),
        ("architecture", _architecture(facts)),
        ("training", _training(facts)),
        ("best", _best(facts.get("best"))),
        *((f"{n.replace('_', '-')} data", _set(v)) for n, v in data.items()),
        ("started from", _short(facts.get("initial_weights"))),
        ("online teacher", _short(facts.get("online_teacher"))),
        ("teacher", _short(facts.get("teacher_sha256"))),
        ("imported from", _imported(facts.get("imported_sha256"))),
        ("images", _set(facts) if "images" in facts else None),
        ("seed", str(facts["seed"]) if facts["stage"] == "prepare" else None),
        ("mean confidence", _number(facts.get("mean_confidence"))),
        ("temperature", _number(facts.get("temperature"))),
        ("settings", _settings(facts)),
        ("kept", _kept(facts)),
        ("right among them", percent(facts.get("accuracy"))),
        *((f"{name} accuracy", _metric(v)) for name, v in facts.get("metrics", {}).items()),
        ("code version", facts.get("code_version")),
        ("created", facts.get("created")),
    ]
    lines = [f"  {name:<20}{value}" for name, value in rows if value]
    return "\n".join([f"{facts['directory']}: {_title(facts)}", *lines])


def _model(manifest: dict) -> dict:
    """Of trainings, exports, and models that have no record."""
    directory, identity = manifest["directory"], manifest["identity"]
    facts: dict = {"weights_sha256": weights_of(manifest)}
    if model_files.exists(directory):
        info = model_files.load_info(directory)
        facts |= {
            "architecture": info.variant,
            "parameters": info.parameters,
            "image_size": info.image_size,
            "metrics": provenance.metrics(directory, info),
        }
    if manifest["stage"] != "train" or not manifest["complete"]:
        best = manifest["results"].get("best") if manifest["stage"] == "model" else None
        return {**facts, "best": best}
    record = provenance.training_facts(directory, manifest)
    labeled = record.pop("data")["labeled"]
    record["data"] = {"labeled": {**labeled, "fingerprint": identity["labeled_data"]}}
    if fingerprint := identity.get("pseudo_labeled_data"):
        images = manifest["results"].get("images", {}).get("pseudo_labeled")
        name = "unlabeled" if identity.get("online_teacher") else "pseudo_labeled"
        record["data"][name] = {"images": images, "fingerprint": fingerprint}
    return {**facts, **record, "online_teacher": identity.get("online_teacher")}


def _balancing(manifest: dict) -> dict:
    results = manifest["results"]
    kept = {key: results.get(key) for key in ("kept", "dropped", "examples", "accuracy")}
    return {
        "unlabeled_fingerprint": manifest["identity"].get("unlabeled_data"),
        "fingerprint": fingerprint_of(manifest),
        "settings": _settings_of(manifest),
        **kept,
    }


def _labeling(manifest: dict) -> dict:
    identity, results = manifest["identity"], manifest["results"]
    return {
        "teacher_sha256": identity.get("teacher_sha256"),
        "imported_sha256": identity.get("imported_sha256"),
        "images": results.get("images"),
        "fingerprint": identity.get("unlabeled_data"),
        "mean_confidence": results.get("mean_confidence"),
        "accuracy": results.get("accuracy"),
        "temperature": (identity.get("calibration") or {}).get("temperature"),
        "settings": _settings_of(manifest),
    }


def _preparation(manifest: dict) -> dict:
    return {
        "dataset": manifest["identity"]["dataset"],
        "images": manifest["results"].get("images"),
        "fingerprint": fingerprint_of(manifest),
        "seed": manifest["identity"]["seed"],
    }


def _settings_of(manifest: dict) -> dict:
    return {
        key: value
        for key, value in manifest["identity"].items()
        if key not in _NOT_SETTINGS and value not in (None, "")
    }


def _title(facts: dict) -> str:
    if facts["stage"] != "train":
        return _TITLES.get(facts["stage"], facts["stage"])
    generation = f" of generation {facts['generation']}" if "generation" in facts else ""
    return facts.get("role", "trained model") + generation


def _architecture(facts: dict) -> str | None:
    if "architecture" not in facts:
        return None
    return (
        f"{facts['architecture']}, {facts['parameters']:,} parameters, "
        f"{facts['image_size']} pixels"
    )


def _training(facts: dict) -> str | None:
    if facts["stage"] != "train" or "steps" not in facts:
        return None
    recipe = f", recipe {facts['recipe']}" if "recipe" in facts else ""
    return f"{facts['steps']:,} steps, seed {facts['seed']}{recipe}"


def _best(record: dict | None) -> str | None:
    if not record:
        return None
    top_1 = percent(record["validation_top_1"])
    return f"of the next training, at step {record['step']:,}: validation accuracy {top_1}"


def _set(facts: dict) -> str:
    """`20 of digits:pool, fingerprint 0123456789abcdef`."""
    source = f" of {facts['dataset']}" if facts.get("dataset") else ""
    images = f"{facts['images']:,}" if facts.get("images") is not None else "?"
    mark = f", fingerprint {facts['fingerprint']}" if facts.get("fingerprint") else ""
    return f"{images}{source}{mark}"


def _kept(facts: dict) -> str | None:
    if facts.get("kept") is None:
        return None
    return (
        f"{facts['kept']:,} images, {facts['dropped']:,} dropped, "
        f"{facts['examples']:,} examples with copies"
    )


def _settings(facts: dict) -> str | None:
    """Of labels and their balancing; a training has too many for a line."""
    if facts["stage"] == "train" or "settings" not in facts:
        return None
    return ", ".join(f"{name} {value}" for name, value in facts["settings"].items())


def _metric(values: dict) -> str:
    return f"{percent(values['top_1'])} of {values['images']:,} images"


def _imported(digests: dict[str, str] | None) -> str | None:
    """Files of predictions made elsewhere, each with its digest."""
    if not digests:
        return None
    return ", ".join(f"{n} {_short(d)}" for n, d in digests.items())


def _short(digest: str | None) -> str | None:
    return digest and digest[:_DIGITS]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
