"""Trains one network: teacher, control or student.

orbit drives the steps of `train_step.py`: restores the newest checkpoint, runs
loops of steps on the device, saves, and writes TensorBoard summaries.
"""

import contextlib
import dataclasses
import logging
import os
import sys
import tempfile

import orbit
import tensorflow as tf

from data import bad_records, files, pipeline, service_workers
from data.errors import InputError
from data.records import RecordSet
from data.settings import setting
from efficientnet import freezing
from noisy_student import (
    bad_step,
    best_model,
    checkpoints,
    duration,
    full_disk,
    history,
    model_files,
    warm_start,
)
from noisy_student.config import check_warmup
from noisy_student.history import read_history
from noisy_student.manifest import MANIFEST, Stage
from noisy_student.progress import Progress
from noisy_student.strategy import check_group_size, check_parts, is_chief
from noisy_student.termination import Terminated, Termination
from noisy_student.train_step import NoisyStudentTrainer, TrainingJob


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """How training is run; none of it changes the result.

    But for the data service: with it the order of examples is not repeatable.
    """

    steps_per_loop: int = setting(20, "Steps between two reports, run on the device.")
    checkpoint_interval: str = setting(
        "100 steps", "Between two checkpoints; steps, epochs or images."
    )
    keep_checkpoints: int = setting(3, "Newest checkpoints that are kept.")
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

    def __post_init__(self):
        for name in ("steps_per_loop", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"`{name}`: expected 1 or more; received {getattr(self, name)}."
                )
        for name in ("checkpoint_interval", "evaluation_interval"):
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
class _Run:
    """A training that is under way."""

    trainer: NoisyStudentTrainer
    job: TrainingJob
    directory: str
    options: LoopOptions
    name: str
    best: best_model.BestModel | None = None


def train(
    job: TrainingJob,
    directory: str,
    strategy: tf.distribute.Strategy,
    options: LoopOptions = LoopOptions(),
    name: str = "training",
    validation: RecordSet | None = None,
) -> model_files.ModelInfo:
    """Trains, or goes on training, and writes the EMA model to `directory`.

    Writes `checkpoints/`, `tensorboard/`, `history.jsonl` (one line a loop) and
    at the end `model.keras` and `model.json`. Started again after a kill it
    goes on from the newest whole checkpoint; after the end it returns at once.

    Args:
        job: What to train on what.
        directory: Where everything is written.
        strategy: Where to compute.
        options: Reports and checkpoints.
        name: For the progress line.
        validation: What the best model is chosen by, with an evaluation interval.

    Raises:
        InputError: Also for a full disk, and where all checkpoints are damaged.
        FloatingPointError: The loss is no longer finite; names step and records.
        Terminated: After a SIGTERM, once the current loop's end is saved.
    """
    check_job(job, strategy)
    interval = options.evaluation_interval
    best_model.check(validation, interval, job.labeled.class_names, strategy)
    if not is_chief(strategy):
        return _assist(job, directory, strategy, options, name)
    if job.initial_weights and not _is_finished(directory):
        # Before the directory is claimed.
        warm_start.check(job.initial_weights, job.model, job.labeled.class_names)
    with full_disk.explained(directory, "what training writes"):
        stage = Stage(directory, "train", job.identity())
        if stage.complete and model_files.exists(directory):
            return model_files.load_info(directory)
        best = None
        if interval:
            steps = options.steps_between("evaluation_interval", job)
            best = best_model.BestModel(directory, validation, steps, job.total_steps)
        trainer = _trainer(job, strategy, options)
        run = _Run(trainer, job, directory, options, name, best)
        timing = _run_loop(run)
        info = _save(run)
        results = _results(run, info)
        bad_records.print_note(results["skipped_records"])
        stage.finish(results=results, timing=timing)
    return info


