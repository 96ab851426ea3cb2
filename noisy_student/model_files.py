"""A trained model on disk: `model.keras` and, beside it, `model.json`.

`model.json` holds what the network file cannot: class names, image size and
crop, and a digest of the weights by which later stages name the model.
"""

import dataclasses
import hashlib
import os

import keras
import tensorflow as tf

from data import files
from data.errors import InputError
from noisy_student.config import from_dict, to_dict

MODEL, INFO = "model.keras", "model.json"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is needed to feed a model and to read its answers.

    Attributes:
        class_names: Names by logit.
        image_size: Side of the images in pixels.
        crop: `inception` or `pad`: decides the evaluation crop.
        variant: Architecture.
        parameters: Trainable parameters.
        weights_sha256: Digest of all weights, moving statistics included.
    """

    class_names: list[str]
    image_size: int
    crop: str
    variant: str
    parameters: int
    weights_sha256: str


def save_model(model: keras.Model, directory: str, **info) -> ModelInfo:
    """Writes the model atomically; the network first, so that info implies it."""
    info = describe(model, **info)
    with files.atomic_path(os.path.join(directory, MODEL)) as path:
        model.save(path)
    files.write_json(os.path.join(directory, INFO), to_dict(info))
    return info


def describe(model: keras.Model, **info) -> ModelInfo:
    """The info of a model: what is counted of it, and what it cannot know itself."""
    return ModelInfo(
        parameters=sum(int(tf.size(w)) for w in model.trainable_variables),
        weights_sha256=weights_digest(model),
        **info,
    )


def exists(directory: str) -> bool:
    """Whether `directory` holds a whole model: its info is written last."""
    return all(tf.io.gfile.exists(os.path.join(directory, n)) for n in (MODEL, INFO))


def load_info(directory: str) -> ModelInfo:
    """Reads `model.json` of a directory that training wrote."""
    path = os.path.join(directory, INFO)
    if not tf.io.gfile.exists(path):
        raise InputError(
            f"`model`: expected a directory with {MODEL} and {INFO}, as training writes "
            f"it; received {directory}."
        )
    return from_dict(ModelInfo, files.read_json(path))


def load_model(directory: str) -> tuple[keras.Model, ModelInfo]:
    """The model and its info; refuses weights that are not those on record."""
    info = load_info(directory)
    model = keras.saving.load_model(os.path.join(directory, MODEL), compile=False)
    if weights_digest(model) != info.weights_sha256:
        raise InputError(
            f"{directory}: expected weights with the SHA-256 of {INFO}; {MODEL} holds "
            "others. The two files do not belong together."
        )
    return model, info


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over names, shapes and values of all weights, in order."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(f"{variable.path}{tuple(variable.shape)}".encode())
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
