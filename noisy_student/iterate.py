"""Noisy Student Training, told once (paper, Algorithm 1).

    images ──prepare──▶ shards ──train──▶ teacher
    unlabeled ──label──▶ predictions ──balance──▶ pseudo-labeled
    labeled + pseudo-labeled ──train──▶ student, which is the next teacher

Every stage is a directory of `work_dir` and finds what an earlier, killed run
of it has done. Noise is on in every training and off when the teacher labels.
"""

import dataclasses
import os
import time

import tensorflow as tf

from data import files
from data.errors import InputError
from data.soft_labels import parse_format
from noisy_student.balancing.balancing import BalancingOptions, balance
from noisy_student.config import Config, check, check_warmup, differences, seed_of, to_dict
from noisy_student.evaluation.evaluation import evaluate
from noisy_student.export.export import export
from noisy_student.labeling.labeling import LabelingOptions, TeacherNoise, label
from noisy_student.labeling.teacher_calibration import read_calibration, summary_of
from noisy_student.models.warm_start import check_same_layers, initial_weights
from noisy_student.preparation.deduplication import find_duplicates
from noisy_student.preparation.evaluation_images import own_sets
from noisy_student.preparation.preparation import PreparedData, prepare
from noisy_student.report import report
from noisy_student.stages.manifest import make_directory, read_manifest
from noisy_student.strategy import check_group_size, check_one_process, check_parts
from noisy_student.training.job import TrainingJob
from noisy_student.training.training import train
from noisy_student.training.training_loop import LoopOptions

CONFIG, SUMMARY = "config.json", "summary.json"


def iterate(
    config: Config,
    work_dir: str,
    strategy: tf.distribute.Strategy,
    options: LoopOptions = LoopOptions(),
) -> dict:
    """Trains a teacher and `config.generations` students; returns the summary.

    Args:
        config: What to do, see `noisy_student.config`.
        work_dir: Where everything goes. A finished one returns at once.
        strategy: Where to compute.
        options: Reports and checkpoints.

    Returns:
        The content of `summary.json`, described in `docs/summary.md`.
    """
    check_run(config, strategy, options)
    _claim(work_dir, config)
    if tf.io.gfile.exists(os.path.join(work_dir, SUMMARY)):
        return files.read_json(os.path.join(work_dir, SUMMARY))
    began = time.monotonic()
    run = _Run(config, work_dir, strategy, options)

    teacher = run.train_teacher()
    generations = [run.outcome(0, "teacher", teacher)]
    best = teacher
    for generation in range(1, config.generations + 1):
        pseudo_labeled = run.pseudo_label(generation, teacher)
        student = run.train_student(generation, pseudo_labeled, teacher)
        control = run.train_control() if config.control else None
        outcome = run.outcome(generation, "student", student, control)
        generations.append(outcome)
        if config.stop_when_no_gain and not _gained(generations):
            print(f"Generation {generation} gained nothing on validation data: stop.")
            break
        teacher = best = student

    run.export(best)
    summary = run.summary(generations, best, time.monotonic() - began)
    report.write_report(work_dir, summary)
    files.write_json(os.path.join(work_dir, SUMMARY), summary)
    return summary


def check_run(config: Config, strategy, options: LoopOptions) -> None:
    """Refuses what cannot work, before anything is written."""
    check(config)
    if config.student_init_from_teacher:
        check_same_layers(config)
    _check_strategy(config, strategy)
    if options.evaluation_interval and not config.data.validation_data:
        raise InputError(
            "`evaluation_interval`: expected none without `validation_data`; received "
            f"{options.evaluation_interval!r}. Test data must not choose a model."
        )


def check_with_data(config: Config, data: PreparedData) -> None:
    """What can be checked only with the number of labeled images and of classes."""
    for role in ("teacher", "student"):
        training = getattr(config, f"{role}_training")
        check_warmup(training, data.labeled.num_examples, f"{role}_")
    parse_format(config.label_format, data.labeled.num_classes)


