"""Noise by (seed, step, replica, layer), its rate, and its absence at inference."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import noise

NOISE = [noise.Dropout, noise.StochasticDepth]


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
    with noise.noise_key(seed, step):
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
    with noise.noise_key(1, step):
        return layer(tf.ones((64, 4, 4, 8)), training=True)


@pytest.mark.parametrize("make", NOISE)
def test_noise_without_a_key_is_not_fixed(make):
    layer = make(0.5)
    one, two = (layer(tf.ones((256, 1, 1, 1)), training=True).numpy() for _ in range(2))
    assert not np.array_equal(one, two)


def test_an_inner_key_gives_way_to_the_outer_one_again():
    layer = noise.Dropout(0.5, name="nested")
    shape = (64, 8)

    def fail():
        with noise.noise_key(2, 2):
            raise RuntimeError

    with noise.noise_key(1, 1):
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
    by_image = _noised(noise.StochasticDepth(0.5), 0, 0).reshape(64, -1)
    assert (by_image == by_image[:, :1]).all()
    assert 0 < (by_image[:, 0] == 0).sum() < 64
    by_feature = _noised(noise.Dropout(0.5), 0, 0).reshape(64, -1)
    assert ((by_feature == 0).any(1) & (by_feature != 0).any(1)).all()


@pytest.mark.parametrize("make", NOISE)
@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_noise_is_the_identity_at_inference_and_at_rate_0(
    make, rate, training, random_inputs
):
    inputs = random_inputs
    with noise.noise_key(0, 0):
        np.testing.assert_array_equal(make(rate)(inputs, training=training), inputs)


def test_frozen_stochastic_depth_keeps_every_branch(random_inputs):
    layer, inputs = noise.StochasticDepth(0.9), random_inputs
    layer.trainable = False
    np.testing.assert_array_equal(layer(inputs, training=True), inputs)


@pytest.mark.parametrize("make", NOISE)
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_bad_rate_is_refused(make, rate):
    with pytest.raises(ValueError, match=f"`rate`.*0 <= rate < 1.*{rate}"):
        make(rate)


@pytest.mark.parametrize("make", NOISE)
def test_a_layer_made_from_its_config_draws_the_same(make, random_inputs):
    layer = make(0.3, name="x")
    again = make.from_config(layer.get_config())
    with noise.noise_key(1, 2):
        expected = layer(random_inputs, training=True)
    with noise.noise_key(1, 2):
        np.testing.assert_array_equal(again(random_inputs, training=True), expected)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_repeatable_function_draws_again_what_it_drew(keyed):
    layer = noise.Dropout(0.5, name="x")
    function = lambda: layer(tf.ones((64, 8)), training=True).numpy()  # noqa: E731
    with noise.noise_key(1, 1) if keyed else contextlib.nullcontext():
        repeatable, other = noise.repeatable(function), noise.repeatable(function)
    np.testing.assert_array_equal(repeatable(), repeatable())
    assert np.array_equal(repeatable(), other()) == keyed
