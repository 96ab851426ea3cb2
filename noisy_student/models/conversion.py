"""Checkpoints of other implementations to this one's files, and back."""

import os
from typing import Any

import keras
import tensorflow as tf

import efficientnet
from data import files, storage_errors
from data.errors import InputError
from efficientnet import checkpoints
from noisy_student.models import model_files

SOURCES = ("tf1", "timm", "lite", "keras", "model")
TARGETS = ("model", "keras", "weights", "tf1", "timm", "keras_applications")
_SUFFIXES = {
    ".weights.h5": "weights",
    ".keras": "keras",
    ".ckpt": "tf1",
    ".safetensors": "timm",
}


def read_checkpoint(
    source: str,
    path: str,
    variant: str,
    *,
    ema: bool = True,
    num_classes: int = 1000,
    **network: Any,
) -> keras.Model:
    """An EfficientNet with the weights of a checkpoint.

    Args:
        source: `tf1` (published code), `timm` and `lite` (safetensors, see
            `efficientnet.checkpoints.state_dict`), `keras` (a `.keras` or weights
            file of keras.applications), `model` (this project's directory or
            `.keras` file).
        path: The checkpoint.
        variant: Architecture, such as `efficientnet-l2`.
        ema: Take TF1's averaged weights.
        num_classes: Of a weights file of keras.applications; others tell it.
        **network: For `build_efficientnet`, such as `small_image`, where the
            checkpoint cannot tell.

    Raises:
        InputError: The checkpoint is of another kind or variant.
    """
    if source not in SOURCES:
        raise InputError(f"`from`: expected {', '.join(SOURCES)}; received {source!r}.")
    try:
        efficientnet.get_variant(variant)  # Before anything is read.
    except ValueError as error:
        raise InputError(str(error)) from error
    try:
        if source == "model":
            return _own_model(path)
        if source == "keras":
            application = _application(path, variant, num_classes)
            return checkpoints.from_keras_applications(application, variant)
        if source == "tf1":
            classes = checkpoints.tf1_num_classes(path)
        else:
            classes = checkpoints.state_dict_num_classes(path, source)
        model = efficientnet.build_efficientnet(variant, num_classes=classes, **network)
        if source == "tf1":
            return checkpoints.load_tf1_checkpoint(model, path, ema=ema)
        return checkpoints.load_state_dict(model, path, naming=source)
    except ValueError as error:
        problem = str(error).removeprefix("`source`: ")
        raise InputError(f"`checkpoint`: {problem}") from error


def write_checkpoint(
    model: keras.Model,
    output: str,
    variant: str,
    *,
    target: str = "",
    class_names: list[str] | None = None,
    image_size: int = 0,
    crop: str = "inception",
) -> str:
    """Writes a model in the format of `target`; returns that format.

    Args:
        model: An EfficientNet.
        output: File, TF1 prefix or, for `model`, directory.
        variant: Architecture.
        target: One of `TARGETS`; empty: by the suffix of `output` (`.keras`,
            `.weights.h5`, `.ckpt`, `.safetensors`), otherwise `model`.
        class_names: For `model`: names by logit; the indices by default.
        image_size: For `model` and `keras_applications`: side of the images in
            pixels; 0: the variant's.
        crop: For `model`: `inception` or `pad`, see `data.augmentation`.

    Raises:
        InputError: The format is unknown or has no such variant, or the names
            are not one for each logit.
    """
    target = target or next(
        (kind for suffix, kind in _SUFFIXES.items() if output.endswith(suffix)), "model"
    )
    if target not in TARGETS:
        raise InputError(f"`to`: expected {', '.join(TARGETS)}; received {target!r}.")
    image_size = image_size or efficientnet.get_variant(variant).resolution
    if target == "model":
        names = _class_names(class_names, model.output_shape[-1])
        model_files.save_model(
            model,
            output,
            class_names=names,
            image_size=image_size,
            crop=crop,
            variant=variant,
        )
    elif target == "tf1":
        tf.io.gfile.makedirs(os.path.dirname(output) or ".")
        checkpoints.save_tf1_checkpoint(model, output, variant)
    else:
        try:
            _write_file(model, output, variant, target, image_size)
        except ValueError as error:
            problem = str(error).removeprefix("`variant`: ")
            raise InputError(f"`to`: {problem}") from error
    return target


def _write_file(model, output, variant, target, image_size):
    if target == "keras_applications":
        model = checkpoints.to_keras_applications(model, variant, image_size)
    suffix = {"timm": ".safetensors", "weights": ".weights.h5"}.get(target, ".keras")
    if not output.endswith(suffix):
        raise ValueError(
            f"expected an output that ends in {suffix} for {target}; received {output!r}."
        )
    with files.atomic_path(output) as temporary:
        if target == "timm":
            checkpoints.save_state_dict(model, temporary)
        elif target == "weights":
            model.save_weights(temporary)
        else:
            model.save(temporary)


def _class_names(names: list[str] | None, count: int) -> list[str]:
    names = names or [str(index) for index in range(count)]
    if len(names) != count or len(set(names)) != count:
        raise InputError(
            f"`class_names`: expected {count} different names, one for each logit; "
            f"received {len(names)}, {len(set(names))} of them different."
        )
    return names


def _own_model(path: str) -> keras.Model:
    if tf.io.gfile.isdir(path):
        return model_files.load_model(path)[0]
    return model_files.load_keras(path)


def _application(path: str, variant: str, num_classes: int) -> keras.Model:
    if path.endswith(".keras"):
        return model_files.load_keras(path)
    name = variant.replace("efficientnet-b", "EfficientNetB")
    make = getattr(keras.applications, name, None)
    if make is None:
        raise ValueError(
            "expected a variant of keras.applications, efficientnet-b0 to efficientnet-b7; "
            f"received {variant!r}."
        )
    model = make(weights=None, classes=num_classes)
    load_weights(model, path)
    return model


def load_weights(model: keras.Model, path: str) -> None:
    """Fills a model with a Keras weights file.

    Raises:
        InputError: It is damaged, or of another model.
    """
    try:
        model.load_weights(path)
    # Of a damaged file come errors of all kinds: of HDF5, of NumPy and of layers.
    except Exception as error:
        if isinstance(error, (MemoryError, *storage_errors.PASSING)):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"`checkpoint`: expected a Keras weights file; {path} cannot be loaded "
            f"({type(error).__name__}: {reason.rstrip('.')})."
        ) from error
