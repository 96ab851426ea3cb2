"""Decoding and geometry, against the published crops and NumPy."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import crops


@pytest.mark.parametrize("size", [48, 64, 112, 224])
@pytest.mark.parametrize("in_pipeline", [False, True], ids=["eager", "tf.data"])
def test_center_crop_is_the_published_one_bit_for_bit(golden, size, in_pipeline):
    arrays = golden("eval_crop.npz")
    image = arrays["image"]
    if in_pipeline:
        dataset = tf.data.Dataset.from_tensors(image)
        (found,) = dataset.map(lambda x: crops.center_crop(x, size)).as_numpy_iterator()
    else:
        found = crops.center_crop(tf.constant(image), size).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, arrays[f"eval_{size}"])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (3, 2, 3)])
def test_center_crop_of_a_tiny_image_is_not_empty(noise_image, shape):
    image = noise_image(*shape)
    found = crops.center_crop(tf.constant(image), 8).numpy()
    assert found.shape == (8, 8, 3)
    row, column = (image.shape[0] - 1 + 1) // 2, (image.shape[1] - 1 + 1) // 2
    if shape[0] == 1:  # The crop is a single pixel, at the centre.
        np.testing.assert_array_equal(found[3, 3], image[row, column])


def test_bicubic_is_the_published_kernel_and_is_not_clipped():
    # The -0.75 kernel at t = 1/2 weighs (-3, 19, 19, -3) / 32.
    row = np.array([0, 0, 0, 255, 255, 255, 0, 0], np.float32)
    image = np.broadcast_to(row[None, :, None], (8, 8, 3))
    found = crops.resize_bicubic(tf.constant(image), 16).numpy()[0, :, 0]
    np.testing.assert_array_equal(found[::2], row)
    np.testing.assert_allclose(found[3], -3 / 32 * 255, atol=1e-3)
    np.testing.assert_allclose(found[5], (19 - 3) / 32 * 255, atol=1e-3)
    np.testing.assert_allclose(found[7], (19 + 19 - 3) / 32 * 255, atol=1e-3)
    assert found.max() > 255


def test_inception_crop_repeats_for_a_seed_and_differs_for_others(noise_image):
    image = tf.constant(noise_image(60, 90, 3))
    found = [crops.inception_crop(image, 32, [seed, 5]).numpy() for seed in (1, 1, 2)]
    assert {x.shape for x in found} == {(32, 32, 3)}
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_inception_crop_stays_within_its_area_and_aspect():
    # On a ramp the step between output pixels tells the side of the crop.
    rows, columns = np.mgrid[0:200, 0:250].astype(np.uint8)
    image = tf.constant(np.stack([rows, columns, rows], -1))
    size = 64

    @tf.function
    def crop(seed):
        return crops.inception_crop(image, size, tf.stack([seed, 0]))

    found = np.stack([crop(tf.constant(seed)).numpy() for seed in range(150)])
    height = (found[:, 40, 32, 0] - found[:, 24, 32, 0]) * size / 16
    width = (found[:, 32, 40, 1] - found[:, 32, 24, 1]) * size / 16
    area, aspect = height * width / (200 * 250), width / height
    assert 0.075 < area.min() < 0.15
    assert 0.75 < area.max() < 1.01
    assert 0.74 < aspect.min() < 0.78
    assert 1.28 < aspect.max() < 1.35
    top, left = found[:, 0, 0, 0], found[:, 0, 0, 1]
    assert top.min() < 5
    assert top.max() > 80
    assert left.min() < 5
    assert left.max() > 100


def test_inception_crop_takes_the_centre_where_no_part_fits(noise_image):
    image = tf.constant(noise_image(4, 400, 3))  # No part of 8 % has such an aspect.
    found = crops.inception_crop(image, 16, [1, 2])
    np.testing.assert_array_equal(found, crops.center_crop(image, 16))


def test_whole_image_leaves_an_image_of_its_size_untouched(noise_image):
    image = noise_image(16, 16, 3)
    found = crops.whole_image(tf.constant(image), 16).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("shape", [(16, 20, 3), (20, 16, 3), (8, 8, 3)])
def test_whole_image_resizes_all_of_any_other_image(noise_image, shape):
    image = tf.constant(noise_image(*shape))
    found = crops.whole_image(image, 16)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, crops.resize_bicubic(image, 16))


@pytest.mark.parametrize(
    ("uniform", "shift"),
    [
        ((0.0, 0.0), (0, 0)),
        ((0.0, 1 - 2**-23), (0, 8)),
        ((1 - 2**-23, 0.0), (8, 0)),
        ((1 - 2**-23, 1 - 2**-23), (8, 8)),
        ((0.5, 0.5), (4, 4)),
        ((0.12, 0.75), (1, 6)),
    ],
)
def test_reflect_pad_crop_is_a_window_of_the_mirrored_image(noise_image, uniform, shift):
    image = noise_image(12, 10, 3)
    found = crops.reflect_pad_crop(tf.constant(image), 4, tf.constant(uniform))
    padded = np.pad(image, [(4, 4), (4, 4), (0, 0)], "reflect")
    top, left = shift
    np.testing.assert_array_equal(found, padded[top : top + 12, left : left + 10])


def test_decode_makes_rgb_of_grey(noise_image, encode):
    grey = noise_image(5, 7)
    found = crops.decode(tf.constant(encode(grey)))
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, np.stack([grey] * 3, -1))


def test_static_shapes_are_known_inside_a_pipeline(noise_image, encode):
    dataset = tf.data.Dataset.from_tensors(encode(noise_image(9, 9, 3))).map(crops.decode)
    assert dataset.element_spec.shape.as_list() == [None, None, 3]
    for function in (crops.center_crop, crops.whole_image):
        spec = dataset.map(lambda x, f=function: f(x, 16)).element_spec
        assert spec.shape.as_list() == [16, 16, 3]
    spec = dataset.map(lambda x: crops.inception_crop(x, 16, [1, 2])).element_spec
    assert spec.shape.as_list() == [16, 16, 3]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("shape", [(47, 90, 3), (130, 61, 3), (5, 7, 3)])
@pytest.mark.parametrize("piped", [False, True], ids=["eager", "pipeline"])
def test_a_part_that_is_decoded_alone_is_that_of_the_whole(
    noise_image, encode, image_format, shape, piped
):
    encoded = encode(noise_image(*shape), image_format)
    whole = crops.decode(encoded)
    for seed in range(8):
        window = functools.partial(crops.inception_window, size=16, seed=[seed, 1])
        found = _decoded_crop(encoded, window, piped)
        np.testing.assert_array_equal(found, crops.inception_crop(whole, 16, [seed, 1]))
    window = functools.partial(crops.center_window, size=16)
    found = _decoded_crop(encoded, window, piped)
    np.testing.assert_array_equal(found, crops.center_crop(whole, 16))


def _decoded_crop(encoded, window, piped):
    if not piped:
        return crops.decoded_crop(tf.constant(encoded), 16, window)
    dataset = tf.data.Dataset.from_tensors(encoded)
    return next(iter(dataset.map(lambda file: crops.decoded_crop(file, 16, window))))


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_parts_of_every_kind_of_jpeg_are_those_of_the_whole(
    noise_image, subsampling, progressive
):
    file = io.BytesIO()
    Image.fromarray(noise_image(131, 97, 3)).save(
        file, "JPEG", subsampling=subsampling, progressive=progressive
    )
    encoded = tf.constant(file.getvalue())
    whole = crops.decode(encoded)
    for seed in range(10):
        window = functools.partial(crops.inception_window, size=64, seed=[seed, 2])
        found = crops.decoded_crop(encoded, 64, window)
        np.testing.assert_array_equal(found, crops.inception_crop(whole, 64, [seed, 2]))