def _results(run: _Run, info: model_files.ModelInfo) -> dict:
    job = run.job
    images = {
        "labeled": job.labeled.num_examples,
        "pseudo_labeled": job.pseudo_labeled.num_examples if job.pseudo_labeled else 0,
    }
    results = {"steps": job.total_steps, "images": images, **dataclasses.asdict(info)}
    results["skipped_records"] = bad_records.report(job.skipped)
    if run.best:
        results["best"] = run.best.record()
    return {**results, **_service_record(run.directory)}


def _trainer(job, strategy, options: LoopOptions) -> NoisyStudentTrainer:
    if options.data_service:
        service_workers.wait_for_workers("data_service", options.data_service)
    with strategy.scope():
        return NoisyStudentTrainer(job, strategy, options.data_service)


def _assist(job, directory, strategy, options, name) -> model_files.ModelInfo:
    """A worker beside the chief: computes its share and writes nothing that stays."""
    if _is_finished(directory):
        return model_files.load_info(directory)
    trainer = _trainer(job, strategy, options)
    # Where the chief goes on from; workers share the directory.
    newest, _ = checkpoints.newest_whole(os.path.join(directory, checkpoints.CHECKPOINTS))
    if newest:
        with strategy.scope():
            trainer.checkpoint().restore(newest)
    with tempfile.TemporaryDirectory() as scratch:
        run = _Run(trainer, job, scratch, options, name)
        _run_loop(run)
        return _save(run)


def _is_finished(directory: str) -> bool:
    path = os.path.join(directory, MANIFEST)
    return tf.io.gfile.exists(path) and files.read_json(path)["complete"]


def _save(run: _Run) -> model_files.ModelInfo:
    model = run.trainer.averaged_model()
    return model_files.save_model(model, run.directory, **_info(run.job))


def _info(job: TrainingJob) -> dict:
    """What `model.json` says that the network does not know."""
    return {
        "class_names": list(job.labeled.class_names),
        "image_size": job.model.resolution,
        "crop": job.augmentation.crop,
        "variant": job.model.architecture,
    }


def check_job(job: TrainingJob, strategy) -> None:
    """Refuses what cannot work, before any work is done."""
    settings = job.training
    check_parts("batch_size", settings.batch_size, settings.accumulation_steps, strategy)
    check_group_size("batch_norm_group_size", job.model.batch_norm_group_size, strategy)
    _check_frozen(job)
    pipeline.check_not_empty(job.labeled, "labeled_data")
    check_warmup(settings, job.labeled.num_examples)
    if job.pseudo_labeled is None:
        return
    names, found = "pseudo_labeled_data", job.pseudo_labeled.class_names
    if job.online_teacher:
        names = "online_teacher"
        found = tuple(model_files.load_info(job.online_teacher).class_names)
    if found != job.labeled.class_names:
        raise InputError(
            f"`{names}`: expected the classes of the labeled data "
            f"({', '.join(job.labeled.class_names)}); received {', '.join(found)}."
        )
    if job.pseudo_batch_size < 1:
        raise InputError(
            "`unlabeled_ratio`: expected more than 0 for a student; received "
            f"{job.training.unlabeled_ratio}."
        )
    pipeline.check_not_empty(job.pseudo_labeled, "unlabeled_data")
    name = "batch_size · unlabeled_ratio"
    check_parts(name, job.pseudo_batch_size, settings.accumulation_steps, strategy)
    wanted = job.training.unlabeled_ratio * job.labeled.num_examples
    if wanted > job.pseudo_labeled.num_examples:
        print(
            f"Note: `unlabeled_ratio` {job.training.unlabeled_ratio:g} asks for "
            f"{wanted:,.0f} pseudo-labeled images in each pass over the labeled ones; "
            f"there are {job.pseudo_labeled.num_examples:,}, which repeat."
        )


def _check_frozen(job: TrainingJob) -> None:
    blocks = job.training.frozen_blocks
    if blocks < 0:
        return
    if job.initial_weights is None:
        raise InputError(
            "`frozen_blocks`: expected -1 for a network that starts at random weights, "
            f"which frozen layers would keep; received {blocks}. Name a model with "
            "--init_from."
        )
    try:
        freezing.freeze(job.model.outline(job.labeled.num_classes), blocks)
    except ValueError as error:
        raise InputError(f"`frozen_blocks`: {error}") from error


