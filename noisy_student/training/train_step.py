"""One training step of teacher, control or student, and the loop around it.

A step sees labeled and pseudo-labeled images in one batch (paper §2, published
`main.py`):

    x    = concat(labeled images, pseudo-labeled images)
    L    = mean cross entropy of the labeled rows, labels smoothed
    U    = mean cross entropy of the pseudo-labeled rows
    loss = L + unlabeled_ratio · U + weight_decay · Σ ½‖v‖²

Other weightings, and parts of it that can be switched off: `TrainingConfig`.
"""

import contextlib
import dataclasses
import math
import time

import keras
import orbit
import tensorflow as tf

from data import pipeline, service
from data.augmentation import Augmentation
from data.records import BadRecord, RecordSet
from efficientnet import freezing, noise
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.models import model_files, warm_start
from noisy_student.models.warm_start import InitialWeights
from noisy_student.stages.parents import Parent, parent_records
from noisy_student.training import bad_step, ema, losses, optimizer


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """Everything that decides the trained weights.

    Attributes:
        labeled: Records with true labels.
        pseudo_labeled: Balanced records of the teacher's labels; with an online
            teacher, unlabeled records; or None.
        model: The network.
        training: Loss, optimizer and schedule.
        augmentation: Input noise, the same for both kinds of images.
        seed: Of weights, order and noise.
        online_teacher: Directory of a trained model that labels each batch's
            unlabeled images as training runs, without noise; empty: none.
        initial_weights: What to start from; None: random weights.
    """

    labeled: RecordSet
    pseudo_labeled: RecordSet | None
    model: ModelConfig
    training: TrainingConfig
    augmentation: Augmentation
    seed: int
    online_teacher: str = ""
    initial_weights: InitialWeights | None = None

    @property
    def total_steps(self) -> int:
        return self.training.total_steps(self.labeled.num_examples)

    @property
    def pseudo_batch_size(self) -> int:
        return 0 if self.pseudo_labeled is None else self.training.pseudo_batch_size

    @property
    def images_per_step(self) -> int:
        return self.training.batch_size + self.pseudo_batch_size

    @property
    def skipped(self) -> tuple[BadRecord, ...]:
        pseudo_labeled = self.pseudo_labeled.skipped if self.pseudo_labeled else ()
        return self.labeled.skipped + pseudo_labeled

    def identity(self) -> dict:
        return {
            "labeled_data": self.labeled.fingerprint(),
            "pseudo_labeled_data": self.pseudo_labeled
            and self.pseudo_labeled.fingerprint(),
            "online_teacher": self.online_teacher
            and model_files.load_info(self.online_teacher).weights_sha256,
            "class_names": list(self.labeled.class_names),
            "label_offset": self.labeled.label_offset,
            "model": dataclasses.asdict(self.model),
            "training": dataclasses.asdict(self.training),
            "augmentation": dataclasses.asdict(self.augmentation),
            "seed": self.seed,
            "initial_weights": self.initial_weights and self.initial_weights.identity(),
        }

    def parents(self, identity: dict) -> dict[str, Parent]:
        """Where what `identity` names lies."""
        found = {"labeled_data": parent_records(self.labeled, identity["labeled_data"])}
        if self.pseudo_labeled:
            fingerprint = identity["pseudo_labeled_data"]
            parent = parent_records(self.pseudo_labeled, fingerprint)
            found["pseudo_labeled_data"] = parent
        if self.online_teacher:
            found["online_teacher"] = Parent(
                self.online_teacher, identity["online_teacher"]
            )
        if self.initial_weights:
            found["initial_weights"] = Parent(
                self.initial_weights.directory, self.initial_weights.weights_sha256
            )
        return found


