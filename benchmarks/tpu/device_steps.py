"""Every kind of step that this project sends to a TPU, traced as `strategy.run` calls it.

train           a student: labeled and pseudo-labeled rows, all noise, RMSProp, averages
online_teacher  the same with a teacher that labels the batch's unlabeled images
fixres          fine-tuning at a larger size, half of the blocks fixed, without noise
label           probabilities of a batch; evaluation runs the same program
label_noised    the same with dropout and stochastic depth on
attack          evaluation of adversarial images, FGSM
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from data.augmentation import Augmentation, without_noise
from data.records import RecordSet
from efficientnet import fused
from efficientnet.freezing import num_blocks
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.evaluation.attacks import Attack
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.planning import cost
from noisy_student.training.job import TrainingJob
from noisy_student.training.train_step import NoisyStudentTrainer

TRAININGS = ("train", "online_teacher", "fixres")
STEPS = (*TRAININGS, "label", "label_noised", "attack")
_IMAGENET = 1_281_167  # Labeled images, of which schedules are made.


@dataclasses.dataclass(frozen=True)
class DeviceStep:
    """A step of a network at a size.

    Attributes:
        kind: One of `STEPS`.
        model: The network; of an online teacher too, which sees images of this size.
        rows: Images on a core; in training the labeled ones.
        ratio: Pseudo-labeled images on a core for each labeled one.
        training: What else a training's step depends on.
        classes: Size of the logits.
    """

    kind: str
    model: ModelConfig
    rows: int
    ratio: int = 0
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    classes: int = 1000

    @property
    def images(self) -> int:
        """On a core, of both kinds."""
        return self.rows * (1 + self.ratio)

    @property
    def is_training(self) -> bool:
        return self.kind in TRAININGS

    def trace(self, strategy: tf.distribute.Strategy) -> tf.Graph:
        """The graph that holds the step, marked as what a TPU core runs.

        Args:
            strategy: Of `pretended_strategy`.
        """
        if self.is_training:
            return self.trace_training(self.trainer(strategy), strategy)
        return self._traced_prediction(strategy)

    def job(self, replicas: int, teacher: str = "") -> TrainingJob:
        """The training that has this step.

        Args:
            replicas: Cores, which share its batches.
            teacher: Directory of an online teacher.
        """
        names = tuple(str(number) for number in range(self.classes))
        examples = RecordSet((), (_IMAGENET,), names)
        settings = dataclasses.replace(
            self.training,
            batch_size=self.rows * replicas,
            unlabeled_ratio=float(self.ratio),
        )
        if self.kind == "fixres" and settings.frozen_blocks < 0:
            half = num_blocks(self.model.outline(self.classes)) // 2
            settings = dataclasses.replace(settings, frozen_blocks=half)
        return TrainingJob(
            labeled=examples,
            pseudo_labeled=examples if self.ratio else None,
            model=self.model,
            training=settings,
            augmentation=self._augmentation(),
            seed=0,
            online_teacher=teacher,
        )

    def flops(self) -> float:
        """Arithmetic of a step on a core, two for a multiply-add.

        A forward pass, and backward twice as much; of `fixres` less, since half of the
        blocks have no gradients: then this is too high. A label is a forward pass, an
        attack three passes forward, one of them with a gradient to the pixels.
        """
        with fused.unfused():
            forward = 2 * cost.forward_cost(self.model, self.classes)[1]
        passes = {
            "train": 3 * self.images,
            "online_teacher": 3 * self.images + self.rows * self.ratio,
            "fixres": 3 * self.images,
            "attack": 3 * self.images,
        }
        return forward * passes.get(self.kind, self.images)

    def zeros(self) -> dict:
        """A batch of one core, of the shapes and types that the input pipeline makes."""
        batch = {"labeled": self._rows(self.rows)}
        if self.ratio:
            batch["pseudo_labeled"] = self._rows(self.rows * self.ratio)
            if self.kind == "online_teacher":  # That labels them.
                images = batch["pseudo_labeled"]["image"]
                seen = tf.zeros(images.shape, tf.float32)
                batch["pseudo_labeled"] = {"image": images, "teacher_image": seen}
            else:
                shape = [self.rows * self.ratio, self.classes]
                batch["pseudo_labeled"]["probabilities"] = tf.zeros(shape)
        return batch

    def _augmentation(self) -> Augmentation:
        return without_noise("inception") if self.kind == "fixres" else Augmentation()

    def _rows(self, count: int) -> dict:
        size = self.model.resolution
        pixels = tf.float32 if self.kind == "fixres" else tf.uint8
        images = tf.zeros([count, size, size, 3], pixels)
        return {"image": images, "label": tf.zeros([count], tf.int32)}

    def trainer(self, strategy: tf.distribute.Strategy) -> NoisyStudentTrainer:
        """What trains with this step."""
        with self._teacher() as teacher, strategy.scope():
            job = self.job(strategy.num_replicas_in_sync, teacher)
            return NoisyStudentTrainer(job, strategy)

    def trace_training(
        self, trainer: NoisyStudentTrainer, strategy: tf.distribute.Strategy
    ) -> tf.Graph:
        """The graph of a trainer's loop over batches of zeros."""
        batches = strategy.distribute_datasets_from_function(
            lambda _: tf.data.Dataset.from_tensors(self.zeros()).repeat()
        )
        steps = tf.TensorSpec([], tf.int32)
        return trainer._loop.get_concrete_function(iter(batches), steps).graph

    @contextlib.contextmanager
    def _teacher(self) -> Iterator[str]:
        """Directory of a network of this kind; empty where the step has no teacher."""
        if self.kind != "online_teacher":
            yield ""
            return
        with tempfile.TemporaryDirectory() as directory:
            # As trainings write it: `NoisyStudentTrainer.averaged_model`.
            kept = dataclasses.replace(self.model, precision="float32", remat=False)
            model = kept.build(self.classes, seed=1)
            names = [str(number) for number in range(self.classes)]
            model_files.save_model(
                model,
                directory,
                variant=self.model.variant,
                class_names=names,
                image_size=self.model.resolution,
                crop="inception",
            )
            yield directory

    def _traced_prediction(self, strategy):
        replicas = strategy.num_replicas_in_sync
        predictor = Predictor(
            self.model.build(self.classes, seed=0),
            strategy,
            self.rows * replicas,
            noise_seed=0 if self.kind == "label_noised" else None,
            attack=_fgsm if self.kind == "attack" else None,
        )
        size = self.model.resolution

        def on_cores(shape, kind):
            return strategy.experimental_distribute_values_from_function(
                lambda _: tf.zeros(shape, kind)
            )

        return predictor._predict.get_concrete_function(
            on_cores([self.rows, size, size, 3], tf.float32),
            on_cores([self.rows], tf.int32) if self.kind == "attack" else None,
            tf.TensorSpec([], tf.int64),
        ).graph


def _fgsm(model):
    return Attack(model, epsilon=16.0)
