"""The loop of a training: steps on the device, and between them what is saved and shown.

orbit drives the steps of `train_step.py`: restores the newest checkpoint, runs loops
of steps on the device, saves, and writes TensorBoard summaries.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import time

import orbit
import tensorflow as tf

from data import full_disk, service_workers
from data.errors import InputError
from data.settings import setting
from noisy_student.config import duration
from noisy_student.stages.progress import Progress
from noisy_student.training import bad_step, best_model, checkpoints, history
from noisy_student.training.job import TrainingJob
from noisy_student.training.termination import Terminated, Termination
from noisy_student.training.train_step import NoisyStudentTrainer


@dataclasses.dataclass(frozen=True)
class LoopOptions(duration.WithDurations):
    """How training is run. None of it changes the trained weights, except the data service:
    with it the order of examples is not repeatable.
    """

    durations = ("checkpoint_interval", "evaluation_interval")

    steps_per_loop: int = setting(20, "Steps between two reports, run on the device.")
    checkpoint_interval: str = setting(
        "100 steps", "Between two checkpoints; steps, epochs or images."
    )
    keep_checkpoints: int = setting(3, "Newest checkpoints that are kept.")
    keep_finished: bool = setting(
        True,
        "Keep checkpoints also once the training is finished; without them a model that "
        "is lost is trained from the start.",
    )
    profile_loop: int = setting(
        0,
        "Which loop of this process TensorFlow's profiler looks at, for TensorBoard; in "
        "the first, functions are compiled. 0: none.",
    )
    evaluation_interval: str = setting(
        "",
        "Between two evaluations on validation data, each at the end of a loop; steps, "
        "epochs or images. The best model is kept in best/. Empty: never.",
    )
    data_service: str = setting(
        "",
        "Dispatcher, grpc://HOST:PORT, whose workers decode and augment training images; "
        "empty: this process does.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps_per_loop", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"`{name}`: expected 1 or more; received {getattr(self, name)}."
                )
        if self.profile_loop < 0:
            raise InputError(
                f"`profile_loop`: expected 0 or more; received {self.profile_loop}."
            )
        for name in self.durations:
            value = getattr(self, name)
            if name == "evaluation_interval" and not value:
                continue
            if not duration.parse(value, name).number:
                raise InputError(f"`{name}`: expected more than 0; received {value!r}.")
        if self.data_service:
            service_workers.check_address("data_service", self.data_service)

    def steps_between(self, name: str, job: TrainingJob) -> int:
        """`checkpoint_interval` or `evaluation_interval` in whole steps, 1 or more."""
        length = duration.parse(getattr(self, name), name)
        steps = length.steps(job.labeled.num_examples, job.training.labeled_per_step)
        return max(1, round(steps))


@dataclasses.dataclass(frozen=True)
class OngoingTraining:
    """A training that is under way.

    Attributes:
        trainer: Does the steps.
        job: What is trained on what.
        directory: Where everything is written.
        options: When to report, save and evaluate; a data service.
        name: For the progress line.
        best: Evaluates between loops; None: nothing does.
    """

    trainer: NoisyStudentTrainer
    job: TrainingJob
    directory: str
    options: LoopOptions
    name: str
    best: best_model.BestModel | None = None

    def model_info(self) -> dict:
        """What `model.json` says that the network does not know."""
        return {
            "class_names": list(self.job.labeled.class_names),
            "image_size": self.job.model.resolution,
            "crop": self.job.augmentation.crop,
            "variant": self.job.model.architecture,
        }


class TrainingLoop:
    """From the newest whole checkpoint of a run's directory to its last step.

    Args:
        run: What is trained.
        watch: Of the data service's workers, if there is one.
    """

    def __init__(self, run: OngoingTraining, watch: service_workers.Watch | None = None):
        self._run, self._watch, self._shown = run, watch, sys.stdout
        self._controller = _controller(run)
        self._reported = int(run.trainer.step.numpy())  # Restored.
        self._progress = Progress(
            run.name,
            run.job.total_steps,
            "steps",
            start=self._reported,
            items_per_unit=run.job.images_per_step,
        )
        self._controller.train_actions += (self._report,)
        self._history = history.HistoryWriter(run.directory)
        self._loops, self._loop_began = 0, time.monotonic()

    def run(self) -> dict:
        """Trains to the end; returns `history.timing`.

        Raises:
            InputError: The disk is full.
            FloatingPointError: The loss is no longer finite.
            Terminated: After a SIGTERM or a Ctrl-C, with the current loop's end saved.
        """
        run = self._run
        print(f"{run.name}: {run.job}", flush=True)
        with (
            full_disk.explained(run.directory, "the summaries for TensorBoard"),
            bad_step.explained(run.trainer, run.directory),
            Termination(run.trainer.strategy) as termination,
        ):
            while not self.run_steps():
                if termination.asked():
                    # Another worker's signal is SIGTERM to this one.
                    self._stop(termination.received or signal.SIGTERM)
        self._progress.finish()
        replicas = run.trainer.strategy.num_replicas_in_sync
        return history.timing(run.directory, run.job.images_per_step, replicas)

    def run_steps(self) -> bool:
        """One loop on the device; with nothing left to do, saves and returns True."""
        step, total = int(self._run.trainer.step.numpy()), self._run.job.total_steps
        with _orbit_to_log():
            if step >= total:
                self._controller.save_checkpoint()
                return True
            until = min(step + self._run.options.steps_per_loop, total)
            with self._profiled():
                self._controller.train(until, checkpoint_at_completion=False)
        return False

    def _profiled(self) -> contextlib.AbstractContextManager:
        self._loops += 1
        if self._loops != self._run.options.profile_loop:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Profile(_summaries(self._run))

    def _report(self, means: dict) -> None:
        """What is done after each loop, before its checkpoint."""
        run, before = self._run, self._reported
        self._reported = step = int(run.trainer.step.numpy())
        self._progress.update(step, loss=means["loss"])
        if run.best and run.best.due(before, step):
            name = f"{run.name} on validation, step {step}"
            with contextlib.redirect_stdout(self._shown), self._progress.paused():
                found = run.best.evaluate(run.trainer, step, run.model_info(), name)
            means |= found  # orbit writes them to TensorBoard.
        row = {"step": step, **means}
        now = time.monotonic()
        seconds, self._loop_began = now - self._loop_began, now
        row["timing"] = {
            "images_per_second": row.pop("images_per_second"),
            "seconds": round(seconds, 3),
        }
        if self._watch:
            row["data_service"] = self._watch.take(look=step >= run.job.total_steps)
        self._history.append(row)

    def _stop(self, received: signal.Signals) -> None:
        """What a signal leads to, once a loop has ended."""
        with _orbit_to_log():
            self._controller.save_checkpoint()
        self._progress.finish(received.name)
        print(
            f"Stopped by {received.name}: step {self._reported:,} of "
            f"{self._run.job.total_steps:,} is saved. Run the same command again to go on.",
            flush=True,
        )
        raise Terminated(received)


def _controller(run: OngoingTraining) -> orbit.Controller:
    """With the newest whole checkpoint restored.

    orbit's constructor does it, by `Checkpoints.restore_or_initialize`.
    """
    trainer, options = run.trainer, run.options
    manager = checkpoints.Checkpoints(
        trainer.checkpoint(),
        run.directory,
        step=trainer.step,
        interval=options.steps_between("checkpoint_interval", run.job),
        keep=options.keep_checkpoints,
    )
    with _orbit_to_log():
        return orbit.Controller(
            global_step=trainer.step,
            trainer=trainer,
            strategy=trainer.strategy,
            steps_per_loop=options.steps_per_loop,
            checkpoint_manager=manager,
            summary_dir=_summaries(run),
        )


def _summaries(run: OngoingTraining) -> str:
    return os.path.join(run.directory, "tensorboard")


@contextlib.contextmanager
def _orbit_to_log():
    """Keeps what orbit prints off the terminal: our progress line says the same."""
    with contextlib.redirect_stdout(_LogStream()):
        yield


class _LogStream:
    def write(self, text):
        if text.strip():
            logging.getLogger("orbit").debug("%s", text.rstrip())

    def flush(self):
        pass
