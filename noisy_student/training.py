"""Trains one network: teacher, control or student.

A step sees labeled and pseudo-labeled images in one batch (paper §2, published
`main.py`):

    x    = concat(labeled images, pseudo-labeled images)
    L    = mean cross entropy of the labeled rows, labels smoothed
    U    = mean cross entropy of the pseudo-labeled rows
    loss = L + unlabeled_ratio · U + weight_decay · Σ ½‖v‖²

orbit drives it: restores the newest checkpoint, runs loops of steps on the
device, saves, and writes TensorBoard summaries.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import time

import keras
import orbit
import tensorflow as tf

from data import pipeline
from data.augmentation import Augmentation
from data.records import RecordSet
from data.settings import setting
from efficientnet import noise_key
from noisy_student import ema, losses, model_files, optimizer
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.manifest import Stage
from noisy_student.progress import Progress
from noisy_student.strategy import check_batch_size

HISTORY = "history.jsonl"


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """How training is run; none of it changes the result."""

    steps_per_loop: int = setting(20, "Steps between two reports, run on the device.")
    checkpoint_interval: int = setting(100, "Steps between two checkpoints.")
    keep_checkpoints: int = setting(3, "Newest checkpoints that are kept.")


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """Everything that decides the trained weights.

    Attributes:
        labeled: Records with true labels.
        pseudo_labeled: Balanced records of the teacher's labels, or None.
        model: The network.
        training: Loss, optimizer and schedule.
        augmentation: Input noise, the same for both kinds of images.
        seed: Of weights, order and noise.
    """

    labeled: RecordSet
    pseudo_labeled: RecordSet | None
    model: ModelConfig
    training: TrainingConfig
    augmentation: Augmentation
    seed: int

    @property
    def total_steps(self) -> int:
        return self.training.total_steps(self.labeled.num_examples)

    @property
    def pseudo_batch_size(self) -> int:
        if self.pseudo_labeled is None:
            return 0
        return math.ceil(self.training.batch_size * self.training.unlabeled_ratio)

    @property
    def images_per_step(self) -> int:
        return self.training.batch_size + self.pseudo_batch_size

    def identity(self) -> dict:
        return {
            "labeled_data": self.labeled.fingerprint(),
            "pseudo_labeled_data": self.pseudo_labeled
            and self.pseudo_labeled.fingerprint(),
            "model": dataclasses.asdict(self.model),
            "training": dataclasses.asdict(self.training),
            "augmentation": dataclasses.asdict(self.augmentation),
            "seed": self.seed,
        }


def train(
    job: TrainingJob,
    directory: str,
    strategy: tf.distribute.Strategy,
    options: LoopOptions = LoopOptions(),
    name: str = "training",
) -> model_files.ModelInfo:
    """Trains, or goes on training, and writes the EMA model to `directory`.

    Writes `checkpoints/`, `tensorboard/`, `history.jsonl` (one line a loop) and
    at the end `model.keras` and `model.json`. Started again after a kill it
    goes on from the newest checkpoint; after the end it returns at once.

    Args:
        job: What to train on what.
        directory: Where everything is written.
        strategy: Where to compute.
        options: Reports and checkpoints.
        name: For the progress line.
    """
    _check(job, strategy)
    stage = Stage(directory, "train", job.identity())
    if stage.complete:
        return model_files.load_info(directory)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    timing = _run_loop(trainer, job, directory, strategy, options, name)
    info = model_files.save_model(
        trainer.averaged_model(),
        directory,
        class_names=list(job.labeled.class_names),
        image_size=job.model.resolution,
        crop=job.augmentation.crop,
        variant=job.model.variant,
    )
    stage.finish(
        results={"steps": job.total_steps, **dataclasses.asdict(info)}, timing=timing
    )
    return info


class NoisyStudentTrainer(orbit.AbstractTrainer):
    """The inner loop: `train` runs a number of steps on the strategy's devices."""

    def __init__(self, job: TrainingJob, strategy: tf.distribute.Strategy):
        self._job, self._strategy = job, strategy
        self.schedule = optimizer.schedule_for(job.training, job.labeled.num_examples)
        self.model = job.model.build(job.labeled.num_classes, seed=job.seed)
        self.optimizer = optimizer.RMSProp(self.schedule)
        self.optimizer.build(self.model.trainable_variables)
        self.ema = ema.ExponentialMovingAverage(
            self.model.variables, job.training.ema_decay
        )
        self._decayed = losses.decayed_variables(self.model)
        self._sums = _Sums(self._metric_names())
        self._iterator = None

    @property
    def step(self) -> tf.Variable:
        return self.optimizer.iterations.value

    def checkpoint(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(model=self.model, optimizer=self.optimizer, ema=self.ema)

    def averaged_model(self) -> keras.Model:
        """A new model, outside any strategy, with the averaged weights."""
        model = self._job.model.build(self._job.labeled.num_classes)
        for variable, value in zip(model.variables, self.ema.values(), strict=True):
            variable.assign(value)
        return model

    def train(self, num_steps: tf.Tensor) -> dict[str, float]:
        """Runs `num_steps` steps; returns the mean of each metric over them.

        Also the last step's `learning_rate`, and `images_per_second`.
        """
        began = time.monotonic()
        if self._iterator is None:  # Only now is the restored step known.
            self._iterator = iter(self._batches(int(self.step.numpy())))
        self._loop(self._iterator, num_steps)
        means = {key: value / int(num_steps) for key, value in self._sums.take().items()}
        means["learning_rate"] = float(self.schedule(self.step.numpy() - 1))
        images = int(num_steps) * self._job.images_per_step
        means["images_per_second"] = images / (time.monotonic() - began)
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(
                f"The loss is {means['loss']} within the {int(num_steps)} steps before "
                f"step {int(self.step.numpy())}, at learning rate "
                f"{means['learning_rate']:.3g}. The last checkpoint is from before; "
                "lower --base_learning_rate or lengthen --warmup_epochs."
            )
        return means

    @tf.function
    def _loop(self, iterator, num_steps):
        # A loop around strategy.run, in this order: the other way round fails
        # under MirroredStrategy, and on a TPU this is the device's own loop.
        for _ in tf.range(num_steps):
            self._strategy.run(self._train_step, args=(next(iterator),))

    def _train_step(self, batch) -> None:
        job, step = self._job, self.optimizer.iterations
        labeled, pseudo = batch["labeled"], batch.get("pseudo_labeled")
        images = labeled["image"]  # [B, S, S, 3]
        if pseudo:
            images = tf.concat([images, pseudo["image"]], 0)  # [B + ratio·B, S, S, 3]
        with tf.GradientTape() as tape:
            with noise_key(job.seed, step.value):
                logits = self.model(images, training=True)  # [B + ratio·B, C]
            loss, metrics = self._loss(labeled, pseudo, logits)
            # Gradients are summed over replicas: each contributes its share.
            share = loss / self._strategy.num_replicas_in_sync
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(share, variables), variables, strict=True)
        )
        self.ema.update(step.value)
        self._sums.add(metrics)

    def _loss(self, labeled, pseudo, logits):
        settings = self._job.training
        num_labeled = labeled["image"].shape[0]
        labeled_logits, pseudo_logits = logits[:num_labeled], logits[num_labeled:]
        labeled_loss = losses.labeled_loss(
            labeled["label"], labeled_logits, settings.label_smoothing
        )
        metrics = {
            "labeled_loss": labeled_loss,
            "labeled_accuracy": _agreement(labeled_logits, labeled["label"]),
        }
        loss = labeled_loss
        if pseudo:
            targets = losses.soften(pseudo["probabilities"], settings.softmax_temperature)
            if settings.soft_labels:
                pseudo_loss = losses.soft_loss(targets, pseudo_logits)
            else:
                pseudo_loss = losses.labeled_loss(
                    pseudo["label"], pseudo_logits, settings.label_smoothing
                )
            loss += settings.unlabeled_ratio * pseudo_loss
            metrics["pseudo_labeled_loss"] = pseudo_loss
            metrics["target_confidence"] = tf.reduce_mean(tf.reduce_max(targets, -1))
            metrics["teacher_agreement"] = _agreement(pseudo_logits, pseudo["label"])
        loss += settings.weight_decay * losses.l2_penalty(self._decayed)
        return loss, {"loss": loss, **metrics}

    def _metric_names(self):
        names = ["loss", "labeled_loss", "labeled_accuracy"]
        if self._job.pseudo_labeled:
            names += ["pseudo_labeled_loss", "target_confidence", "teacher_agreement"]
        return names

    def _batches(self, start_step: int):
        """Distributed batches from `start_step` on: labeled and pseudo-labeled."""

        def dataset(context: tf.distribute.InputContext):
            share = pipeline.HostShare(
                context.input_pipeline_id, context.num_input_pipelines
            )
            replicas = context.num_replicas_in_sync // context.num_input_pipelines

            def batches(examples, global_batch, pseudo_labeled):
                per_replica = context.get_per_replica_batch_size(global_batch)
                return pipeline.training_batches(
                    self._stream(examples, pseudo_labeled),
                    per_replica,
                    start_example=start_step * per_replica * replicas,
                    share=share,
                )

            job = self._job
            streams = {"labeled": batches(job.labeled, job.training.batch_size, False)}
            if job.pseudo_labeled:
                streams["pseudo_labeled"] = batches(
                    job.pseudo_labeled, job.pseudo_batch_size, True
                )
            return tf.data.Dataset.zip(streams)

        return self._strategy.distribute_datasets_from_function(dataset)

    def _stream(self, examples, pseudo_labeled):
        return pipeline.TrainingInput(
            examples=examples,
            image_size=self._job.model.resolution,
            augmentation=self._job.augmentation,
            seed=self._job.seed,
            pseudo_labeled=pseudo_labeled,
        )


