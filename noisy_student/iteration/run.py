"""The stages of a run, each in its directory; `iterate` puts them in order."""

import dataclasses
import os

import tensorflow as tf

from data.records import RecordSet
from noisy_student.balancing.balancing import BalancingOptions, balance
from noisy_student.config import Config, seed_of
from noisy_student.evaluation.evaluation import evaluate
from noisy_student.iteration import run_files
from noisy_student.iteration.checks import check_with_data
from noisy_student.iteration.jobs import student_job, teacher_job
from noisy_student.iteration.places import Places
from noisy_student.labeling.labeling import LabelingOptions, TeacherNoise, label
from noisy_student.models import model_files
from noisy_student.models.warm_start import initial_weights
from noisy_student.preparation.deduplication import find_duplicates
from noisy_student.preparation.evaluation_images import own_sets
from noisy_student.preparation.preparation import PreparedData, prepare
from noisy_student.stages import layout
from noisy_student.stages.manifest import read_manifest, shards_digest
from noisy_student.training.fixres import default_settings, fixres_job
from noisy_student.training.job import TrainingJob
from noisy_student.training.training import train
from noisy_student.training.training_loop import LoopOptions


class Run:
    """The stages of one run with their directories filled in.

    Args:
        config: What to do.
        places: Where each stage's output goes.
        strategy: Where to compute.
        options: Of each training: when to report, save and evaluate; a data service.
    """

    def __init__(
        self,
        config: Config,
        places: Places,
        strategy: tf.distribute.Strategy,
        options: LoopOptions,
    ):
        self._config, self._strategy, self._options = config, strategy, options
        self._places = places
        self.data: PreparedData
        self._duplicates = ""  # Directory with unlabeled images to leave out.
        # Of each generation: predictions and pseudo-labeled shards.
        self._labels: dict[int, tuple[str, str]] = {}
        self.device_hours: dict[str, float] = {}  # By name of the training.

    def prepare(self) -> None:
        """Labeled, unlabeled, test and, if given, validation images become shards."""
        config = self._config
        decided_by = {**dataclasses.asdict(config.data), "seed": config.seed}
        data = self._places.of(layout.DATA, lambda: decided_by)
        self.data = prepare(config.data, data, config.seed)
        check_with_data(config, self.data)
        if config.data.dedup_by:  # Validation and test images among unlabeled ones.
            self._duplicates = find_duplicates(
                self.data.unlabeled,
                list(own_sets(self.data).values()),
                os.path.join(data, os.path.relpath(layout.DUPLICATES, layout.DATA)),
                config.data.dedup_by,
            )

    def train_teacher(self) -> str:
        """On labels alone."""
        job = self._started_from(None, teacher_job(self._config, self.data))
        return self._train(layout.TEACHER, job)

    def pseudo_label(self, generation: int, teacher: str) -> RecordSet:
        """What the student learns beside the labels; with an online teacher, images.

        The teacher's probabilities of all unlabeled images, at a temperature that fits
        the validation images if `calibrate`; then the most confident of each class,
        rare classes filled up with copies.
        """
        config = self._config
        if config.online_teacher:
            return self.data.unlabeled
        predictions = self._label(layout.predictions(generation), teacher)
        name = layout.balanced(generation)
        directory = self._places.of(
            name,
            lambda: {
                "predictions": shards_digest(read_manifest(predictions)),
                "unlabeled_data": self.data.unlabeled.fingerprint(),
                "selection": dataclasses.asdict(config.selection),
                "duplicates": self._duplicates
                and shards_digest(read_manifest(self._duplicates)),
                "seed": config.seed,
            },
        )
        self._labels[generation] = predictions, directory
        return balance(
            self.data.unlabeled,
            predictions,
            directory,
            config.selection,
            config.seed,
            BalancingOptions(duplicates=self._duplicates),
            name=name,
        )

    def _label(self, name: str, teacher: str) -> str:
        config = self._config
        noise = None
        if config.noised_teacher:
            noise = TeacherNoise(config.augmentation, config.seed)
        options = LabelingOptions(
            noise=noise,
            calibrate_on=self.data.validation if config.calibrate else None,
            label_format=config.label_format,
        )
        unlabeled = self.data.unlabeled
        directory = self._places.of(
            name,
            lambda: {
                "teacher": model_files.load_info(teacher).weights_sha256,
                "unlabeled_data": unlabeled.fingerprint(),
                "noise": noise and dataclasses.asdict(noise),
                "calibrate_on": options.calibrate_on and options.calibrate_on.fingerprint(),
                "label_format": config.label_format,
            },
        )
        return label(teacher, unlabeled, directory, self._strategy, options, name)

    def train_student(
        self, generation: int, pseudo_labeled: RecordSet, teacher: str
    ) -> str:
        job = student_job(self._config, self.data, generation, pseudo_labeled)
        if self._config.online_teacher:
            job = dataclasses.replace(job, online_teacher=teacher)
        job = self._started_from(teacher, job)
        return self._train(layout.student(generation), job)

    def train_control(self, teacher: str) -> str:
        """The first student, but on labels alone: every generation is compared with it.

        It is trained once: later calls find it finished.

        Args:
            teacher: The first one, whose weights it starts from if students do.
        """
        job = student_job(self._config, self.data, 1, None)
        job = self._started_from(teacher, job)
        return self._train(layout.CONTROL, job)

    def fine_tune(self, model: str) -> str:
        """Trains a student on, on labels alone, as the teacher was trained (study 6)."""
        config = self._config
        job = dataclasses.replace(
            teacher_job(config, self.data),
            model=config.student,
            initial_weights=initial_weights(model),
        )
        return self._train(layout.FINE_TUNED, job)

    def fixres(self, model: str, image_size: int, duration: str) -> str:
        """Fine-tunes a model at a larger image size, see `training.fixres`."""
        network, training = default_settings(model)
        job = fixres_job(
            model,
            self.data.labeled,
            dataclasses.replace(network, image_size=image_size),
            dataclasses.replace(training, duration=duration),
            seed_of(self._config.seed, 0),
        )
        return self._train(layout.FIXRES, job)

    def place(self, name: str, decided_by: object) -> str:
        """A directory beside the stages', for what is made from the run's data."""
        return self._places.of(name, lambda: decided_by)

    def pseudo_labels(self, generation: int) -> dict:
        """`generation` and `pseudo_labels` of a row; empty where none are stored."""
        if generation not in self._labels:
            return {}
        found = run_files.pseudo_labels(*self._labels[generation])
        return {"generation": generation, "pseudo_labels": found}

    def measured(
        self, generation: int, role: str, model: str, control: str | None = None
    ) -> dict:
        """One row of the summary: models on validation and test images."""
        row = {"generation": generation, "role": role, **self._evaluated(model)}
        row.update(self.pseudo_labels(generation))
        if control:
            row["control"] = self._evaluated(control)
        return row

    def _train(self, name: str, job: TrainingJob) -> str:
        directory = self._places.of(name, job.identity)
        validation = self.data.validation
        train(job, directory, self._strategy, self._options, name, validation)
        self.device_hours[name] = read_manifest(directory)["timing"].get("device_hours", 0)
        return directory

    def _started_from(self, teacher: str | None, job: TrainingJob) -> TrainingJob:
        """The job, from the weights where the configuration says that it starts."""
        if teacher and self._config.student_init_from_teacher:
            return dataclasses.replace(job, initial_weights=initial_weights(teacher))
        if self._config.init_from:
            weights = initial_weights(self._config.init_from, new_head=True)
            return dataclasses.replace(job, initial_weights=weights)
        return job

    def _evaluated(self, model: str) -> dict:
        name = os.path.relpath(model, self._places.directory)
        metrics = evaluate(model, self.data.evaluation_sets(), self._strategy, name)
        return run_files.measured(name, read_manifest(model)["results"], metrics)