def _run_loop(run: _Run) -> dict:
    with contextlib.ExitStack() as stack:
        watch = None
        if run.options.data_service:
            stack.enter_context(_files_missing_at_workers())
            watch = stack.enter_context(service_workers.Watch(run.options.data_service))
        return _run_watched(run, watch)


@contextlib.contextmanager
def _files_missing_at_workers():
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise InputError(
            "`data_service`: expected workers that read the training files by the paths "
            f"they have here; received: {error.message} Put the files into a shared "
            "directory or a bucket."
        ) from error


def _run_watched(run: _Run, watch) -> dict:
    trainer, job = run.trainer, run.job
    controller = _controller(run)
    progress = Progress(
        run.name,
        job.total_steps,
        "steps",
        start=int(trainer.step.numpy()),
        items_per_unit=job.images_per_step,
    )
    controller.train_actions += (_reporter(run, progress, watch),)
    with (
        full_disk.explained(run.directory, "the summaries for TensorBoard"),
        bad_step.explained(trainer, run.directory),
        Termination(trainer.strategy) as termination,
    ):
        while not _run_steps(controller, job.total_steps):
            if termination.asked():
                _stop(controller, progress, job.total_steps)
    return progress.finish()


def _controller(run: _Run) -> orbit.Controller:
    """With the newest whole checkpoint restored."""
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
            summary_dir=os.path.join(run.directory, "tensorboard"),
        )


def _reporter(run: _Run, progress: Progress, watch):
    """What is done after each loop, before its checkpoint."""
    before, shown = int(run.trainer.step.numpy()), sys.stdout

    def report(means):
        nonlocal before
        step = int(run.trainer.step.numpy())
        progress.update(step, loss=means["loss"])
        if run.best and run.best.due(before, step):
            name = f"{run.name} on validation, step {step}"
            with contextlib.redirect_stdout(shown):
                top_1 = run.best.evaluate(run.trainer, step, _info(run.job), name)
            means["validation_top_1"] = top_1  # orbit writes it to TensorBoard.
        before = step
        row = {"step": step, **means}
        row["timing"] = {"images_per_second": row.pop("images_per_second")}
        if watch:
            row["data_service"] = watch.take(look=step >= run.job.total_steps)
        history.append(run.directory, row)

    return report


def _run_steps(controller, total_steps: int) -> bool:
    """One loop on the device; with nothing left to do, saves and returns True."""
    step = int(controller.global_step.numpy())
    with _orbit_to_log():
        if step >= total_steps:
            controller.save_checkpoint()
            return True
        until = min(step + controller.steps_per_loop, total_steps)
        controller.train(until, checkpoint_at_completion=False)
    return False


def _stop(controller, progress, total_steps: int) -> None:
    """What a SIGTERM leads to, once a loop has ended."""
    with _orbit_to_log():
        controller.save_checkpoint()
    progress.finish("SIGTERM")
    print(
        f"Stopped by SIGTERM: step {int(controller.global_step.numpy()):,} of "
        f"{total_steps:,} is saved. Run the same command again to go on.",
        flush=True,
    )
    raise Terminated


def _service_record(directory: str) -> dict:
    """What the manifest says of a data service: nothing if none was used."""
    steps = lost = most = before = 0
    for row in read_history(directory):
        if served := row.get("data_service"):
            steps += row["step"] - before
            lost += served["lost"]
            most = max(most, served["workers"])
        before = row["step"]
    if not steps:
        return {}
    record = {"steps": steps, "most_workers": most, "workers_lost": lost}
    return {"data_service": record}


@contextlib.contextmanager
def _orbit_to_log():
    """orbit prints every loop; the progress line says it in one."""
    with contextlib.redirect_stdout(_LogStream()):
        yield


class _LogStream:
    def write(self, text):
        if text.strip():
            logging.getLogger("orbit").debug("%s", text.rstrip())

    def flush(self):
        pass
