"""Batch norm against NumPy, alone and over replicas; normalization of the input."""

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import normalization

EPSILON = 1e-3


def _inputs(shape=(4, 5, 6, 3), seed=0):
    return np.random.default_rng(seed).normal(1.5, 2.0, shape).astype(np.float32)


def _batch_norm(channels=3, **options):
    """A layer whose weights and statistics are all different from the initial ones."""
    layer = normalization.BatchNormalization(**options)
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
    layer = normalization.BatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    inputs = tf.cast(_inputs((8, 6, 6, 3)), tf.bfloat16)
    assert layer(inputs, training=True).dtype == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    exact = tf.cast(inputs, tf.float32).numpy()
    np.testing.assert_allclose(layer.moving_mean, exact.mean((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, exact.var((0, 1, 2)), rtol=1e-3)


def _grouped(found, group_size):
    """What was found, its first axis (replicas) split into groups."""
    prefix = f"batch_norm_{group_size}_"
    values = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
    count = len(values["inputs"])
    size = count if group_size == normalization.GLOBAL else group_size
    return {
        k: v if k.startswith("saved") else v.reshape(count // size, size, *v.shape[1:])
        for k, v in values.items()
    }


GROUP_SIZES = pytest.mark.parametrize("group_size", [1, 2, -1])


@GROUP_SIZES
def test_a_group_of_replicas_normalizes_like_one_big_batch(replicas, group_size):
    found = _grouped(replicas, group_size)
    for inputs, outputs in zip(found["inputs"], found["outputs"], strict=True):
        mean, variance = inputs.mean((0, 1, 2, 3)), inputs.var((0, 1, 2, 3))
        expected = (inputs - mean) / np.sqrt(variance + EPSILON)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


@GROUP_SIZES
def test_gradients_of_a_group_are_those_of_one_big_batch(replicas, group_size):
    found = _grouped(replicas, group_size)
    for group in range(len(found["inputs"])):
        inputs = tf.constant(found["inputs"][group])
        gamma = tf.ones(3)
        with tf.GradientTape() as tape:
            tape.watch([inputs, gamma])
            mean, variance = tf.nn.moments(inputs, [0, 1, 2, 3])
            outputs = gamma * (inputs - mean) / tf.sqrt(variance + EPSILON)
            loss = tf.reduce_sum(outputs * found["targets"][group])
        by_input, by_gamma = tape.gradient(loss, [inputs, gamma])
        np.testing.assert_allclose(found["input_gradients"][group], by_input, atol=1e-5)
        # Each replica has its own images' share of a weight's gradient.
        total = found["gamma_gradients"][group].sum(0)
        np.testing.assert_allclose(total, by_gamma, rtol=1e-4, atol=1e-4)


@GROUP_SIZES
def test_moving_statistics_everywhere_are_the_mean_over_groups(replicas, group_size):
    found = _grouped(replicas, group_size)
    mean = 0.1 * found["inputs"].mean((1, 2, 3, 4))
    variance = 0.9 + 0.1 * found["inputs"].var((1, 2, 3, 4))
    for name, expected in (("moving_mean", mean), ("moving_variance", variance)):
        # As each replica has them, a checkpoint, and Keras' own files.
        values = np.concatenate([found[name].reshape(-1, 3), found[f"saved_{name}"]])
        everywhere = np.broadcast_to(expected.mean(0), values.shape)
        np.testing.assert_allclose(values, everywhere, rtol=1e-5)


@pytest.mark.parametrize(
    ("group_size", "replicas", "expected"),
    [
        (0, 1, 1),
        (0, 8, 1),
        (0, 16, 8),
        (0, 64, 8),
        (0, 1024, 128),
        (1, 64, 1),
        (-1, 64, 64),
        (4, 64, 4),
    ],
)
def test_group_size_by_number_of_replicas(group_size, replicas, expected):
    assert normalization.group_size_for(group_size, replicas) == expected


def test_a_group_size_that_does_not_divide_the_replicas_is_refused():
    with pytest.raises(ValueError, match="`group_size`.*divisor of the 8 replicas.*3"):
        normalization.group_size_for(3, 8)
    with pytest.raises(ValueError, match="`group_size`.*received -2"):
        normalization.BatchNormalization(group_size=-2)


MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)


def test_input_normalization_formula_for_floats_and_bytes():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    expected = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    for inputs in (pixels, pixels.astype(np.float32)):
        outputs = normalization.InputNormalization(MEAN, STD)(inputs)
        assert outputs.dtype == "float32"
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_input_normalization_is_computed_in_float32_under_mixed_precision():
    # Bicubic crops have fractions, which bfloat16 would round before the division.
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    layer = normalization.InputNormalization(MEAN, STD, dtype="mixed_bfloat16")
    exact = normalization.InputNormalization(MEAN, STD)(pixels)
    np.testing.assert_array_equal(layer(pixels), tf.cast(exact, tf.bfloat16))


@pytest.mark.parametrize(
    "layer",
    [
        normalization.InputNormalization(MEAN, STD, name="x"),
        normalization.BatchNormalization(
            momentum=0.7, epsilon=0.1, group_size=-1, name="x"
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_made_from_its_config_behaves_the_same(layer, random_inputs):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    expected = layer(random_inputs, training=True)
    np.testing.assert_array_equal(again(random_inputs, training=True), expected)
    for one, two in zip(layer.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)
