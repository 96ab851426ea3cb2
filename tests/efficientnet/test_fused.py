"""Compiled chains against the usual kernels: outputs, gradients, statistics."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import build_efficientnet, fused, noise, normalization

SHAPE = (3, 6, 5, 8)


def _random(shape, seed=0):
    values = np.random.default_rng(seed).normal(0.5, 1.5, shape)
    return tf.constant(values, tf.float32)


@pytest.fixture(params=[True, False], ids=["chains", "usual kernels"])
def chains(request, monkeypatch):
    """Chains for all shapes, or for none."""
    monkeypatch.setattr(fused, "SMALLEST", 0 if request.param else 2**62)
    return request.param


def _gradients(function, *inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        loss = sum(
            tf.reduce_sum(part * _random(part.shape, 7))
            for part in tf.nest.flatten(outputs)
        )
    return outputs, tape.gradient(loss, inputs)


def _assert_like(function, formula, *inputs):
    for ours, expected in zip(
        tf.nest.flatten(_gradients(function, *inputs)),
        tf.nest.flatten(_gradients(formula, *inputs)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_applies_to_large_known_float32_shapes_on_one_cpu():
    assert fused.applies(tf.zeros([16, 64, 64, 16]))
    assert not fused.applies(tf.zeros([4, 8, 8, 16]))
    assert not fused.applies(tf.zeros([16, 64, 64, 16], tf.bfloat16))
    seen = []
    tf.function(
        lambda x: seen.append(fused.applies(x)) or x,
        input_signature=[tf.TensorSpec([None, 512, 512, 16])],
    ).get_concrete_function()
    assert seen == [False]


def test_silu_and_its_gradient(chains):
    _assert_like(fused.silu, lambda x: x * tf.sigmoid(x), _random(SHAPE))


def test_mean_beside_its_input(chains):
    _assert_like(
        fused.with_mean,
        lambda x: (tf.identity(x), tf.reduce_mean(x, [1, 2], keepdims=True)),
        _random(SHAPE),
    )


def test_scale_by_a_gate(chains):
    gate = _random((3, 1, 1, 8), 1)
    _assert_like(fused.scale, lambda x, gate: x * gate, _random(SHAPE), gate)


@pytest.mark.parametrize("with_silu", [True, False])
@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 1, 8), (7, 3, 3, 8)])
def test_batch_norm(with_silu, shape):
    def ours(x, gamma, beta):
        return fused.batch_norm(x, gamma, beta, 1e-3, with_silu)[0]

    def formula(x, gamma, beta):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        y = gamma * (x - mean) / tf.sqrt(variance + 1e-3) + beta
        return y * tf.sigmoid(y) if with_silu else y

    _assert_like(ours, formula, _random(shape), _random([8], 2), _random([8], 3))
    _, mean, variance = fused.batch_norm(
        _random(shape), tf.ones(8), tf.zeros(8), 1e-3, with_silu
    )
    np.testing.assert_allclose(mean, np.mean(_random(shape), (0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(variance, np.var(_random(shape), (0, 1, 2)), atol=1e-5)


def test_folded_norm_is_the_norm_at_inference():
    layer = normalization.BatchNormalization()
    layer.build(SHAPE)
    values = np.random.default_rng(1).uniform(0.5, 2.0, (4, 8))
    layer.set_weights(list(values.astype(np.float32)))
    scale, offset = layer.folded()
    x = _random(SHAPE)
    np.testing.assert_allclose(x * scale + offset, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("remat", [False, True])
def test_a_networks_step_is_the_same_with_and_without_chains(monkeypatch, remat):
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)))
    found = []
    for smallest in (0, 2**62):
        monkeypatch.setattr(fused, "SMALLEST", smallest)
        model = build_efficientnet(num_classes=3, width=0.1, depth=0.1, remat=remat, seed=0)

        @tf.function
        def step(model=model):
            with tf.GradientTape() as tape, noise.noise_key(0, 1):
                loss = tf.reduce_sum(model(images, training=True) ** 2)
            return loss, tape.gradient(loss, model.trainable_variables)

        loss, gradients = step()
        statistics = [variable.numpy() for variable in model.non_trainable_variables]
        found.append([loss, *gradients, *statistics])
    # Some gradients are 0 but for rounding: a bias before a batch norm.
    largest = max(np.linalg.norm(value) for value in found[1])
    for ours, expected in zip(*found, strict=True):
        error = np.linalg.norm(np.asarray(ours) - np.asarray(expected))
        # Rounding grows through batch norms over few values: 1.3e-4 with oneDNN.
        assert error <= 1e-3 * np.linalg.norm(expected) + 1e-6 * largest
