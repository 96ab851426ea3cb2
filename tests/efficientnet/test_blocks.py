"""MBConv in every precision and way of running; recomputed activations."""

import contextlib
import itertools

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import blocks, noise

INPUTS = np.random.default_rng(0).normal(size=(4, 6, 6, 8)).astype(np.float32)
WAYS = {
    "eager": lambda function: function,
    "function": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}
# Half precisions, and how far (of a tensor's norm) a step's rounding may lead.
HALVES = {"bfloat16": 0.06, "float16": 0.01}


def _block(**options):
    layer = blocks.MBConv(
        8,
        3,
        **{"stochastic_depth_rate": 0.5, "seed": 0, "name": "block", **options},
    )
    layer.build((None, 6, 6, 8))
    return layer


def _step(layer, way="eager", key=(1, 2)):
    """Outputs, gradients of all weights and of the input, and moving statistics."""

    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            with noise.noise_key(*key) if key else contextlib.nullcontext():
                outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
        return outputs, tape.gradient(loss, [*layer.trainable_variables, inputs])

    inputs = tf.cast(INPUTS, layer.compute_dtype)
    outputs, gradients = WAYS[way](step)(inputs)
    return outputs, gradients, [v.numpy() for v in layer.non_trainable_variables]


@pytest.fixture(scope="module")
def expected():
    """What the float32 block does, eagerly."""
    return _step(_block())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-4), *((f"mixed_{half}", HALVES[half]) for half in HALVES)],
)
def test_a_training_step_in_every_precision(expected, way, dtype, tolerance):
    outputs, gradients, statistics = _step(_block(dtype=dtype), way)
    assert outputs.dtype == dtype.removeprefix("mixed_")
    assert {g.dtype for g in gradients[:-1]} == {tf.float32}
    assert {value.dtype for value in statistics} == {np.dtype("float32")}
    for ours, exact in zip(
        [outputs, *gradients, *statistics],
        [expected[0], *expected[1], *expected[2]],
        strict=True,
    ):
        exact = np.asarray(exact)
        error = np.linalg.norm(tf.cast(ours, tf.float32) - exact)
        assert error <= tolerance * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("way", "dtype"),
    [
        *((way, "float32") for way in WAYS),
        *((way, f"mixed_{half}") for way in ("eager", "xla") for half in HALVES),
    ],
)
def test_recomputing_changes_neither_gradients_nor_statistics(way, dtype):
    for kept, recomputed in _with_and_without_recomputing(way, dtype):
        np.testing.assert_allclose(recomputed, kept, rtol=0, atol=1e-5 * np.abs(kept).max())


@pytest.mark.parametrize(("half", "tolerance"), HALVES.items())
def test_recomputing_in_a_graph_differs_by_rounding(half, tolerance):
    # Where the CPU computes in half precision itself, Grappler fuses the operations of
    # a pass, and their results between are not rounded: of the two passes it may fuse
    # one alone. Without its remapper, the gradients are equal.
    for kept, recomputed in _with_and_without_recomputing("function", f"mixed_{half}"):
        assert np.linalg.norm(recomputed - kept) <= tolerance * np.linalg.norm(kept)


def _with_and_without_recomputing(way, dtype):
    """Pairs (kept, recomputed): each gradient and statistic of one step."""
    _, *kept = _step(_block(dtype=dtype), way)
    _, *recomputed = _step(_block(dtype=dtype, remat=True), way)
    for pair in zip(itertools.chain(*kept), itertools.chain(*recomputed), strict=True):
        yield tuple(tf.cast(value, tf.float32).numpy() for value in pair)


def test_recomputing_without_a_key_repeats_the_noise_of_the_forward_pass():
    layer = _block(remat=True, stochastic_depth_rate=0.5)
    inputs = tf.constant(np.repeat(INPUTS, 8, 0))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        branch = layer(inputs, training=True) - inputs
        dropped = np.abs(branch).max((1, 2, 3)) == 0
        loss = tf.reduce_sum(branch[dropped])
    assert 0 < dropped.sum() < len(dropped)
    # Branches dropped forward depend on nothing; drawn anew, most of them would.
    np.testing.assert_allclose(tape.gradient(loss, inputs), 0.0, atol=1e-6)


def test_recomputing_under_replicas_with_grouped_statistics(replicas):
    for name in ("gradients", "statistics"):
        kept, recomputed = (replicas[f"block_{remat}_{name}"] for remat in (False, True))
        assert np.abs(kept).max() > 0
        # oneDNN chooses other kernels for the second pass: equal but for rounding.
        tolerance = 1e-6 * np.abs(kept).max()
        np.testing.assert_allclose(recomputed, kept, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"expand_ratio": 1},
            {"depthwise", "squeeze_excite", "project", "stochastic_depth"},
        ),
        ({"se_ratio": 0.0}, {"expand", "depthwise", "project", "stochastic_depth"}),
        ({"strides": 2}, {"expand", "depthwise", "squeeze_excite", "project"}),
    ],
)
def test_parts_are_there_as_asked_for(options, parts):
    layer = _block(**options)
    names = ("expand", "depthwise", "squeeze_excite", "project", "stochastic_depth")
    assert {name for name in names if getattr(layer, name) is not None} == parts
    assert layer.compute_output_shape(INPUTS.shape) == layer(INPUTS).shape


@pytest.mark.parametrize(
    "layer",
    [
        blocks.ConvNorm(4, 3, 2, "silu", {"momentum": 0.5}, seed=3, name="x"),
        blocks.ConvNorm(None, 5, name="x"),
        blocks.SqueezeExcite(2, "relu6", seed=3, name="x"),
        blocks.MBConv(8, 3, 1, 2, 0.5, "relu6", 0.3, True, {"epsilon": 0.1}, 3, name="x"),
    ],
    ids=["conv", "depthwise", "squeeze_excite", "mbconv"],
)
def test_a_layer_made_from_its_config_has_the_same_settings(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    layer(INPUTS)
    again(INPUTS)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(INPUTS), again(INPUTS))
