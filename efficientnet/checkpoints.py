"""Weights from and to the TF1 checkpoints of the published code.

A published checkpoint names variables by call order within a scope, so the
same name means different layers: in a block without expansion `conv2d` is the
projection, in the others the expansion.
"""

import re

import keras
import numpy as np
import tensorflow as tf

EMA_SUFFIX = "/ExponentialMovingAverage"
_STEM = "stem/conv2d/kernel"


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
    if tf.io.gfile.isdir(path):
        path = tf.train.latest_checkpoint(path) or path
    try:
        reader = tf.train.load_checkpoint(path)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"`path`: expected the prefix of a TF1 checkpoint, such as "
            f"model.ckpt of model.ckpt.index; received {path!r} ({error})."
        ) from error
    shapes = reader.get_variable_to_shape_map()
    prefix, suffix = _prefix(shapes, path), EMA_SUFFIX if ema else ""
    wanted = {
        f"{prefix}{name}{suffix}": variable
        for name, variable in tf1_variables(model).items()
        if head or not name.startswith("head/dense/")
    }
    _check_names(wanted, shapes, path, ema)
    _check_shapes(wanted, shapes, path)
    for name, variable in wanted.items():
        variable.assign(reader.get_tensor(name))
    return model


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
    names = {layer.name for layer in model.layers}
    variables = {}
    for layer in model.layers:
        if not layer.variables:
            continue
        scope = _tf1_layer(layer.name, names)
        for variable in layer.variables:
            leaf = variable.path.rsplit("/", 1)[-1]
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                leaf = "depthwise_kernel"
            variables[f"{scope}/{leaf}"] = variable
    return variables


def _tf1_layer(name: str, names: set[str]) -> str:
    """A layer's TF1 name: `block_3_project_conv` is `blocks_3/conv2d_1`."""
    block = re.fullmatch(r"block_(\d+)_(.+)", name)
    if not block:
        part, kind = name.split("_")
        kinds = {"conv": "conv2d", "bn": "tpu_batch_normalization", "dense": "dense"}
        return f"{part}/{kinds[kind]}"
    index, part = block.groups()
    expands = f"block_{index}_expand_conv" in names
    parts = {
        "expand_conv": "conv2d",
        "expand_bn": "tpu_batch_normalization",
        "depthwise_conv": "depthwise_conv2d",
        "depthwise_bn": _numbered("tpu_batch_normalization", expands),
        "se_reduce": "se/conv2d",
        "se_expand": "se/conv2d_1",
        "project_conv": _numbered("conv2d", expands),
        "project_bn": _numbered("tpu_batch_normalization", 1 + expands),
    }
    return f"blocks_{index}/{parts[part]}"


def _numbered(name: str, count: int) -> str:
    return f"{name}_{int(count)}" if count else name


def _prefix(shapes, path: str) -> str:
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


def _check_names(wanted, shapes, path, ema) -> None:
    missing = [name for name in wanted if name not in shapes]
    if missing:
        other = "raw weights (ema=False)" if ema else "averaged weights (ema=True)"
        raise ValueError(
            f"{path}: expected all {len(wanted)} weights of the model; {len(missing)} are "
            f"not there, such as {missing[0]}. It may be of another variant, or hold "
            f"{other} alone."
        )


def _check_shapes(wanted, shapes, path) -> None:
    for name, variable in wanted.items():
        if tuple(shapes[name]) != tuple(variable.shape):
            raise ValueError(
                f"{path} is of another variant: {name} has shape {tuple(shapes[name])}, "
                f"the model expects {tuple(variable.shape)}."
            )
