"""The chain from a student back to the first labels, every link of it verified."""

import dataclasses
import functools
import os
from collections.abc import Callable

import tensorflow as tf

from data import json_form
from data.errors import InputError
from noisy_student.lineage import ancestors, verification
from noisy_student.lineage.ancestors import Ancestor
from noisy_student.lineage.lineage_facts import facts_of
from noisy_student.lineage.verification import Mismatch
from noisy_student.stages import layout


@dataclasses.dataclass
class Lineage:
    """What a model comes from.

    Attributes:
        steps: JSON values of each stage, see `lineage_facts`; the model first, the data
            sets last.
        mismatches: What is not as it was when the later stage was made.
    """

    steps: list[dict] = dataclasses.field(default_factory=list)
    mismatches: list[Mismatch] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


def trace(model: str, verify_files: bool = False, verify_weights: bool = True) -> Lineage:
    """Walks from a model to its pseudo-labels, their teacher, and so on.

    A link that does not match ends the chain: what lies behind it is not what the
    model comes from. What is gone ends it too, and is no mismatch.

    Args:
        model: Directory of a trained or exported model.
        verify_files: Also read every shard and compare its SHA-256.
        verify_weights: Load each model and compare the digest of its weights.

    Raises:
        InputError: It is no such directory.
    """
    record = ancestors.model_record(model)
    if not record:
        raise InputError(
            "`model`: expected a directory that train, fixres or export wrote; received "
            f"{model}."
        )
    walk = _Walk(verify_files, verify_weights)
    walk.model(record)
    walk.data_sets()
    # A set that several models learned from is compared once for each.
    different = list(dict.fromkeys(walk.lineage.mismatches))
    return Lineage(walk.lineage.steps, different)


def last_student(work_dir: str) -> str:
    """Directory of the model that a run ended with, or has come to.

    Raises:
        InputError: No training of it is finished.
    """
    path = os.path.join(work_dir, layout.SUMMARY)
    if tf.io.gfile.exists(path):
        summary = json_form.read(path, {"exported": str}, "the summary of a run")
        return os.path.join(work_dir, summary["exported"])
    found = [
        (int(generation.rpartition("_")[2]), stage["directory"])
        for generation in tf.io.gfile.glob(os.path.join(work_dir, layout.GENERATIONS))
        for stage in ancestors.stages(generation, "train")
        if os.path.basename(stage["directory"]) in ("teacher", "student")
    ]
    if not found:
        raise InputError(
            "`work_dir`: expected a run of iterate with a trained teacher or student; "
            f"found none below {work_dir}. Pass --model=DIR for a model elsewhere."
        )
    return max(found)[1]


def refuse_mismatches(found: Lineage) -> None:
    """Raises an InputError that names every difference, if there is one."""
    if found.mismatches:
        lines = "\n  ".join(map(str, found.mismatches))
        raise InputError(
            f"{len(found.mismatches)} mismatch(es) in the lineage:\n  {lines}\nThese files "
            "were changed or made anew since. Put the ones back that were used, or run "
            "the later stages again, in new directories."
        )


class _Walk:
    """Collects steps and mismatches; each directory once."""

    def __init__(self, verify_files: bool, verify_weights: bool):
        self.lineage = Lineage()
        self._verify_files, self._verify_weights = verify_files, verify_weights
        self._seen: set[str] = set()
        self._data_sets: dict[str, dict] = {}

    def model(self, manifest: dict) -> None:
        """A model and all behind it."""
        if not self._add(manifest):
            return
        if self._verify_weights:
            self.lineage.mismatches += verification.of_model(manifest)
        identity = manifest["identity"]
        if manifest["stage"] == "export":
            self._follow_model(manifest, "model", identity["weights_sha256"])
        if training := ancestors.training_of_best(manifest):
            self.model(training)
        if manifest["stage"] != "train":
            return
        self._pseudo_labels(manifest)
        if teacher := identity.get("online_teacher"):
            self._follow_model(manifest, "online_teacher", teacher)
            images = identity["pseudo_labeled_data"]  # Unlabeled ones.
            self._follow_data(manifest, "pseudo_labeled_data", images)
        if start := identity.get("initial_weights"):
            self._follow_model(manifest, "initial_weights", start["weights_sha256"])
        self._follow_data(manifest, "labeled_data", identity["labeled_data"])

    def data_sets(self) -> None:
        """The prepared sets that were met, as the last steps."""
        for manifest in self._data_sets.values():
            self._add(manifest)

    def _pseudo_labels(self, training: dict) -> None:
        wanted = training["identity"].get("pseudo_labeled_data")
        if not wanted or training["identity"].get("online_teacher"):
            return
        found = ancestors.balanced(training)
        check = functools.partial(verification.of_fingerprint, fingerprint=wanted)
        balancing = self._follow(found, "balance", wanted, check)
        if not balancing:
            return
        digests = balancing["identity"]["predictions"]
        found = ancestors.predictions(balancing)
        labeling = self._follow(
            found, "label", None, lambda labels: verification.of_digests(labels, digests)
        )
        if labeling:
            self._labels(labeling, balancing)

    def _labels(self, labeling: dict, balancing: dict) -> None:
        self.lineage.mismatches += verification.of_same_images(labeling, balancing)
        self.lineage.mismatches += verification.of_calibration(labeling)
        identity = labeling["identity"]
        for role, fingerprint in (
            ("unlabeled_data", identity.get("unlabeled_data")),
            ("validation_data", (identity.get("calibration") or {}).get("validation_data")),
        ):
            if fingerprint:
                self._follow_data(labeling, role, fingerprint)
        if teacher := identity.get("teacher_sha256"):
            self._follow_model(labeling, "teacher", teacher)

    def _follow_model(self, child: dict, role: str, weights: str) -> None:
        found = ancestors.model(child, role, weights)
        if found is None:
            self._add_lost("model", weights)
        elif found.matches:
            self.model(found.manifest)
        else:
            self._add(found.manifest)
            self.lineage.mismatches += verification.of_weights(found, role, child, weights)

    def _follow_data(self, child: dict, role: str, fingerprint: str) -> None:
        found = ancestors.prepared(child, role, fingerprint)
        if found:
            self._data_sets[found.directory] = found.manifest
            if not found.matches:
                self.lineage.mismatches += verification.of_fingerprint(found, fingerprint)

    def _follow(
        self,
        found: Ancestor | None,
        stage: str,
        digest: str | None,
        mismatches: Callable[[Ancestor], list[Mismatch]],
    ) -> dict | None:
        """The manifest of the stage if it is there and the one that was used."""
        if found is None:
            self._add_lost(stage, digest)
            return None
        self._add(found.manifest)
        if not found.matches:
            self.lineage.mismatches += mismatches(found)
        return found.manifest if found.matches else None

    def _add(self, manifest: dict) -> bool:
        if manifest["directory"] in self._seen:
            return False
        self._seen.add(manifest["directory"])
        self.lineage.steps.append(facts_of(manifest))
        self.lineage.mismatches += verification.of_shards(manifest, self._verify_files)
        return True

    def _add_lost(self, stage: str, digest: str | None) -> None:
        step = {"stage": stage, "digest": digest, "found": False}
        self.lineage.steps.append({k: v for k, v in step.items() if v is not None})
