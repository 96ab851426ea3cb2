"""Batch norm against NumPy, noise by (seed, step, replica, layer), normalization."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import layers

ROOT = pathlib.Path(__file__).parents[2]
EPSILON = 1e-3
NOISE = [layers.Dropout, layers.StochasticDepth]


@pytest.fixture(scope="module")
def two_replicas(tmp_path_factory):
    """What the layers did under two replicas, see two_replicas.py."""
    path = tmp_path_factory.mktemp("two_replicas") / "found.npz"
    subprocess.run(
        [sys.executable, "-m", "tests.efficientnet.two_replicas", str(path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        check=True,
    )
    with np.load(path) as found:
        return dict(found)


def _inputs(shape=(4, 5, 6, 3), seed=0):
    return np.random.default_rng(seed).normal(1.5, 2.0, shape).astype(np.float32)


def _batch_norm(channels=3, **options):
    """A layer whose weights and statistics are all different from the initial ones."""
    layer = layers.BatchNormalization(**options)
    layer.build((None, None, None, channels))
    values = np.random.default_rng(1).uniform(0.5, 2.0, (4, channels))
    layer.set_weights(list(values.astype(np.float32)))
    return layer


def _normalized(inputs, gamma, beta, mean, variance):
    return gamma * (inputs - mean) / np.sqrt(variance + EPSILON) + beta


def test_batch_norm_training_output_uses_the_batch():
    layer, inputs = _batch_norm(), _inputs()
    gamma, beta = layer.gamma.numpy(), layer.beta.numpy()
    mean, variance = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    outputs = layer(inputs, training=True)
    expected = _normalized(inputs, gamma, beta, mean, variance)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.9, 0.99])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (2, 1, 1, 3), (1, 1, 1, 3)])
def test_moving_statistics_take_the_biased_variance(momentum, compiled, shape):
    layer, inputs = _batch_norm(momentum=momentum), _inputs(shape)
    old_mean, old_variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    step = tf.function(lambda x: layer(x, training=True), jit_compile=compiled)
    step(tf.constant(inputs))
    new = 1 - momentum
    mean = old_mean * momentum + inputs.mean((0, 1, 2)) * new
    variance = old_variance * momentum + inputs.var((0, 1, 2)) * new
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


@pytest.mark.parametrize("frozen", [False, True], ids=["inference", "frozen"])
def test_batch_norm_without_training_uses_and_keeps_moving_statistics(frozen):
    layer, inputs = _batch_norm(), _inputs()
    layer.trainable = not frozen
    before = {x.name: x.numpy() for x in layer.weights}
    outputs = layer(inputs, training=frozen)
    expected = _normalized(
        inputs,
        before["gamma"],
        before["beta"],
        before["moving_mean"],
        before["moving_variance"],
    )
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for weight in layer.weights:
        np.testing.assert_array_equal(weight, before[weight.name])


def test_batch_norm_gradients_are_those_of_the_formula():
    layer, inputs = _batch_norm(), tf.constant(_inputs())
    target = tf.constant(_inputs(seed=5))
    weights = [inputs, layer.gamma.value, layer.beta.value]

    def by_formula(x, gamma, beta):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        return gamma * (x - mean) / tf.sqrt(variance + EPSILON) + beta

    gradients = []
    for function in (lambda *_: layer(inputs, training=True), by_formula):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(function(*weights) * target)
        gradients.append(tape.gradient(loss, weights))
    for ours, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_batch_norm_under_mixed_precision_keeps_float32_statistics():
    layer = layers.BatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    inputs = tf.cast(_inputs((8, 6, 6, 3)), tf.bfloat16)
    assert layer(inputs, training=True).dtype == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    exact = tf.cast(inputs, tf.float32).numpy()
    np.testing.assert_allclose(layer.moving_mean, exact.mean((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, exact.var((0, 1, 2)), rtol=1e-3)


def test_moving_statistics_of_both_replicas_are_the_mean_of_their_own(two_replicas):
    inputs = two_replicas["batch_norm_inputs"]
    mean = 0.1 * inputs.mean((1, 2, 3))
    variance = 0.9 + 0.1 * inputs.var((1, 2, 3))
    assert not np.allclose(mean[0], mean[1], rtol=1e-2)
    for replica in range(2):
        np.testing.assert_allclose(
            two_replicas["moving_mean"][replica], mean.mean(0), rtol=1e-5
        )
        np.testing.assert_allclose(
            two_replicas["moving_variance"][replica], variance.mean(0), rtol=1e-5
        )


@pytest.mark.parametrize("kind", ["dropout", "stochastic_depth"])
def test_noise_differs_by_replica_layer_step_and_seed(two_replicas, kind):
    draws = [two_replicas[f"{kind}_{name}"] for name in ("first", "next_step", "next_seed")]
    masks = np.stack(draws).reshape(3 * 2 * 2, -1)  # Draw, replica, layer.
    assert set(np.unique(masks)) == {0.0, 2.0}
    assert len(np.unique(masks, axis=0)) == len(masks)
    # Independent masks of rate 1/2 agree on half of their entries.
    agreement = (masks[:, None] == masks[None]).mean(-1)[~np.eye(len(masks), dtype=bool)]
    assert agreement.min() > 0.2
    assert agreement.max() < 0.8


@pytest.mark.parametrize("kind", ["dropout", "stochastic_depth"])
def test_a_repeated_step_draws_the_same_noise_on_every_replica(two_replicas, kind):
    np.testing.assert_array_equal(
        two_replicas[f"{kind}_first"], two_replicas[f"{kind}_again"]
    )


def _noised(layer, seed, step, shape=(64, 4, 4, 8)):
    with layers.noise_key(seed, step):
        return layer(tf.ones(shape), training=True).numpy()


@pytest.mark.parametrize("make", NOISE)
def test_noise_outside_a_strategy_follows_seed_step_and_layer(make):
    one, two = make(0.5, name="one"), make(0.5, name="two")
    first = _noised(one, 3, 7)
    np.testing.assert_array_equal(first, _noised(one, 3, 7))
    others = [_noised(one, 3, 8), _noised(one, 4, 7), _noised(two, 3, 7)]
    assert not any(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("make", NOISE)
def test_noise_in_a_function_with_a_step_tensor_equals_the_eager_one(make):
    layer = make(0.5, name="same")
    draw = tf.function(lambda step: _noised_tensor(layer, step))
    for step in (0, 1, 1_000_000):
        np.testing.assert_array_equal(
            draw(tf.constant(step, tf.int64)), _noised(layer, 1, step)
        )


def _noised_tensor(layer, step):
    with layers.noise_key(1, step):
        return layer(tf.ones((64, 4, 4, 8)), training=True)


@pytest.mark.parametrize("make", NOISE)
def test_noise_without_a_key_is_not_fixed(make):
    layer = make(0.5)
    one, two = (layer(tf.ones((256, 1, 1, 1)), training=True).numpy() for _ in range(2))
    assert not np.array_equal(one, two)


def test_an_inner_key_gives_way_to_the_outer_one_again():
    layer = layers.Dropout(0.5, name="nested")
    shape = (64, 8)

    def fail():
        with layers.noise_key(2, 2):
            raise RuntimeError

    with layers.noise_key(1, 1):
        before = layer(tf.ones(shape), training=True).numpy()
        inner = _noised(layer, 2, 2, shape)
        with pytest.raises(RuntimeError):
            fail()
        after = layer(tf.ones(shape), training=True).numpy()
    np.testing.assert_array_equal(before, after)
    assert not np.array_equal(before, inner)


@pytest.mark.parametrize("make", NOISE)
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.75])
def test_noise_drops_at_its_rate_and_preserves_the_mean(make, rate):
    outputs = _noised(make(rate, name="rated"), 0, 0, (20_000, 1, 1, 1))
    kept = outputs != 0
    assert 1 - kept.mean() == pytest.approx(rate, abs=0.01)
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=1e-6)


def test_stochastic_depth_drops_whole_images_and_dropout_single_features():
    by_image = _noised(layers.StochasticDepth(0.5), 0, 0).reshape(64, -1)
    assert (by_image == by_image[:, :1]).all()
    assert 0 < (by_image[:, 0] == 0).sum() < 64
    by_feature = _noised(layers.Dropout(0.5), 0, 0).reshape(64, -1)
    assert ((by_feature == 0).any(1) & (by_feature != 0).any(1)).all()


@pytest.mark.parametrize("make", NOISE)
@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_noise_is_the_identity_at_inference_and_at_rate_0(make, rate, training):
    inputs = _inputs()
    with layers.noise_key(0, 0):
        np.testing.assert_array_equal(make(rate)(inputs, training=training), inputs)


def test_frozen_stochastic_depth_keeps_every_branch():
    layer, inputs = layers.StochasticDepth(0.9), _inputs()
    layer.trainable = False
    np.testing.assert_array_equal(layer(inputs, training=True), inputs)


@pytest.mark.parametrize("make", NOISE)
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_bad_rate_is_refused(make, rate):
    with pytest.raises(ValueError, match=f"Invalid `rate`.*0 <= rate < 1.*{rate}"):
        make(rate)


MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)


def test_input_normalization_formula_for_floats_and_bytes():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    for inputs in (pixels, pixels.astype(np.float32)):
        outputs = layers.InputNormalization(MEAN, STD)(inputs)
        assert outputs.dtype == "float32"
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_input_normalization_is_computed_in_float32_under_mixed_precision():
    # Bicubic crops have fractions, which bfloat16 would round before the division.
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    layer = layers.InputNormalization(MEAN, STD, dtype="mixed_bfloat16")
    exact = layers.InputNormalization(MEAN, STD)(pixels)
    np.testing.assert_array_equal(layer(pixels), tf.cast(exact, tf.bfloat16))


@pytest.mark.parametrize(
    "layer",
    [
        layers.InputNormalization(MEAN, STD, name="x"),
        layers.BatchNormalization(momentum=0.7, epsilon=0.1, name="x"),
        layers.StochasticDepth(0.3, name="x"),
        layers.Dropout(0.4, name="x"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_made_from_its_config_behaves_the_same(layer):
    again = type(layer).from_config(layer.get_config())
    inputs = _inputs()
    with layers.noise_key(1, 2):
        expected = layer(inputs, training=True)
    with layers.noise_key(1, 2):
        np.testing.assert_array_equal(again(inputs, training=True), expected)
    for one, two in zip(layer.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)
