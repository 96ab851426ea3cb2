"""Six steps of the published training code, reproduced."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data.augmentation import Augmentation
from data.records import RecordSet
from efficientnet import build_efficientnet
from efficientnet.checkpoints.tf1 import EMA_SUFFIX, tf1_variables
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.training.job import TrainingJob
from noisy_student.training.train_step import NoisyStudentTrainer

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "trajectory_soft.npz"
STEPS, LABELED = 6, 8


class GoldenModel(ModelConfig):
    """The tiny network of the recording: SVHN's normalization, no noise."""

    def build(self, num_classes, seed=None):
        return build_efficientnet(
            "efficientnet-b0",
            num_classes=num_classes,
            width=0.1,
            depth=0.5,
            small_image=True,
            dropout_rate=0.0,
            stochastic_depth_rate=0.0,
            mean=(0.4376821, 0.4437697, 0.47280442),
            std=(0.19803012, 0.20101562, 0.19703614),
            seed=seed,
        )


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def trained(golden):
    """The trainer after six steps, and the loss before each."""
    examples = RecordSet((), (4 * LABELED,), tuple("0123456789"))  # 4 steps an epoch.
    job = TrainingJob(
        labeled=examples,
        pseudo_labeled=examples,
        model=GoldenModel(),
        training=TrainingConfig(
            batch_size=LABELED,
            unlabeled_ratio=2.0,
            base_learning_rate=1.6,
            warmup="5 epochs",
            weight_decay=1e-4,
            softmax_temperature=2.0,
        ),
        augmentation=Augmentation(),
        seed=0,
    )
    trainer = NoisyStudentTrainer(job, tf.distribute.get_strategy())
    names = tf1_variables(trainer.model)
    for name, variable in names.items():
        variable.assign(golden[f"init/efficientnet-b0/{name}"])
    for shadow, variable in zip(trainer.ema.shadows, trainer.model.variables, strict=True):
        shadow.assign(variable.value)
    step = tf.function(trainer._train_step)
    losses = []
    for i in range(STEPS):
        images, labels = golden["images"][i], golden["labels"][i].astype(np.int32)
        step(
            {
                "labeled": {"image": images[:LABELED], "label": labels[:LABELED]},
                "pseudo_labeled": {
                    "image": images[LABELED:],
                    "label": labels[LABELED:],
                    "probabilities": golden["probabilities"][i],
                },
            }
        )
        losses.append(trainer._sums.take()["loss"])
    return trainer, losses


def test_losses(trained, golden):
    np.testing.assert_allclose(trained[1], golden["losses"], rtol=1e-6)


def test_weights_and_statistics(trained, golden):
    for name, variable in tf1_variables(trained[0].model).items():
        expected = golden[f"final/efficientnet-b0/{name}"]
        np.testing.assert_allclose(
            variable.numpy(), expected, atol=2e-6, rtol=1e-6, err_msg=name
        )


def test_averages(trained, golden):
    trainer, _ = trained
    by_variable = dict(
        zip(map(id, trainer.model.variables), trainer.ema.values(), strict=True)
    )
    for name, variable in tf1_variables(trainer.model).items():
        key = f"ema/efficientnet-b0/{name}"
        expected = golden[key] if key in golden else golden[key + EMA_SUFFIX]
        np.testing.assert_allclose(
            by_variable[id(variable)], expected, atol=2e-6, rtol=1e-6, err_msg=name
        )
