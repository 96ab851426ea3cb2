"""Images, shards and record sets that the tests of `data` share."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import records

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def on_the_cpu():
    """Where tf.data runs, on machines with a GPU too: bits depend on the device."""
    with tf.device("/CPU:0"):
        yield


@pytest.fixture(scope="session")
def golden():
    """Loads an `.npz` of the published code's outputs, see golden/."""

    def load(name):
        with np.load(GOLDEN / name) as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def noise_image():
    """Random uint8 pixels of a shape, by seed."""

    def make(*shape, seed=0):
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

    return make


@pytest.fixture(scope="session")
def encode():
    """A Pillow image or array as a file's bytes."""

    def make(image, image_format="PNG", **options):
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        buffer = io.BytesIO()
        image.save(buffer, image_format, **options)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def write_records():
    """Writes records as shards `NAME-…` of `sizes`; returns the paths."""

    def make(directory, rows, sizes, name="part"):
        rows, paths = iter(rows), []
        for index, size in enumerate(sizes):
            path = str(directory / records.shard_name(name, index, len(sizes)))
            records.write_shard(path, [next(rows) for _ in range(size)])
            paths.append(path)
        return tuple(paths)

    return make
