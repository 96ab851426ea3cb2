"""The whole network: sizes, shapes, seeds, noise rates, precision, saving."""

import functools
import gc
import math

import keras
import numpy as np
import pytest

from efficientnet import blocks, model, noise, normalization, without_values

B0 = {"num_classes": 10, "seed": 0}
TINY = {"width": 0.1, "depth": 0.1, "num_classes": 5}


def _count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


@functools.lru_cache(maxsize=4)
def _unallocated(*args, **kwargs):
    """A model without memory for its weights: enough to look at shapes."""
    with without_values():
        return model.build_efficientnet(*args, **kwargs)


def _tiny(seed=1, **options):
    return model.build_efficientnet(**{**TINY, "seed": seed, **options})


@pytest.fixture(scope="module")
def tiny():
    """The network of seed 1, for tests that leave it as it is."""
    return _tiny(seed=1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


@pytest.fixture
def without_garbage_collection():
    """It takes a third of the time that the big networks take to build."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize(
    ("name", "trainable", "statistics"),
    [
        ("efficientnet-b0", 5_288_548, 42_016),
        ("efficientnet-b1", 7_794_184, 62_048),
        ("efficientnet-b2", 9_109_994, 67_568),
        ("efficientnet-b3", 12_233_232, 87_296),
        ("efficientnet-b4", 19_341_616, 125_200),
        ("efficientnet-b5", 30_389_784, 172_736),
        ("efficientnet-b6", 43_040_704, 224_432),
        ("efficientnet-b7", 66_347_960, 310_720),
        ("efficientnet-b8", 87_413_142, 380_032),
        ("efficientnet-l0", 140_764_664, 493_904),
        ("efficientnet-l1", 272_630_564, 693_920),
        ("efficientnet-l2", 480_309_308, 1_090_688),
        ("efficientnet-lite0", 4_652_008, 42_016),
        ("efficientnet-lite1", 5_416_680, 53_664),
        ("efficientnet-lite2", 6_092_072, 58_096),
        ("efficientnet-lite3", 8_197_096, 76_672),
        ("efficientnet-lite4", 13_006_568, 112_368),
    ],
)
def test_parameter_counts_are_the_published_ones(name, trainable, statistics):
    network = _unallocated(name, num_classes=1000)
    assert _count(network.trainable_variables) == trainable
    assert _count(network.non_trainable_variables) == statistics


def test_b0_has_213_trainables_and_98_statistics():
    network = _unallocated(**B0)
    assert len(network.trainable_variables) == 213
    assert len(network.non_trainable_variables) == 98
    assert _count(network.trainable_variables) == 4_020_358


def _block_shapes(network, side):
    """(side, channels) after the stem, each block, and the head."""
    outputs = [
        layer.output
        for layer in network.layers
        if isinstance(layer, (blocks.ConvNorm, blocks.MBConv))
    ]
    with without_values():
        shapes = keras.Model(network.input, outputs).compute_output_shape(
            (1, side, side, 3)
        )
    assert all(shape[1] == shape[2] for shape in shapes)
    return [(shape[1], shape[3]) for shape in shapes]


def test_small_image_feature_sizes_at_32_pixels():
    network = _unallocated(num_classes=10, small_image=True)
    assert _block_shapes(network, 32) == (
        [(16, 32), (16, 16)]
        + [(16, 24)] * 2
        + [(16, 40)] * 2
        + [(8, 80)] * 3
        + [(8, 112)] * 3
        + [(4, 192)] * 4
        + [(4, 320), (4, 1280)]
    )


def test_photo_feature_sizes_at_224_pixels():
    network = _unallocated(**B0)
    sizes = [side for side, _ in _block_shapes(network, 224)]
    assert sizes == [112, 112, 56, 56, 28, 28] + [14] * 6 + [7] * 6


def test_weights_move_between_the_photo_and_the_small_image_form(tiny, images):
    small = _tiny(seed=2, small_image=True)
    before = small(images).numpy()
    small.set_weights(tiny.get_weights())
    expected = _tiny(seed=1, small_image=True)(images).numpy()
    np.testing.assert_array_equal(small(images).numpy(), expected)
    assert not np.array_equal(before, expected)


def test_same_seed_gives_same_weights_and_another_seed_others(tiny):
    again, other = _tiny(seed=1), _tiny(seed=2)
    for one, two in zip(tiny.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    kernels = [
        (one.numpy(), two.numpy())
        for one, two in zip(tiny.weights, other.weights, strict=True)
        if "kernel" in one.path
    ]
    assert kernels
    assert not any(np.array_equal(one, two) for one, two in kernels)


def test_layers_of_equal_shape_get_different_initial_weights(tiny):
    for pair in ((1, 3), (2, 4)):
        one, two = (tiny.get_layer(f"block_{i}").depthwise.conv.kernel for i in pair)
        assert one.shape == two.shape
        assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (lambda network: network.get_layer("stem").conv, (2 / (9 * 32)) ** 0.5),
        (lambda network: network.get_layer("head").conv, (2 / 1280) ** 0.5),
        (lambda network: network.get_layer("block_2").depthwise.conv, (2 / 9) ** 0.5),
        (lambda network: network.get_layer("block_12").depthwise.conv, (2 / 25) ** 0.5),
    ],
    ids=["stem", "head", "depthwise 3x3", "depthwise 5x5"],
)
def test_convolutions_start_as_untruncated_normals_of_the_published_width(conv, expected):
    kernel = _first_values(conv(_unallocated(**B0)))
    assert kernel.std() == pytest.approx(expected, rel=0.06)
    assert abs(kernel.mean()) < 0.1 * expected
    assert np.abs(kernel).max() > 2.5 * expected  # A truncated normal ends at 2.


def _first_values(layer):
    """A kernel as its initializer makes it; the layer itself has no memory."""
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    name = "depthwise_initializer" if depthwise else "kernel_initializer"
    return np.asarray(getattr(layer, name)(layer.kernel.shape))


@pytest.mark.parametrize("num_classes", [4, 100])
def test_classifier_starts_uniform_within_one_over_root_of_classes(num_classes):
    dense = _tiny(num_classes=num_classes, width=0.5).get_layer("head_dense")
    bound = num_classes**-0.5
    assert np.abs(dense.kernel).max() <= bound
    assert np.abs(dense.kernel).max() > 0.99 * bound
    assert dense.kernel.numpy().std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not dense.bias.numpy().any()


@pytest.mark.parametrize(
    ("options", "rate"),
    [(B0, 0.2), ({**TINY, "stochastic_depth_rate": 0.5}, 0.5)],
)
def test_stochastic_depth_rate_of_block_i_is_i_over_n(options, rate):
    found = _blocks(_unallocated(**options))
    rates = {i: block.stochastic_depth.rate for i, block in found if block.stochastic_depth}
    assert set(rates) == {i for i, block in found if block.has_shortcut} - {0}
    assert rates == pytest.approx({i: rate * i / len(found) for i in rates})


def _blocks(network):
    found = [layer for layer in network.layers if isinstance(layer, blocks.MBConv)]
    assert [layer.name for layer in found] == [f"block_{i}" for i in range(len(found))]
    return list(enumerate(found))


def test_shortcuts_are_where_neither_size_nor_channels_change():
    shortcuts = {i for i, block in _blocks(_unallocated(**B0)) if block.has_shortcut}
    assert shortcuts == set(range(16)) - {0, 1, 3, 5, 8, 11, 15}  # The stages' firsts.


def test_block_0_never_drops_even_with_a_shortcut():
    # 8 input channels and 8 output channels: block 0 has a shortcut, at rate 0.
    block = _unallocated(**TINY).get_layer("block_0")
    assert block.has_shortcut
    assert block.stochastic_depth is None


def test_squeeze_excite_width_comes_from_the_unexpanded_input():
    found = _blocks(_unallocated(**B0))
    reduced = [block.squeeze_excite.reduced for _, block in found[:4]]
    assert reduced == [8, 4, 6, 6]  # A quarter of 32, 16, 24, 24 input channels.


def test_lite_has_no_gates_bounded_activations_and_unscaled_ends():
    lite4 = _unallocated("efficientnet-lite4", num_classes=10)
    found = [block for _, block in _blocks(lite4)]
    assert not any(block.squeeze_excite for block in found)
    stem, head = lite4.get_layer("stem"), lite4.get_layer("head")
    assert {x.activation for x in (stem, head, *found)} == {"relu6"}
    assert (stem.filters, head.filters) == (32, 1280)
    # The first and last stages keep one block each; B4 has two.
    assert len(found) == len(_blocks(_unallocated("efficientnet-b4", num_classes=10))) - 2
    assert [x.kernel_size for x in found[:2]] == [3, 3]
    assert [x.expand_ratio for x in found[:2]] == [1, 6]
    normalization_layer = lite4.get_layer("normalization")
    pixels = normalization_layer(np.full((1, 1, 1, 3), [127, 255, 0], np.float32))
    np.testing.assert_allclose(np.ravel(pixels), [0, 1, -127 / 128], atol=1e-6)


def test_dropout_rate_is_the_variants_unless_given():
    of_variant = _unallocated("efficientnet-b4", num_classes=2, width=0.1, depth=0.1)
    given = _unallocated("efficientnet-b4", dropout_rate=0.0, **TINY)
    assert of_variant.get_layer("head_dropout").rate == 0.4
    assert given.get_layer("head_dropout").rate == 0.0


def _batch_norms(network):
    layers = network._flatten_layers()
    return [x for x in layers if isinstance(x, normalization.BatchNormalization)]


def test_momentum_mean_and_std_reach_the_layers():
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    network = _unallocated(batch_norm_momentum=0.9, mean=mean, std=std, **TINY)
    norms = _batch_norms(network)
    assert len(norms) == 1 + 2 + 6 * 3 + 1  # Stem, blocks without and with expansion, head.
    assert {layer.momentum for layer in norms} == {0.9}
    assert network.get_layer("normalization").mean == list(mean)
    assert network.get_layer("normalization").std == list(std)


def test_any_input_size_works(tiny):
    for height, width in ((32, 32), (33, 47), (8, 90)):
        logits = tiny(np.zeros((2, height, width, 3), np.uint8)).numpy()
        assert logits.shape == (2, 5)
        assert np.isfinite(logits).all()


def test_bytes_and_floats_give_the_same_logits(tiny, images):
    np.testing.assert_array_equal(tiny(images), tiny(images.astype(np.float32)))


def test_inference_has_no_noise_and_training_has(images):
    network = _tiny(small_image=True, stochastic_depth_rate=0.9, dropout_rate=0.5)
    np.testing.assert_array_equal(network(images), network(images, training=False))
    with noise.noise_key(0, 0):
        one = network(images, training=True).numpy()
    with noise.noise_key(0, 1):
        two = network(images, training=True).numpy()
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_logits_and_weights_are_float32_under_mixed_precision(tiny, images, dtype):
    network = _tiny(seed=1, dtype=dtype)
    assert network.get_layer("head").compute_dtype == dtype.removeprefix("mixed_")
    logits = network(images)
    assert logits.dtype == "float32"
    assert {weight.dtype for weight in network.weights} == {"float32"}
    full = tiny(images).numpy()
    np.testing.assert_allclose(logits, full, atol=0.05 * np.abs(full).max())


def test_saved_model_gives_equal_logits_and_keeps_its_settings(images, tmp_path):
    network = _tiny(batch_norm_momentum=0.9, mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1))
    for _ in range(2):  # Moving statistics and noise are part of what is kept.
        network(images, training=True)
    path = tmp_path / "model.keras"
    network.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(network(images), loaded(images))
    with noise.noise_key(0, 0):
        expected = network(images, training=True)
    with noise.noise_key(0, 0):
        np.testing.assert_array_equal(loaded(images, training=True), expected)
    for one, two in zip(network.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, two)