class NoisyStudentTrainer(orbit.AbstractTrainer):
    """The inner loop: `train` runs a number of steps on the strategy's devices.

    Args:
        job: What to train on what.
        strategy: Where to compute.
        data_service: Dispatcher of the workers that make the batches; empty:
            they are made in this process.
    """

    def __init__(self, job: TrainingJob, strategy, data_service: str = ""):
        self._job, self._strategy, self._data_service = job, strategy, data_service
        self.schedule = optimizer.schedule_for(job.training, job.labeled.num_examples)
        self.model = job.model.build(job.labeled.num_classes, seed=job.seed)
        if job.initial_weights:  # Before the averages, which start at these weights.
            names = job.labeled.class_names
            warm_start.start_from(job.initial_weights, self.model, names)
        if job.training.frozen_blocks >= 0:  # Only now: they keep what they hold.
            freezing.freeze(self.model, job.training.frozen_blocks)
        self.optimizer = optimizer.RMSProp(self.schedule)
        self.optimizer.build(self.model.trainable_variables)
        self.ema = ema.ExponentialMovingAverage(
            self.model.variables, job.training.ema_decay
        )
        self._teacher, self._teacher_view = _teacher(job.online_teacher)
        self._decayed = losses.decayed_variables(self.model)
        self._sums = _Sums(self._metric_names())
        self._first_bad = bad_step.FirstBadStep(strategy.num_replicas_in_sync)
        self._iterator = None
        # What this process reads: stream, examples a batch, share of the input.
        self._reads = []

    @property
    def strategy(self) -> tf.distribute.Strategy:
        return self._strategy

    @property
    def step(self) -> tf.Variable:
        return self.optimizer.iterations.value

    def checkpoint(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(model=self.model, optimizer=self.optimizer, ema=self.ema)

    def averaged_model(self) -> keras.Model:
        """A new model, outside any strategy, with the averaged weights.

        In float32 whatever the training's precision: it is to run anywhere.
        """
        config = dataclasses.replace(self._job.model, precision="float32", remat=False)
        model = config.build(self._job.labeled.num_classes)
        for variable, value in zip(model.variables, self.ema.values(), strict=True):
            variable.assign(value)
        warm_start.copy_pixel_scaling(self.model, model)
        return model

    def train(self, num_steps: tf.Tensor) -> dict[str, float]:
        """Runs `num_steps` steps; returns the mean of each metric over them.

        Also the last step's `learning_rate`, and `images_per_second`.

        Raises:
            NotFinite: A loss, or a number that a checkpoint would keep.
        """
        began = time.monotonic()
        step = int(self.step.numpy())
        if self._iterator is None:  # Only now is the restored step known.
            self._iterator = iter(self._batches(step))
        with contextlib.ExitStack() as explained:
            for stream, batch_size, share in self._reads:
                part = (1, 0, stream.examples.num_examples)
                if share:
                    per_step = batch_size * share.replicas
                    part = (batch_size, step * per_step, int(num_steps) * per_step, share)
                explained.enter_context(pipeline.explained_training(stream, *part))
            self._loop(self._iterator, num_steps)
        means = {key: value / int(num_steps) for key, value in self._sums.take().items()}
        means["learning_rate"] = float(self.schedule(self.step.numpy() - 1))
        images = int(num_steps) * self._job.images_per_step
        means["images_per_second"] = images / (time.monotonic() - began)
        self._check_finite(means["loss"])
        return means

    def _check_finite(self, mean_loss: float) -> None:
        finite = math.isfinite(mean_loss)
        first = self._first_bad.take()
        if finite and not first:
            return
        step = first or int(self.step.numpy())  # Finite losses, infinite in sum.
        rate = float(self.schedule(step - 1))
        raise bad_step.NotFinite(step, rate, "weights" if finite else "loss")

    def records_of(self, step: int) -> dict[str, list[dict]] | None:
        """What the batch of a step was made of, on all hosts; None if not known.

        Args:
            step: Counted from 1, not before the step that `train` began at.

        Returns:
            By kind of the stream: see `pipeline.named_examples`.
        """
        found = {}
        for stream, batch_size, share in self._reads:
            if share is None:
                return None
            kind = stream.kind
            if kind in found:  # Several hosts that one process reads for.
                continue
            count = batch_size * share.replicas
            found[kind] = []
            for index in range(share.count):
                host = dataclasses.replace(share, index=index)
                part = (stream, batch_size, (step - 1) * count, count, host)
                found[kind] += pipeline.named_examples(*part)
        return found

    @tf.function
    def _loop(self, iterator, num_steps):
        # A loop around strategy.run, in this order: the other way round fails
        # under MirroredStrategy, and on a TPU this is the device's own loop.
        for _ in tf.range(num_steps):
            self._strategy.run(self._train_step, args=(next(iterator),))
        self._strategy.run(self._look_at_weights)

    def _look_at_weights(self) -> None:
        """Between two loops a checkpoint may be written: of finite numbers alone."""
        kept = [v.value for v in self.model.variables + self.optimizer.variables]
        self._first_bad.look(bad_step.all_finite(kept + self.ema.shadows), self.step)

    def _train_step(self, batch) -> None:
        gradients, metrics = self._gradients(batch)
        gradients = self._clipped(gradients)
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        step = self.optimizer.iterations.value
        self.ema.update(step)
        self._sums.add(metrics)
        self._first_bad.look(tf.math.is_finite(metrics["loss"]), step)

    def _gradients(self, batch) -> tuple[list, dict]:
        """This replica's share of the gradients, which are summed over replicas.

        A batch in k parts gives the mean of k means; each part has batch-norm
        statistics and noise of its own.
        """
        parts = _parts(batch, self._job.training.accumulation_steps)
        gradients, sums = [], {}
        for number, part in enumerate(parts):
            # One after the other, so that memory holds one part's activations.
            with tf.control_dependencies(gradients):
                part = _after(part, gradients) if gradients else part
                found, metrics = self._gradients_of_part(part, number)
            found = [gradient / len(parts) for gradient in found]
            if gradients:
                found = [x + y for x, y in zip(gradients, found, strict=True)]
            gradients = found
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value / len(parts)
        return gradients, sums

    def _gradients_of_part(self, batch, number: int) -> tuple[list, dict]:
        job, step = self._job, self.optimizer.iterations
        labeled, pseudo = batch["labeled"], batch.get("pseudo_labeled")
        images = labeled["image"]  # [B, S, S, 3]
        if pseudo:
            images = tf.concat([images, pseudo["image"]], 0)  # [B + ratio·B, S, S, 3]
        if self._teacher:
            pseudo = self._labeled_online(pseudo)
        noisy_rows = _noisy_rows(job.training, labeled["image"].shape[0], images.shape[0])
        with tf.GradientTape() as tape:
            with noise.noise_key(job.seed, step.value, number, noisy_rows):
                logits = self.model(images, training=True)  # [B + ratio·B, C]
                logits = tf.cast(logits, tf.float32)  # An own model's may be bfloat16.
                loss, metrics = self._loss(labeled, pseudo, logits)
            # Gradients are summed over replicas: each contributes its share.
            share = loss / self._strategy.num_replicas_in_sync
        return tape.gradient(share, self.model.trainable_variables), metrics

    def _labeled_online(self, unlabeled) -> dict:
        """The teacher's soft and hard labels of a batch, as if they were stored."""
        logits = self._teacher(unlabeled["teacher_image"], training=False)
        return {
            "image": unlabeled["image"],
            "label": tf.argmax(logits, -1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(tf.cast(logits, tf.float32)),
        }

    def _clipped(self, gradients) -> list:
        """Gradients whose sum over replicas has at most `clip_gradient_norm`.

        g · min(1, limit / ‖g‖), the norm being that of all gradients together.
        """
        limit = self._job.training.clip_gradient_norm
        if not limit:
            return gradients
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        scale = limit / tf.maximum(tf.linalg.global_norm(summed), limit)
        # Each replica's own part: the optimizer sums them again.
        return [gradient * scale for gradient in gradients]

    def _loss(self, labeled, pseudo, logits):
        settings = self._job.training
        num_labeled = labeled["image"].shape[0]
        labeled_logits, pseudo_logits = logits[:num_labeled], logits[num_labeled:]
        labeled_loss = losses.labeled_loss(
            labeled["label"],
            labeled_logits,
            settings.label_smoothing,
            self._drawn(num_labeled),
        )
        metrics = {
            "labeled_loss": labeled_loss,
            "labeled_accuracy": _agreement(labeled_logits, labeled["label"]),
        }
        loss = labeled_loss
        if pseudo:
            pseudo_loss, pseudo_metrics = self._pseudo_loss(pseudo, pseudo_logits)
            loss = losses.combined(
                labeled_loss, pseudo_loss, settings.unlabeled_ratio, settings.loss_weighting
            )
            metrics |= pseudo_metrics
        loss += settings.weight_decay * losses.l2_penalty(self._decayed)
        return loss, {"loss": loss, **metrics}

    def _pseudo_loss(self, pseudo, logits):
        settings = self._job.training
        targets = losses.soften(pseudo["probabilities"], settings.softmax_temperature)
        if settings.soft_labels:
            loss = losses.soft_loss(targets, logits)
        else:
            loss = losses.labeled_loss(pseudo["label"], logits, settings.label_smoothing)
        return loss, {
            "pseudo_labeled_loss": loss,
            "target_confidence": tf.reduce_mean(tf.reduce_max(targets, -1)),
            "teacher_agreement": _agreement(logits, pseudo["label"]),
        }

    def _drawn(self, num_labeled: int) -> tf.Tensor | None:
        """Which labeled images count, 0 or 1 `[B]`; None where all do."""
        probability = self._job.training.labeled_sample_probability
        if probability == 1:
            return None
        drawn = noise.uniform([num_labeled], "labeled_sample") < probability
        return tf.cast(drawn, tf.float32)

    def _metric_names(self):
        names = ["loss", "labeled_loss", "labeled_accuracy"]
        if self._job.pseudo_labeled:
            names += ["pseudo_labeled_loss", "target_confidence", "teacher_agreement"]
        return names

    def _batches(self, start_step: int):
        """Distributed batches from `start_step` on: labeled and pseudo-labeled."""

        def dataset(context: tf.distribute.InputContext):
            share = pipeline.HostShare(
                context.input_pipeline_id,
                context.num_input_pipelines,
                context.num_replicas_in_sync // context.num_input_pipelines,
            )

            def batches(examples, global_batch, kind):
                per_replica = context.get_per_replica_batch_size(global_batch)
                stream = self._stream(examples, kind)
                start = start_step * per_replica * share.replicas
                place = (stream, per_replica, start, share)
                if self._data_service:
                    # Which example comes when is not known: look at all of them.
                    self._reads.append((stream, None, None))
                    return service.training_batches(self._data_service, *place)
                self._reads.append((stream, per_replica, share))
                return pipeline.training_batches(*place)

            job = self._job
            streams = {"labeled": batches(job.labeled, job.training.batch_size, "labeled")}
            if job.pseudo_labeled:
                kind = "unlabeled" if job.online_teacher else "pseudo_labeled"
                streams["pseudo_labeled"] = batches(
                    job.pseudo_labeled, job.pseudo_batch_size, kind
                )
            endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            # Not known, workers would ask each other before every step whether one of
            # them has reached an end, and batches would lose their static shapes.
            return tf.data.Dataset.zip(streams).apply(endless)

        return self._strategy.distribute_datasets_from_function(dataset)

    def _stream(self, examples, kind: str):
        augmentation = self._job.augmentation
        if kind != "labeled" and not self._job.training.pseudo_labeled_augmentation:
            # As the published code without a policy: crop and mirror stay.
            augmentation = dataclasses.replace(augmentation, num_ops=0, cutout=False)
        return pipeline.TrainingInput(
            examples=examples,
            image_size=self._job.model.resolution,
            augmentation=augmentation,
            seed=self._job.seed,
            kind=kind,
            teacher_view=self._teacher_view,
        )


def _teacher(directory: str):
    """The frozen network and how it sees images; None twice without a directory."""
    if not directory:
        return None, None
    trained, info = model_files.load_model(directory)
    network = keras.models.clone_model(trained)  # Within the strategy's scope.
    network.set_weights(trained.get_weights())
    network.trainable = False
    return network, pipeline.TeacherView(info.image_size, info.crop)


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


def _parts(batch, count: int) -> list:
    """The batch in `count` equal parts, each with labeled and pseudo-labeled rows."""
    if count == 1:
        return [batch]
    pieces = [tf.split(rows, count) for rows in tf.nest.flatten(batch)]
    return [tf.nest.pack_sequence_as(batch, part) for part in zip(*pieces, strict=True)]


def _after(part, gradients):
    """The same rows, which cannot be used before the gradients are there.

    XLA, and with it a TPU, does not heed `tf.control_dependencies`. Here the rows depend
    on the gradients by their values: a zero is added that XLA does not know to be one.
    """
    some = tf.stack([tf.reshape(gradient, [-1])[0] for gradient in gradients])
    never = tf.reduce_all(some > math.inf)
    return tf.nest.map_structure(lambda rows: rows + tf.cast(never, rows.dtype), part)


def _noisy_rows(settings, num_labeled: int, num_images: int) -> dict[str, tf.Tensor]:
    """Rows that have dropout and stochastic depth, where not all have."""
    labeled = tf.range(num_images) < num_labeled
    switches = {
        "dropout": settings.pseudo_labeled_dropout,
        "stochastic_depth": settings.pseudo_labeled_stochastic_depth,
    }
    return {kind: labeled for kind, on in switches.items() if not on}


def _agreement(logits, labels) -> tf.Tensor:
    best = tf.argmax(logits, -1, output_type=tf.int32)
    return tf.reduce_mean(tf.cast(tf.equal(best, labels), tf.float32))
