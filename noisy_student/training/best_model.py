"""The averaged weights that were best on validation data while training ran."""

import os

import tensorflow as tf

from data import files, full_disk, json_form, streams
from data.errors import InputError
from data.records import RecordSet
from noisy_student.evaluation.evaluation import BATCH_SIZE, accuracy_on
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.strategy import several_workers
from noisy_student.training.train_step import NoisyStudentTrainer

BEST, RECORD = "best", "validation.json"


def check(
    validation: RecordSet | None,
    interval: str,
    class_names: tuple[str, ...],
    strategy: tf.distribute.Strategy,
) -> None:
    """Refuses an interval without data to evaluate on, or data of other classes."""
    if not interval:
        return
    if validation is None:
        raise InputError(
            f"`evaluation_interval`: expected none without `validation_data`; received "
            f"{interval!r}. Give validation data; test data must not choose a model."
        )
    if several_workers(strategy):
        raise InputError(
            f"`evaluation_interval`: expected none with --strategy=multi_worker; received "
            f"{interval!r}. Evaluate the trained model with tpu_scripts.evaluate."
        )
    if validation.class_names != class_names:
        raise InputError(
            "`validation_data`: expected the classes of the labeled data "
            f"({', '.join(class_names)}); received {', '.join(validation.class_names)}."
        )
    streams.check_not_empty(validation, "validation_data")


class BestModel:
    """Evaluates every `interval` steps and keeps the best in `best/`.

    `best/` holds `model.keras` and `model.json`, and `validation.json` with its
    `step` and `validation_top_1`, which is written last: a kill before it only
    makes the same evaluation write the same model again. Of equal ones the earlier
    stays.

    Args:
        directory: Of the training; `best/` is made in it.
        validation: What to evaluate on.
        interval: Steps between two evaluations.
        total_steps: After which the last evaluation is.
    """

    def __init__(
        self, directory: str, validation: RecordSet, interval: int, total_steps: int
    ):
        self._directory = os.path.join(directory, BEST)
        self._validation, self._interval = validation, interval
        self._total_steps = total_steps
        self._predictor: Predictor | None = None

    def due(self, before: int, step: int) -> bool:
        """Whether to evaluate after a loop: the same for a run that was stopped."""
        passed = step // self._interval > before // self._interval
        return passed or step == self._total_steps

    def evaluate(
        self, trainer: NoisyStudentTrainer, step: int, info: dict, name: str
    ) -> dict[str, float]:
        """Measures the averaged weights; keeps them if their top-1 is the best.

        Args:
            trainer: Whose averaged weights.
            step: Steps done.
            info: For `model_files.describe`.
            name: For the progress line.

        Returns:
            `validation_top_1` and `validation_top_5`, 0 to 1, and
            `validation_cross_entropy`.
        """
        model = trainer.averaged_model()
        if self._predictor is None:
            self._predictor = Predictor(model, trainer.strategy, BATCH_SIZE)
        else:
            self._predictor.update(model)
        facts = model_files.describe(model, **info)
        found = accuracy_on(self._predictor, self._validation, facts, name)
        top_1 = float(found["top_1"])
        best = self.record()
        if best is None or top_1 > best["validation_top_1"]:
            with full_disk.explained(self._directory, "the best model"):
                model_files.write_model(model, self._directory, facts)
                record = {"step": step, "validation_top_1": top_1}
                files.write_json(os.path.join(self._directory, RECORD), record)
        measured = ("top_1", "top_5", "cross_entropy")
        return {f"validation_{key}": float(found[key]) for key in measured}

    def record(self) -> dict | None:
        """`step` and `validation_top_1` of the best so far."""
        path = os.path.join(self._directory, RECORD)
        if not tf.io.gfile.exists(path):
            return None
        form = {"step": int, "validation_top_1": float}
        return json_form.read(path, form, "the record of the best model")
