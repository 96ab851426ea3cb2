"""Loss terms against hand-computed values and the published formulas."""

import numpy as np
import pytest
import tensorflow as tf

from noisy_student.config import ModelConfig
from noisy_student.training import losses


def test_smoothed_cross_entropy_has_the_published_value():
    loss = losses.hard_loss([2], tf.constant([[1.0, 2.0, 3.0]]), 0.1)
    assert float(loss) == pytest.approx(0.5076060, abs=1e-6)


def test_soft_loss_is_the_mean_cross_entropy():
    targets = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    logits = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(targets * log_p).sum(-1).mean()
    assert float(losses.soft_loss(targets, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_soften_raises_to_one_over_t_and_renormalizes(temperature):
    probabilities = np.array([[0.7, 0.2, 0.1]], np.float32)
    powered = probabilities ** (1 / temperature)
    softened = losses.soften(tf.constant(probabilities), temperature)
    np.testing.assert_allclose(softened, powered / powered.sum(), rtol=1e-6)


def test_weight_decay_takes_biases_and_leaves_batch_norm():
    model = ModelConfig(width=0.1, depth=0.1).build(10)
    paths = {variable.path for variable in losses.decayed_variables(model)}
    assert not any("/norm/" in path for path in paths)
    assert "head_dense/bias" in paths
    assert "block_0/block_0_se/reduce/bias" in paths
    batch_norm = [v for v in model.trainable_variables if "/norm/" in v.path]
    assert len(paths) + len(batch_norm) == len(model.trainable_variables)


def test_l2_penalty_is_half_the_squared_norm():
    assert float(losses.l2_penalty([tf.constant([3.0, 4.0])])) == pytest.approx(12.5)
