"""A network that reads the class off an image's color, and trees of such images."""

import os

import keras
import numpy as np
import pytest
from PIL import Image

from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.imagenet_classes import wordnet_ids
from noisy_student.models import model_files

SIZE = 16


def color_of(label):
    """Decimal digits of the label as red, green and blue: 25 apart, JPEG keeps them."""
    digits = label // 100, label // 10 % 10, label % 10
    return tuple(25 * digit + 12 for digit in digits)


def color_network(classes=1000):
    """Logits -|mean color - color of the class|² / 25: the nearest class is the best."""
    colors = np.array([color_of(label) for label in range(classes)], np.float32)
    images = keras.Input((SIZE, SIZE, 3))
    mean = keras.layers.GlobalAveragePooling2D()(images)
    model = keras.Model(images, keras.layers.Dense(classes)(mean))
    model.set_weights([2 * colors.T / 25, -(colors**2).sum(-1) / 25])
    return model


def save(model, directory, class_names=None):
    model_files.save_model(
        model,
        str(directory),
        class_names=class_names or [str(k) for k in range(model.output_shape[-1])],
        image_size=SIZE,
        crop="inception",
        variant="efficientnet-b0",
    )
    return str(directory)


@pytest.fixture(scope="session")
def color_model(tmp_path_factory):
    """Directory of the network with 1,000 classes."""
    return save(color_network(), tmp_path_factory.mktemp("color_model"))


@pytest.fixture
def evaluated(color_model, cpu):
    return EvaluatedModel(color_model, cpu, batch_size=4)


def write_image(path, color, size=(20, 24)):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.new("RGB", size, color).save(path, "JPEG", quality=95)


def write_tree(directory, shown, folder_of=None):
    """Images by class folder.

    Args:
        directory: Where.
        shown: Pairs of the label and the class whose color the image has.
        folder_of: Name of a label's folder; WordNet ids by default.
    """
    names = folder_of or wordnet_ids().__getitem__
    for number, (label, color) in enumerate(shown):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        write_image(os.path.join(directory, names(label), name), color_of(color))
    return f"folder:{directory}"
