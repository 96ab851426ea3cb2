"""A trained model on disk: `model.keras` and, beside it, `model.json`.

`model.json` holds what the network file cannot: class names, image size and
crop, and a digest of the weights by which later stages name the model.
"""

import dataclasses
import hashlib
import os
import zipfile
from typing import Any

import keras
import tensorflow as tf

from data import files, storage_errors
from data.errors import InputError
from data.settings import from_dict
from noisy_student import own_model

MODEL, INFO = "model.keras", "model.json"
_MOST_UNPACKED = 10  # Times the size of the file.


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is needed to feed a model and to read its answers.

    Attributes:
        class_names: Names by logit.
        image_size: Side of the images in pixels.
        crop: `inception` or `pad`: decides the evaluation crop.
        variant: Architecture; of an own model `module:function`.
        parameters: Trainable parameters.
        weights_sha256: Digest of all weights, moving statistics included.
    """

    class_names: list[str]
    image_size: int
    crop: str
    variant: str
    parameters: int
    weights_sha256: str


def save_model(model: keras.Model, directory: str, **info: Any) -> ModelInfo:
    """Writes the model atomically; returns what `describe` says of it."""
    described = describe(model, **info)
    write_model(model, directory, described)
    return described


def write_model(model: keras.Model, directory: str, info: ModelInfo) -> None:
    """Writes the model atomically; the network first, so that info implies it.

    Args:
        model: The network.
        directory: Where it goes.
        info: `describe` of it: the digest of large networks takes its time.
    """
    with files.atomic_path(os.path.join(directory, MODEL)) as path:
        model.save(path)
    files.write_json(os.path.join(directory, INFO), dataclasses.asdict(info))


def describe(model: keras.Model, **info: Any) -> ModelInfo:
    """The info of a model: what is counted of it, and what it cannot know itself."""
    return ModelInfo(
        parameters=sum(int(tf.size(w)) for w in model.trainable_variables),
        weights_sha256=weights_digest(model, info["variant"]),
        **info,
    )


def exists(directory: str) -> bool:
    """Whether `directory` holds a whole model: its info is written last."""
    return all(tf.io.gfile.exists(os.path.join(directory, n)) for n in (MODEL, INFO))


def load_info(directory: str, argument: str = "model") -> ModelInfo:
    """Reads `model.json` of a directory that training wrote.

    Args:
        directory: Of the model.
        argument: What a user named it by, for the message of an error.

    Raises:
        InputError: It holds no model.
    """
    path = os.path.join(directory, INFO)
    if not tf.io.gfile.exists(path):
        raise InputError(
            f"`{argument}`: expected a directory with {MODEL} and {INFO}, as training "
            f"writes it; received {directory}."
        )
    values = files.read_json(path)
    try:
        info = from_dict(ModelInfo, values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    names = info.class_names
    if not names or len(set(names)) < len(names) or info.image_size < 1:
        raise InputError(
            f"{path}: expected different class names and an image size from 1 on; "
            f"received {str(names)[:100]} and {info.image_size}. Put back a copy."
        )
    return info


def load_model(directory: str) -> tuple[keras.Model, ModelInfo]:
    """The model and its info; refuses weights that are not those on record."""
    model, info = _load(directory)
    found = weights_digest(model, info.variant)
    if found != info.weights_sha256:
        raise InputError(
            f"{directory}: expected weights with the SHA-256 of {INFO}, "
            f"{info.weights_sha256}; {MODEL} holds others, {found}. The two files do not "
            "belong together."
        )
    return model, info


def stored_digest(directory: str) -> str:
    """`weights_digest` of the model as it lies there, whatever its info says."""
    model, info = _load(directory)
    return weights_digest(model, info.variant)


def _load(directory: str) -> tuple[keras.Model, ModelInfo]:
    info = load_info(directory)
    own_model.register_layers(info.variant)
    try:
        model = load_keras(os.path.join(directory, MODEL))
    except InputError as error:
        if not (own_model.is_own(info.variant) and isinstance(error.__cause__, TypeError)):
            raise
        raise InputError(
            f"{directory}: expected the layers of {info.variant} to be known to Keras; "
            f"{' '.join(str(error.__cause__).split())[:200]} Run where its module can be "
            "imported, and register its layers with "
            "@keras.saving.register_keras_serializable."
        ) from error
    return model, info


def load_keras(path: str) -> keras.Model:
    """A `.keras` file, whoever made it: nothing in it is run as code.

    Keras refuses what would be (`safe_mode`; SECURITY.md).

    Raises:
        InputError: It is damaged, holds what would be run, or unpacks to far more than
            it is, or Keras does not know one of its layers.
    """
    try:
        _check_unpacked(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except InputError:
        raise
    # Of damaged or strange files come errors of all kinds: of zip, JSON, HDF5 and layers.
    except Exception as error:
        if isinstance(error, (MemoryError, *storage_errors.PASSING)):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{path}: expected a whole .keras file; Keras could not load it "
            f"({type(error).__name__}: {reason.rstrip('.')}). Put back a copy, or run the "
            "command again that made it."
        ) from error


def _check_unpacked(path: str) -> None:
    with tf.io.gfile.GFile(path, "rb") as file, zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    packed = tf.io.gfile.stat(path).length
    if unpacked > _MOST_UNPACKED * packed + 2**20:
        raise InputError(
            f"{path}: expected a .keras file, whose parts are hardly packed; its "
            f"{packed:,} bytes unpack to {unpacked:,}. Do not load it: it may be made to "
            "fill memory."
        )


def weights_digest(model: keras.Model, variant: str = "") -> str:
    """SHA-256 over names, shapes and values of all weights, in order.

    Of own models without the names of layers, which Keras numbers through, and the
    states of random generators, which a file does not keep.
    """
    digest, own = hashlib.sha256(), own_model.is_own(variant)
    for variable in model.weights if own else model.variables:
        name = variable.name if own else variable.path
        digest.update(f"{name}{tuple(variable.shape)}".encode())
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
