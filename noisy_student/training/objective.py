"""The loss of a batch by the settings of a training, and what is shown of it.

    L    = mean cross entropy of the labeled images, labels smoothed
    U    = mean cross entropy of the pseudo-labeled images, soft or hard labels
    loss = labeled_loss_weight · L + unlabeled_ratio · U + weight_decay · Σ ½‖v‖²

Other weightings, and parts of it that can be switched off: `TrainingConfig`.
"""

from collections.abc import Mapping

import keras
import tensorflow as tf

from efficientnet import noise
from noisy_student.config import TrainingConfig
from noisy_student.training import losses


class Objective:
    """Calling it gives the loss and the metrics of a batch.

    Args:
        settings: Of the training.
        model: The network that is trained.
        has_pseudo_labels: Whether batches hold pseudo-labeled images too.
    """

    def __init__(
        self, settings: TrainingConfig, model: keras.Model, has_pseudo_labels: bool
    ):
        self._settings, self._has_pseudo_labels = settings, has_pseudo_labels
        self._decayed = losses.decayed_variables(model)

    def __call__(
        self,
        labeled: Mapping[str, tf.Tensor],
        pseudo: Mapping[str, tf.Tensor] | None,
        logits: tf.Tensor,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The loss of one replica's batch, and what is shown of it, all scalars.

        Args:
            labeled: `image` `[B, S, S, 3]` and `label` int32 `[B]`, 0 to C - 1, as
                `data.example_tensors.checked_label` made sure.
            pseudo: `label` int32 `[R]` and `probabilities` float32 `[R, C]`; or None.
            logits: float32 `[B + R, C]`, of the labeled images first.
        """
        settings = self._settings
        num_labeled = labeled["image"].shape[0]
        labeled_logits, pseudo_logits = logits[:num_labeled], logits[num_labeled:]
        labeled_loss = losses.hard_loss(
            labeled["label"],
            labeled_logits,
            settings.label_smoothing,
            self.drawn(num_labeled),
        )
        metrics = {
            "labeled_loss": labeled_loss,
            "labeled_accuracy": _agreement(labeled_logits, labeled["label"]),
        }
        loss = settings.labeled_loss_weight * labeled_loss
        if pseudo:
            pseudo_loss, pseudo_metrics = self._pseudo_loss(pseudo, pseudo_logits)
            loss = losses.combined(
                loss, pseudo_loss, settings.unlabeled_ratio, settings.loss_weighting
            )
            metrics |= pseudo_metrics
        metrics["l2_penalty"] = losses.l2_penalty(self._decayed)
        loss += settings.weight_decay * metrics["l2_penalty"]
        return loss, {"loss": loss, **metrics}

    def _pseudo_loss(self, pseudo, logits):
        settings = self._settings
        targets = losses.soften(pseudo["probabilities"], settings.softmax_temperature)
        if settings.soft_labels:
            loss = losses.soft_loss(targets, logits)
        else:
            loss = losses.hard_loss(pseudo["label"], logits, settings.label_smoothing)
        return loss, {
            "pseudo_labeled_loss": loss,
            "target_confidence": tf.reduce_mean(tf.reduce_max(targets, -1)),
            "teacher_agreement": _agreement(logits, pseudo["label"]),
        }

    def drawn(self, num_labeled: int) -> tf.Tensor | None:
        """Which labeled images count, 0 or 1 `[B]`; None where all do."""
        probability = self._settings.labeled_sample_probability
        if probability == 1:
            return None
        drawn = noise.uniform([num_labeled], "labeled_sample") < probability
        return tf.cast(drawn, tf.float32)

    def metric_names(self) -> list[str]:
        names = ["loss", "labeled_loss", "labeled_accuracy", "l2_penalty"]
        if self._has_pseudo_labels:
            names += ["pseudo_labeled_loss", "target_confidence", "teacher_agreement"]
        return names


def _agreement(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    best = tf.argmax(logits, -1, output_type=tf.int32)
    return tf.reduce_mean(tf.cast(tf.equal(best, labels), tf.float32))
