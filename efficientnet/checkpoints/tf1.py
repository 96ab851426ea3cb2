"""Weights from and to the TF1 checkpoints of the published code.

A published checkpoint names variables by call order within a scope, so the
same name means different layers: in a block without expansion `conv2d` is the
projection, in the others the expansion.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet.checkpoints import places

EMA_SUFFIX = "/ExponentialMovingAverage"
# TensorFlow's reader makes an IndexError of "out of range": a file that ends early.
_UNREADABLE = (ValueError, IndexError, tf.errors.OpError)
_STEM = "stem/conv2d/kernel"
_CLASSIFIER = "head/dense/"
_LEAVES = {
    "kernel",
    "depthwise_kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
}


def load_tf1_checkpoint(
    model: keras.Model, path: str, *, ema: bool = True, head: bool = True
) -> keras.Model:
    """Fills `model` with the weights of a published checkpoint.

    Args:
        model: An EfficientNet of the same variant.
        path: The checkpoint's prefix (`…/model.ckpt`), or its directory.
        ema: Take the averaged weights, as every published accuracy does; the
            raw ones otherwise. L2 files hold averaged ones alone.
        head: Take the classifier too. Without it another number of classes fits.

    Returns:
        The model.

    Raises:
        ValueError: There is no such checkpoint, it lacks weights, or it is of
            another variant; the first differing shapes are named.
    """
    reader = _open(path)
    found = reader.get_variable_to_shape_map()
    scope, suffix = _scope(found, path), EMA_SUFFIX if ema else ""
    wanted = {
        f"{scope}{name}{suffix}": variable
        for name, variable in tf1_variables(model).items()
        if head or not name.startswith(_CLASSIFIER)
    }
    missing = [name for name in wanted if name not in found]
    if missing:
        other = "raw weights (ema=False)" if ema else "averaged weights (ema=True)"
        raise ValueError(
            f"{path}: expected all {len(wanted)} weights of the model; {len(missing)} are "
            f"not there, such as {missing[0]}. It may be of another variant, or hold "
            f"{other} alone."
        )
    shapes = {
        name: shape
        for name, shape in found.items()
        if _is_weight(name.removeprefix(scope), suffix, head) and name.startswith(scope)
    }
    places.assign(wanted, shapes, functools.partial(_tensor, reader, path), path)
    return model


def _tensor(reader: Any, path: str, name: str) -> np.ndarray:
    try:
        return reader.get_tensor(name)
    except _UNREADABLE as error:
        raise ValueError(
            f"`path`: expected a whole TF1 checkpoint; {name} of {path} cannot be read "
            f"({error}). Get its files again."
        ) from error


def _is_weight(name: str, suffix: str, head: bool) -> bool:
    """Not an optimizer's slot, nor an average where raw weights are wanted."""
    leaf = name.removesuffix(suffix).rsplit("/", 1)[-1]
    return name.endswith(suffix) and leaf in _LEAVES and (head or _CLASSIFIER not in name)


def tf1_num_classes(path: str) -> int:
    """How many classes the classifier of a checkpoint tells apart.

    Raises:
        ValueError: There is no such checkpoint, or it has no classifier.
    """
    shapes = _open(path).get_variable_to_shape_map()
    bias = f"{_scope(shapes, path)}{_CLASSIFIER}bias"
    for name in (bias, bias + EMA_SUFFIX):
        if name in shapes:
            return shapes[name][0]
    raise ValueError(f"`path`: expected a checkpoint with {bias}; {path} has none.")


def _open(path: str) -> Any:
    if tf.io.gfile.isdir(path):
        path = tf.train.latest_checkpoint(path) or path
    try:
        return tf.train.load_checkpoint(path)
    except _UNREADABLE as error:
        raise ValueError(
            f"`path`: expected the prefix of a TF1 checkpoint, such as "
            f"model.ckpt of model.ckpt.index; received {path!r} ({error})."
        ) from error


def save_tf1_checkpoint(model: keras.Model, path: str, name: str) -> None:
    """Writes a checkpoint that the published code can read.

    Every weight is written twice, as raw and as averaged one, and beside them
    `global_step` 0.

    Args:
        model: An EfficientNet.
        path: The prefix to write to, such as `out/model.ckpt`.
        name: The scope, such as `efficientnet-b0`.
    """
    tensors = {"global_step": np.int64(0)}
    for key, variable in tf1_variables(model).items():
        tensors[f"{name}/{key}"] = variable.numpy()
        tensors[f"{name}/{key}{EMA_SUFFIX}"] = variable.numpy()
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[key]) for key in names],
    )


def tf1_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's variables by their names in TF1, without the scope."""
    blocks = places.blocks_of(model)
    return {
        _tf1_name(place, blocks): variable
        for place, variable in places.weights_by_place(model).items()
    }


def _tf1_name(place: places.Place, blocks: list[places.Block]) -> str:
    """(3, project_conv, kernel) is `blocks_3/conv2d_1/kernel`."""
    norm = "tpu_batch_normalization"
    if place.block is None:
        part, kind = place.part.split("_")
        kinds = {"conv": "conv2d", "norm": norm, "dense": "dense"}
        return f"{part}/{kinds[kind]}/{place.leaf}"
    expands = blocks[place.block].expands
    parts = {
        "expand_conv": "conv2d",
        "expand_norm": norm,
        "depthwise_conv": "depthwise_conv2d",
        "depthwise_norm": _numbered(norm, expands),
        "se_reduce": "se/conv2d",
        "se_expand": "se/conv2d_1",
        "project_conv": _numbered("conv2d", expands),
        "project_norm": _numbered(norm, 1 + expands),
    }
    leaf = "depthwise_kernel" if place.part == "depthwise_conv" else place.leaf
    return f"blocks_{place.block}/{parts[place.part]}/{leaf}"


def _numbered(name: str, count: int) -> str:
    return f"{name}_{int(count)}" if count else name


def _scope(shapes: Mapping[str, Sequence[int]], path: str) -> str:
    """The scope of the network, such as `efficientnet-b0/`."""
    for name in sorted(shapes):
        # A training checkpoint may also hold `teacher_model/…`.
        match = re.fullmatch(rf"([^/]+/){_STEM}({EMA_SUFFIX})?", name)
        if match:
            return match.group(1)
    raise ValueError(
        f"`path`: expected an EfficientNet checkpoint with <name>/{_STEM}; {path} holds "
        f"{', '.join(sorted(shapes)[:3])}, …"
    )
