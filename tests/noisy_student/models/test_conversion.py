"""Checkpoints through every format and back."""

import os
import pathlib

import keras
import numpy as np
import pytest

from data.errors import InputError
from noisy_student.models import conversion, model_files

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
TIMM = str(GOLDEN / "timm_tiny.safetensors")
NETWORK = {"width": 0.1, "depth": 1.1}


@pytest.fixture(scope="module")
def model():
    return conversion.read_checkpoint("timm", TIMM, "efficientnet-b1", **NETWORK)


def _assert_same(one, two):
    for first, second in zip(one.variables, two.variables, strict=True):
        assert first.path == second.path
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("target", "name", "source"),
    [
        ("model", "directory", "model"),
        ("keras", "file.keras", "model"),
        ("tf1", "new/model.ckpt", "tf1"),
        ("timm", "file.safetensors", "timm"),
    ],
)
def test_formats_keep_every_weight(model, tmp_path, target, name, source):
    output = str(tmp_path / name)
    assert conversion.write_checkpoint(model, output, "efficientnet-b1") == target
    again = conversion.read_checkpoint(source, output, "efficientnet-b1", **NETWORK)
    _assert_same(model, again)
    left = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert not [name for name in left if "incomplete" in name]


def test_weights_file_loads_into_the_network(model, tmp_path):
    output = str(tmp_path / "x.weights.h5")
    assert conversion.write_checkpoint(model, output, "efficientnet-b1") == "weights"
    again = conversion.read_checkpoint("timm", TIMM, "efficientnet-b1", **NETWORK)
    for variable in again.variables:
        variable.assign(keras.ops.zeros_like(variable))
    again.load_weights(output)
    _assert_same(model, again)


def test_tf1_checkpoint_to_a_model_directory(tmp_path):
    path = str(GOLDEN / "tf1_tiny64" / "model.ckpt")
    read = {}
    for ema in (True, False):
        read[ema] = conversion.read_checkpoint(
            "tf1", path, "efficientnet-b2", ema=ema, width=0.1, depth=0.5
        )
    assert not np.array_equal(read[True].variables[0], read[False].variables[0])
    names = [f"class {i}" for i in range(7)]
    conversion.write_checkpoint(
        read[True], str(tmp_path), "efficientnet-b2", class_names=names, image_size=64
    )
    loaded, info = model_files.load_model(str(tmp_path))
    _assert_same(read[True], loaded)
    assert (info.class_names, info.image_size) == (names, 64)
    assert info.variant == "efficientnet-b2"


def test_keras_applications_file_and_weights(tmp_path):
    source = keras.applications.EfficientNetB0(
        weights=None, classes=3, input_shape=(32, 32, 3)
    )
    source.save(tmp_path / "b0.keras")
    source.save_weights(tmp_path / "b0.weights.h5")
    models = [
        conversion.read_checkpoint(
            "keras", str(tmp_path / name), "efficientnet-b0", num_classes=3
        )
        for name in ("b0.keras", "b0.weights.h5")
    ]
    _assert_same(*models)
    output = str(tmp_path / "back.keras")
    target = "keras_applications"
    conversion.write_checkpoint(
        models[0], output, "efficientnet-b0", target=target, image_size=32
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    logits = keras.saving.load_model(output)(images)
    np.testing.assert_allclose(keras.ops.softmax(logits), source(images), atol=1e-5)


def test_bad_arguments_are_named(model, tmp_path):
    out = str(tmp_path / "x")

    def read(source, path=TIMM, variant="efficientnet-b1"):
        return lambda: conversion.read_checkpoint(source, path, variant)

    def write(output=out, **options):
        return lambda: conversion.write_checkpoint(
            model, output, "efficientnet-b1", **options
        )

    cases = [
        (read("torch"), "`from`: expected tf1, timm.*'torch'"),
        (read("timm", variant="efficientnet-b11"), "`variant`: expected.*b11"),
        (read("timm"), "of shape .*another variant"),
        (read("lite"), "_fc.bias"),
        (read("tf1"), "prefix of a TF1 checkpoint"),
        (read("keras", variant="efficientnet-l2"), "b0 to efficientnet-b7"),
        (read("keras"), "Keras weights file"),
        (write(target="onnx"), "`to`: expected model, keras.*'onnx'"),
        (write(target="timm"), "ends in .safetensors for timm"),
        (write(class_names=["a"]), "`class_names`: expected 5 .*received 1"),
        (write(class_names=["a"] * 5), "received 5, 1 of them different"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
    assert not os.path.exists(out)
