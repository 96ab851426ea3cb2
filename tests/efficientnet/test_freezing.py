"""Frozen layers: which they are, and that training leaves them alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from efficientnet.freezing import freeze, num_blocks


@pytest.fixture(scope="module")
def network():
    model = efficientnet.build_efficientnet(
        num_classes=4, width=0.25, depth=0.25, stochastic_depth_rate=0.9, seed=1
    )
    freeze(model, 4)
    return model


def test_stem_and_first_blocks_are_frozen(network):
    assert num_blocks(network) == 7
    frozen = ("stem", "block_0", "block_1", "block_2", "block_3")
    for layer in network.layers:
        if layer.weights:
            assert bool(layer.trainable_variables) == (layer.name not in frozen)


def test_frozen_layers_compute_as_in_inference_and_keep_their_statistics(network):
    shallow = keras.Model(network.inputs, network.get_layer("block_3").output)
    images = tf.random.uniform([4, 32, 32, 3], maxval=255, seed=2)
    before = [variable.numpy() for variable in network.variables]
    outputs = shallow(images, training=True)
    np.testing.assert_allclose(outputs, shallow(images, training=False), atol=1e-4)
    network(images, training=True)
    changed = {
        variable.path.split("/")[0]
        for variable, old in zip(network.variables, before, strict=True)
        if not np.array_equal(variable.numpy(), old)
    }
    assert changed == {"block_4", "block_5", "block_6", "head"}


def test_no_blocks_is_the_stem_alone_and_too_many_are_refused():
    model = efficientnet.build_efficientnet(num_classes=4, width=0.1, depth=0.1)
    freeze(model, 0)
    assert not model.get_layer("stem").trainable_variables
    assert model.get_layer("block_0").trainable_variables
    with pytest.raises(ValueError, match="0 to the network's 7 blocks; received 8"):
        freeze(model, 8)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="expected an EfficientNet"):
        freeze(other, 0)
