"""Noisy Student Training, told once (paper, Algorithm 1).

    images ──prepare──▶ shards ──train──▶ teacher
    unlabeled ──label──▶ predictions ──balance──▶ pseudo-labeled
    labeled + pseudo-labeled ──train──▶ student, which is the next teacher

Every stage keeps what it has finished in a directory of `work_dir`, evaluation in
the model's, and a run that was killed goes on from there. Noise is on in every
training, and off when the teacher labels, but for `noised_teacher` (table 6).
"""

import dataclasses
import os
import time

import tensorflow as tf

from data import files
from data.records import RecordSet
from noisy_student.balancing.balancing import BalancingOptions, balance
from noisy_student.config import Config
from noisy_student.evaluation.evaluation import evaluate
from noisy_student.export.export import export
from noisy_student.iteration import run_files
from noisy_student.iteration.checks import check_run, check_with_data
from noisy_student.iteration.jobs import student_job, teacher_job
from noisy_student.labeling.labeling import LabelingOptions, TeacherNoise, label
from noisy_student.models.warm_start import initial_weights
from noisy_student.preparation.deduplication import find_duplicates
from noisy_student.preparation.evaluation_images import own_sets
from noisy_student.preparation.preparation import PreparedData, prepare
from noisy_student.report import report
from noisy_student.stages import layout
from noisy_student.stages.manifest import read_manifest
from noisy_student.training.job import TrainingJob
from noisy_student.training.training import train
from noisy_student.training.training_loop import LoopOptions


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
        options: Of each training: when to report, save and evaluate; a data service.

    Returns:
        The content of `summary.json`, described in `docs/summary.md`.
    """
    check_run(config, strategy, options)
    run_files.claim(work_dir, config)
    if summary := run_files.finished(work_dir):
        return summary
    began = time.monotonic()
    run = _Run(config, work_dir, strategy, options)

    run.prepare()
    teacher = run.train_teacher()
    generations = [run.measured(0, "teacher", teacher)]
    for generation in range(1, config.generations + 1):
        pseudo_labeled = run.pseudo_label(generation, teacher)
        student = run.train_student(generation, pseudo_labeled, teacher)
        control = run.train_control() if config.control else None
        generations.append(run.measured(generation, "student", student, control))
        if config.stop_when_no_gain and not run_files.gained(generations):
            print(f"Generation {generation} gained nothing on validation data: stop.")
            break  # And the teacher before it stays.
        teacher = student

    export(teacher, os.path.join(work_dir, layout.EXPORT))  # The last student, then.
    summary = run_files.summary(config, run.data, generations)
    summary["exported"] = os.path.relpath(teacher, work_dir)
    summary["timing"] = {
        "seconds": round(time.monotonic() - began, 1),
        "training_device_hours": round(sum(run.device_hours.values()), 4),
    }
    report.write_report(work_dir, summary)
    files.write_json(os.path.join(work_dir, layout.SUMMARY), summary)
    return summary


class _Run:
    """The stages of one run with their directories filled in."""

    def __init__(
        self,
        config: Config,
        work_dir: str,
        strategy: tf.distribute.Strategy,
        options: LoopOptions,
    ):
        self._config, self._strategy, self._options = config, strategy, options
        self._work_dir = work_dir
        self.data: PreparedData
        self._duplicates = ""  # Directory with unlabeled images to leave out.
        self.device_hours: dict[str, float] = {}  # By name of the training.

    def prepare(self) -> None:
        """Labeled, unlabeled, test and, if given, validation images become shards."""
        config = self._config
        self.data = prepare(config.data, self._directory(layout.DATA), config.seed)
        check_with_data(config, self.data)
        if config.data.dedup_by:  # Validation and test images among unlabeled ones.
            self._duplicates = find_duplicates(
                self.data.unlabeled,
                list(own_sets(self.data).values()),
                self._directory(layout.DUPLICATES),
                config.data.dedup_by,
            )

    def train_teacher(self) -> str:
        """On labels alone."""
        return self._train(layout.TEACHER, teacher_job(self._config, self.data))

    def pseudo_label(self, generation: int, teacher: str) -> RecordSet:
        """What the student learns beside the labels; with an online teacher, images.

        The teacher's probabilities of all unlabeled images, at a temperature that fits
        the validation images if `calibrate`; then the most confident of each class,
        rare classes filled up with copies.
        """
        config = self._config
        if config.online_teacher:
            return self.data.unlabeled
        noise = None
        if config.noised_teacher:
            noise = TeacherNoise(config.augmentation, config.seed)
        calibrate_on = self.data.validation if config.calibrate else None
        predictions = label(
            teacher,
            self.data.unlabeled,
            self._directory(layout.predictions(generation)),
            self._strategy,
            LabelingOptions(
                noise=noise, calibrate_on=calibrate_on, label_format=config.label_format
            ),
            name=layout.predictions(generation),
        )
        return balance(
            self.data.unlabeled,
            predictions,
            self._directory(layout.balanced(generation)),
            config.selection,
            config.seed,
            BalancingOptions(duplicates=self._duplicates),
            name=layout.balanced(generation),
        )

    def train_student(
        self, generation: int, pseudo_labeled: RecordSet, teacher: str
    ) -> str:
        job = student_job(self._config, self.data, generation, pseudo_labeled)
        if self._config.online_teacher:
            job = dataclasses.replace(job, online_teacher=teacher)
        job = self._started_from(teacher, job)
        return self._train(layout.student(generation), job)

    def train_control(self) -> str:
        """The first student, but on labels alone: every generation is compared with it.

        It is trained once: later calls find it finished.
        """
        job = student_job(self._config, self.data, 1, None)
        job = self._started_from(self._directory(layout.TEACHER), job)
        return self._train(layout.CONTROL, job)

    def measured(
        self, generation: int, role: str, model: str, control: str | None = None
    ) -> dict:
        """One row of the summary: models on validation and test images."""
        row = {"generation": generation, "role": role, **self._evaluated(model)}
        if generation and not self._config.online_teacher:
            row["pseudo_labels"] = run_files.pseudo_labels(self._work_dir, generation)
        if control:
            row["control"] = self._evaluated(control)
        return row

    def _train(self, name: str, job: TrainingJob) -> str:
        directory = self._directory(name)
        validation = self.data.validation
        train(job, directory, self._strategy, self._options, name, validation)
        self.device_hours[name] = read_manifest(directory)["timing"].get("device_hours", 0)
        return directory

    def _started_from(self, teacher: str, job: TrainingJob) -> TrainingJob:
        """The job, from its teacher's weights where the configuration says so."""
        if not self._config.student_init_from_teacher:
            return job
        return dataclasses.replace(job, initial_weights=initial_weights(teacher))

    def _evaluated(self, model: str) -> dict:
        name = os.path.relpath(model, self._work_dir)
        metrics = evaluate(model, self.data.evaluation_sets(), self._strategy, name)
        return run_files.measured(name, read_manifest(model)["results"], metrics)

    def _directory(self, name: str) -> str:
        return os.path.join(self._work_dir, name)
