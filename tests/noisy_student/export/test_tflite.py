"""Every TFLite file answers as the Keras model does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

import efficientnet
from data import images, sources
from data.augmentation import clean
from data.errors import InputError
from noisy_student.export import tflite
from noisy_student.models import model_files

SIZE = 32
BUILTINS = {"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED"}
BUILTINS |= {"LOGISTIC", "MEAN", "MUL", "QUANTIZE", "SOFTMAX", "SUB", "RELU6", "DELEGATE"}


def _tiles(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Squares cut out of the two photos that scikit-learn holds, and their class.

    uint8 `[64, 64, 3]`. Classes are left and right half of each photo.
    """
    pictures = load_sample_images().images
    corners = np.random.default_rng(0).integers(0, [360, 240], [count, 2])
    labels = np.arange(count) % 4
    tiles = []
    for label, (y, x) in zip(labels, corners, strict=True):
        left = x + 320 * (label // 2)
        tiles.append(pictures[label % 2][y : y + 64, left : left + 64])
    return tiles, labels


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 30 photos, and their crops: float32 `[30, S, S, 3]`."""
    folder = tmp_path_factory.mktemp("photos")
    crops = []
    for number, tile in enumerate(_tiles(30)[0]):
        encoded = images.encode_png(tile)
        (folder / f"{number:02d}.png").write_bytes(encoded)
        crops.append(clean(encoded, SIZE, "inception").numpy())
    return str(folder), np.stack(crops)


@pytest.fixture(scope="module")
def model(photos):
    """Trained for seconds: weights drawn at random magnify every rounding error."""
    _, crops = photos
    labels = tf.one_hot(_tiles(len(crops))[1], 4)
    network = efficientnet.build_efficientnet(
        num_classes=4,
        width=0.25,
        depth=0.1,
        batch_norm_momentum=0.5,
        stochastic_depth_rate=0.0,
        dropout_rate=0.0,
        seed=0,
    )
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = network(crops, training=True)
            # Smoothed: probabilities near 1 would hide differences.
            loss = keras.losses.categorical_crossentropy(
                labels, logits, from_logits=True, label_smoothing=0.2
            )
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    for _ in range(24):
        step()
    return network


@pytest.fixture(scope="module")
def info():
    return model_files.ModelInfo(["a", "b", "c", "d"], SIZE, "inception", "x", 1, "y")


@pytest.fixture(scope="module")
def converter(model):
    return tflite.Converter(model, SIZE)


def _answers(content, crops):
    classify = tflite.interpreter(content)
    return np.concatenate([classify(crop[None]) for crop in crops])


@pytest.mark.parametrize(
    ("name", "tolerance"), [("float32", 1e-5), ("float16", 0.02), ("dynamic_range", 0.15)]
)
def test_float_files_give_the_models_probabilities(
    name, tolerance, converter, model, photos
):
    _, crops = photos
    expected = tf.nn.softmax(model(crops, training=False)).numpy()
    assert len(set(expected.argmax(-1))) == 4
    assert expected.max() < 0.99
    answers = _answers(converter.convert(name, None), crops)
    np.testing.assert_allclose(answers, expected, atol=tolerance)


def test_int8_takes_and_gives_uint8_and_names_the_same_classes(
    converter, model, photos, info
):
    folder, crops = photos
    representative = tflite.RepresentativeImages(f"folder:{folder}", 30, info)
    content = converter.convert("int8", representative)
    expected = tf.nn.softmax(model(crops, training=False)).numpy()
    answers = _answers(content, crops)
    same = (answers.argmax(-1) == expected.argmax(-1)).sum()
    assert same >= 25
    assert np.abs(answers - expected).mean() < 0.1
    measured = converter.agreement(content, representative)
    assert measured["images"] == 30
    assert abs(measured["same_top_1"] - same) <= 2  # Its reference sees whole numbers.

    runner = tf.lite.Interpreter(model_content=content)
    (given,), (got,) = runner.get_input_details(), runner.get_output_details()
    assert given["dtype"] == got["dtype"] == np.uint8
    assert given["quantization"] == (1.0, 0)  # A pixel is its own quantized value.
    assert got["quantization"] == (1 / 256, 0)


@pytest.mark.parametrize("name", tflite.WITHOUT_DATA)
def test_files_hold_builtins_alone_and_one_image(name, converter):
    runner = tf.lite.Interpreter(model_content=converter.convert(name, None))
    runner.allocate_tensors()
    assert {op["op_name"] for op in runner._get_ops_details()} <= BUILTINS
    assert runner.get_input_details()[0]["shape"].tolist() == [1, SIZE, SIZE, 3]
    assert runner.get_output_details()[0]["shape"].tolist() == [1, 4]


def test_formats_differ_in_size(converter):
    sizes = [len(converter.convert(name, None)) for name in tflite.WITHOUT_DATA]
    assert sizes[0] > 1.4 * sizes[1]
    assert sizes[1] > sizes[2]


def test_model_of_mixed_precision_is_converted_in_float32(photos):
    """TFLite has no bfloat16 kernels."""
    _, crops = photos
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = efficientnet.build_efficientnet(num_classes=4, width=0.1, depth=0.1)
    finally:
        keras.config.set_dtype_policy("float32")
    answers = _answers(tflite.Converter(mixed, SIZE).convert("float32", None), crops[:3])
    expected = tf.nn.softmax(mixed(crops[:3], training=False)).numpy()
    np.testing.assert_allclose(answers, expected, atol=0.02)


def test_representative_images_are_repeatable_crops(photos, info):
    folder, crops = photos
    drawn = tflite.RepresentativeImages(f"folder:{folder}", 7, info)
    first, again = list(drawn), list(drawn)
    assert len(first) == drawn.identity["images"] == 7
    np.testing.assert_array_equal(first, again)
    rounded = {tflite.as_uint8(crop).tobytes() for crop in crops}
    assert {image.astype(np.uint8).tobytes() for image in first} <= rounded
    everything = tflite.RepresentativeImages(f"folder:{folder}", 1000, info)
    assert everything.identity["images"] == 30
    assert everything.identity["content"] != drawn.identity["content"]


def test_unreadable_images_are_skipped_unless_all_are(tmp_path, info):
    (tmp_path / "a.png").write_bytes(b"no image")
    images_of = tflite.RepresentativeImages(f"folder:{tmp_path}", 5, info)
    with pytest.raises(InputError, match=r"representative_data.*none of the 1 drawn"):
        list(images_of)
    record = next(sources.open_source("digits").read([0]))
    (tmp_path / "b.png").write_bytes(record.image)
    assert len(list(tflite.RepresentativeImages(f"folder:{tmp_path}", 5, info))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ("int8",)}, r"representative_data.*expected.*received none.*Pass"),
        ({"formats": ("int4",)}, r"tflite.*expected some of float32.*received 'int4'"),
        ({"representative_data": "digits"}, r"expected only with int8.*'digits'"),
        (
            {
                "formats": ("int8",),
                "representative_data": "digits",
                "representative_images": 0,
            },
            r"representative_images.*1 or more; received 0",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        tflite.TFLiteOptions(**arguments)