class _Run:
    """The stages of one run with their directories filled in."""

    def __init__(self, config: Config, work_dir, strategy, options):
        self._config, self._strategy, self._options = config, strategy, options
        self._work_dir = work_dir
        self.data: PreparedData = prepare(config.data, self._directory("data"), config.seed)
        check_with_data(config, self.data)
        self._duplicates = self._find_duplicates()

    def _find_duplicates(self) -> str:
        """Directory with the unlabeled images that are validation or test images."""
        if not self._config.data.dedup_by:
            return ""
        return find_duplicates(
            self.data.unlabeled,
            list(own_sets(self.data).values()),
            self._directory("data", "duplicates"),
            self._config.data.dedup_by,
        )

    def train_teacher(self) -> str:
        return self._train("generation_0/teacher", teacher_job(self._config, self.data))

    def pseudo_label(self, generation: int, teacher: str):
        """What the student learns beside the labels; with an online teacher, images."""
        config = self._config
        if config.online_teacher:
            return self.data.unlabeled
        noise = None
        if config.noised_teacher:
            noise = TeacherNoise(config.augmentation, config.seed)
        holdout = self.data.validation if config.calibrate else None
        here = f"generation_{generation}"
        predictions = label(
            teacher,
            self.data.unlabeled,
            self._directory(here, "predictions"),
            self._strategy,
            LabelingOptions(noise=noise, holdout=holdout, label_format=config.label_format),
            name=f"{here}/predictions",
        )
        return balance(
            self.data.unlabeled,
            predictions,
            self._directory(here, "balanced"),
            config.selection,
            config.seed,
            BalancingOptions(duplicates=self._duplicates),
            name=f"{here}/balanced",
        )

    def train_student(self, generation: int, pseudo_labeled, teacher: str) -> str:
        job = student_job(self._config, self.data, generation, pseudo_labeled)
        if self._config.online_teacher:
            job = dataclasses.replace(job, online_teacher=teacher)
        job = self._started(job, teacher)
        return self._train(f"generation_{generation}/student", job)

    def train_control(self) -> str:
        """The first student on labels alone, which every generation is compared with."""
        job = student_job(self._config, self.data, 1, None)
        job = self._started(job, self._directory("generation_0/teacher"))
        return self._train("generation_1/control", job)

    def export(self, model: str) -> None:
        export(model, self._directory("export"))

    def outcome(self, generation, role, model, control=None) -> dict:
        """One row of the summary."""
        outcome = {"generation": generation, "role": role, **self._measured(model)}
        if generation and not self._config.online_teacher:
            here = self._directory(f"generation_{generation}")
            outcome["pseudo_labels"] = _pseudo_labels(here)
        if control:
            outcome["control"] = self._measured(control)
        return outcome

    def summary(self, generations, best, seconds) -> dict:
        data = self.data
        sets = {"labeled": data.labeled, "unlabeled": data.unlabeled}
        sets.update(data.evaluation_sets())
        return {
            "config": to_dict(self._config),
            "class_names": list(data.labeled.class_names),
            "images": {name: value.num_examples for name, value in sets.items()},
            "generations": generations,
            "exported": os.path.relpath(best, self._work_dir),
            "timing": {"seconds": round(seconds, 1)},
        }

    def _train(self, name: str, job: TrainingJob) -> str:
        directory = self._directory(name)
        validation = self.data.validation
        train(job, directory, self._strategy, self._options, name, validation)
        return directory

    def _started(self, job: TrainingJob, teacher: str) -> TrainingJob:
        """The job from its teacher's weights where the configuration says so."""
        if not self._config.student_init_from_teacher:
            return job
        return dataclasses.replace(job, initial_weights=initial_weights(teacher))

    def _measured(self, model: str) -> dict:
        name = os.path.relpath(model, self._work_dir)
        metrics = evaluate(model, self.data.evaluation_sets(), self._strategy, name)
        trained = read_manifest(model)["results"]
        return {
            "model": name,
            "parameters": trained["parameters"],
            "steps": trained["steps"],
            **{f"{key}_top_1": value["top_1"] for key, value in metrics.items()},
            **{f"{key}_top_5": value["top_5"] for key, value in metrics.items()},
        }

    def _directory(self, *parts: str) -> str:
        return os.path.join(self._work_dir, *parts)


def teacher_job(config: Config, data: PreparedData) -> TrainingJob:
    """The first teacher: labels alone, with noise."""
    return TrainingJob(
        labeled=data.labeled,
        pseudo_labeled=None,
        model=config.teacher,
        training=config.teacher_training,
        augmentation=config.augmentation,
        seed=seed_of(config.seed, 0),
    )


def student_job(config, data, generation: int, pseudo_labeled) -> TrainingJob:
    """A student; without pseudo-labels, a control."""
    return TrainingJob(
        labeled=data.labeled,
        pseudo_labeled=pseudo_labeled,
        model=config.student,
        training=config.student_training,
        augmentation=config.augmentation,
        seed=seed_of(config.seed, generation),
    )


def _check_strategy(config: Config, strategy) -> None:
    """Refuses batches and groups that do not fit the replicas, before any training."""
    check_one_process("the whole loop", strategy)
    teacher, student = config.teacher_training, config.student_training
    for name, size, training in (
        ("teacher_batch_size", teacher.batch_size, teacher),
        ("student_batch_size", student.batch_size, student),
        ("student_batch_size · unlabeled_ratio", student.pseudo_batch_size, student),
    ):
        check_parts(name, size, training.accumulation_steps, strategy)
    for role, model in (("teacher", config.teacher), ("student", config.student)):
        size = model.batch_norm_group_size
        check_group_size(f"{role}_batch_norm_group_size", size, strategy)


def _claim(work_dir: str, config: Config) -> None:
    """Takes a new work_dir, or checks that an old one is of the same config."""
    make_directory(work_dir)
    path = os.path.join(work_dir, CONFIG)
    begun = set(tf.io.gfile.listdir(work_dir)) - {CONFIG}
    if not begun or not tf.io.gfile.exists(path):
        files.write_json(path, to_dict(config))
        return
    changed = differences(files.read_json(path), to_dict(config))
    if changed:
        raise InputError(
            f"`work_dir` {work_dir} was started with another configuration:\n  "
            + "\n  ".join(changed)
            + "\nChoose another --work_dir, or run with the settings of this one."
        )


def _gained(generations: list[dict]) -> bool:
    before, now = generations[-2], generations[-1]
    return now["validation_top_1"] > before["validation_top_1"]


def _pseudo_labels(generation_directory: str) -> dict:
    """What labeling and balancing put on record, without their lists of files."""
    predictions = os.path.join(generation_directory, "predictions")
    labeled, calibration = read_manifest(predictions), read_calibration(predictions)
    balanced = read_manifest(os.path.join(generation_directory, "balanced"))
    return {
        "mean_confidence": labeled["results"]["mean_confidence"],
        "pool_accuracy": labeled["results"]["accuracy"],
        **({"calibration": summary_of(calibration)} if calibration else {}),
        **balanced["results"],
    }