class _Sums:
    """Sums of metrics, kept on each replica until `take` averages them."""

    def __init__(self, names):
        self._variables = {
            name: tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for name in names
        }

    def add(self, metrics) -> None:
        for name, value in metrics.items():
            self._variables[name].assign_add(value)

    def take(self) -> dict[str, float]:
        """The sums, averaged over replicas; they start again from 0."""
        values = {name: float(v.numpy()) for name, v in self._variables.items()}
        for variable in self._variables.values():
            variable.assign(0.0)
        return values


def _check(job: TrainingJob, strategy) -> None:
    check_batch_size("batch_size", job.training.batch_size, strategy)
    pipeline.check_not_empty(job.labeled, "labeled_data")
    if job.pseudo_labeled is None:
        return
    pipeline.check_not_empty(job.pseudo_labeled, "unlabeled_data")
    check_batch_size("batch_size · unlabeled_ratio", job.pseudo_batch_size, strategy)
    if job.pseudo_batch_size > job.pseudo_labeled.num_examples:
        print(
            f"Note: a step wants {job.pseudo_batch_size:,} pseudo-labeled images and "
            f"there are {job.pseudo_labeled.num_examples:,}: they repeat within a batch."
        )


def _run_loop(trainer, job, directory, strategy, options, name) -> dict:
    manager = tf.train.CheckpointManager(
        trainer.checkpoint(),
        os.path.join(directory, "checkpoints"),
        max_to_keep=options.keep_checkpoints,
        step_counter=trainer.step,
        checkpoint_interval=options.checkpoint_interval,
    )
    with _orbit_to_log():
        controller = orbit.Controller(
            global_step=trainer.step,
            trainer=trainer,
            strategy=strategy,
            steps_per_loop=options.steps_per_loop,
            checkpoint_manager=manager,
            summary_dir=os.path.join(directory, "tensorboard"),
        )
    progress = Progress(
        name,
        job.total_steps,
        "steps",
        start=int(trainer.step.numpy()),
        items_per_unit=job.images_per_step,
    )

    def report(means):
        step = int(trainer.step.numpy())
        progress.update(step, loss=means["loss"])
        row = {"step": step, **means}
        row["timing"] = {"images_per_second": row.pop("images_per_second")}
        with tf.io.gfile.GFile(os.path.join(directory, HISTORY), "a") as history:
            history.write(json.dumps(row) + "\n")

    controller.train_actions += (report,)
    with _orbit_to_log():
        controller.train(job.total_steps)
    return progress.finish()


def read_history(directory: str) -> list[dict]:
    """The training curve, a dict a loop; a rerun's lines replace older ones."""
    path = os.path.join(directory, HISTORY)
    if not tf.io.gfile.exists(path):
        return []
    rows = {}
    with tf.io.gfile.GFile(path, "r") as history:
        for line in history.read().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # Cut off by a kill.
                row = json.loads(line)
                rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


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


def _agreement(logits, labels) -> tf.Tensor:
    best = tf.argmax(logits, -1, output_type=tf.int32)
    return tf.reduce_mean(tf.cast(tf.equal(best, labels), tf.float32))
