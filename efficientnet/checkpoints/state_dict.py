"""Weights from and to PyTorch state dicts in safetensors files.

Two naming schemes are known: timm's (`tf_efficientnet_b0.ns_jft_in1k` and the
other `tf_efficientnet_*` on the Hugging Face hub, `model.safetensors`), and that
of efficientnet_lite_pytorch. Pickled files are not read: whoever has one
converts it with `torch.load(path, weights_only=True)` and
`safetensors.torch.save_file`.

PyTorch keeps kernels as [out, in, h, w] and dense kernels as [out, in]; only
models with TensorFlow's padding (timm's `tf_` ones) give the same logits.
"""

import keras
import numpy as np
import safetensors
import safetensors.numpy

from efficientnet.checkpoints import places
from efficientnet.checkpoints.places import Block, Place

NAMINGS = ("timm", "lite")
_CLASSIFIERS = ("classifier.", "_fc.")
_COUNTER = ".num_batches_tracked"
_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def load_state_dict(
    model: keras.Model, path: str, *, naming: str = "timm", head: bool = True
) -> keras.Model:
    """Fills `model` with the weights of a safetensors file.

    Args:
        model: An EfficientNet of the same variant.
        path: A `.safetensors` file of float32 or float16 tensors.
        naming: `timm`, or `lite` for efficientnet_lite_pytorch.
        head: Take the classifier too. Without it another number of classes fits.

    Returns:
        The model.

    Raises:
        ValueError: The file is no such one, lacks weights, or is of another
            variant; the first differing shapes are named.
    """
    tensors = _read(path)
    if not head:
        tensors = {k: v for k, v in tensors.items() if not k.startswith(_CLASSIFIERS)}
    wanted, values = {}, dict(tensors)
    for place, (name, variable) in _named(model, naming).items():
        if not head and place.part == places.CLASSIFIER:
            continue
        wanted[name] = variable
        if name in tensors and tensors[name].ndim == len(variable.shape):
            values[name] = _from_torch(tensors[name], place)
    shapes = {name: value.shape for name, value in values.items()}
    places.assign(wanted, shapes, values.__getitem__, path)
    return model


def state_dict_num_classes(path: str, naming: str = "timm") -> int:
    """How many classes the classifier of a safetensors file tells apart.

    Raises:
        ValueError: The file is no such one, or has no classifier.
    """
    name = {"timm": "classifier.bias", "lite": "_fc.bias"}[naming]
    tensors = _read(path)
    if name not in tensors:
        raise ValueError(
            f"`path`: expected an EfficientNet's state dict with {name}; {path} holds "
            f"{', '.join(sorted(tensors)[:3])}, …"
        )
    return tensors[name].shape[0]


def save_state_dict(model: keras.Model, path: str) -> None:
    """Writes a safetensors file that timm's `tf_efficientnet_*` model loads.

    Args:
        model: An EfficientNet.
        path: The file to write.
    """
    tensors = {}
    for place, (name, variable) in _named(model, "timm").items():
        tensors[name] = np.ascontiguousarray(_to_torch(variable.numpy(), place))
        if place.leaf == "gamma":
            tensors[name.removesuffix(".weight") + _COUNTER] = np.array(0, np.int64)
    safetensors.numpy.save_file(tensors, path)


def _read(path: str) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, TypeError, KeyError) as error:
        raise ValueError(
            f"`path`: expected a safetensors file of float32 or float16 tensors; received "
            f"{path!r} ({error})."
        ) from error
    return {name: value for name, value in tensors.items() if not name.endswith(_COUNTER)}


def _named(model: keras.Model, naming: str) -> dict[Place, tuple[str, keras.Variable]]:
    """Each weight's name in the file, and the weight, by place."""
    if naming not in NAMINGS:
        raise ValueError(
            f"`naming`: expected one of {', '.join(NAMINGS)}; received {naming!r}."
        )
    blocks = places.blocks_of(model)
    layer_name = _timm_layer if naming == "timm" else _lite_layer
    return {
        place: (f"{layer_name(place, blocks)}.{_LEAVES[place.leaf]}", variable)
        for place, variable in places.weights_by_place(model).items()
    }


def _timm_layer(place: Place, blocks: list[Block]) -> str:
    """(3, project_conv) is `blocks.2.0.conv_pwl`."""
    if place.block is None:
        return {
            "stem_conv": "conv_stem",
            "stem_norm": "bn1",
            "head_conv": "conv_head",
            "head_norm": "bn2",
            "head_dense": "classifier",
        }[place.part]
    block = blocks[place.block]
    parts = {
        "expand_conv": "conv_pw",
        "expand_norm": "bn1",
        "depthwise_conv": "conv_dw",
        "depthwise_norm": f"bn{1 + block.expands}",
        "se_reduce": "se.conv_reduce",
        "se_expand": "se.conv_expand",
        # timm's block without expansion calls its only pointwise one conv_pw.
        "project_conv": "conv_pwl" if block.expands else "conv_pw",
        "project_norm": f"bn{2 + block.expands}",
    }
    return f"blocks.{block.stage}.{block.repeat}.{parts[place.part]}"


def _lite_layer(place: Place, blocks: list[Block]) -> str:
    """(3, project_conv) is `_blocks.3._project_conv`."""
    del blocks  # Blocks are counted through, norms by kind.
    if place.block is None:
        return {
            "stem_conv": "_conv_stem",
            "stem_norm": "_bn0",
            "head_conv": "_conv_head",
            "head_norm": "_bn1",
            "head_dense": "_fc",
        }[place.part]
    norms = {"expand_norm": "_bn0", "depthwise_norm": "_bn1", "project_norm": "_bn2"}
    part = norms.get(place.part, f"_{place.part}")
    return f"_blocks.{place.block}.{part}"


def _from_torch(value: np.ndarray, place: Place) -> np.ndarray:
    return np.transpose(value, _axes(value.ndim, place, to_torch=False))


def _to_torch(value: np.ndarray, place: Place) -> np.ndarray:
    return np.transpose(value, _axes(value.ndim, place, to_torch=True))


def _axes(rank: int, place: Place, to_torch: bool) -> tuple[int, ...]:
    if place.leaf != "kernel":
        return tuple(range(rank))
    if rank == 2:
        return 1, 0
    if place.part == "depthwise_conv":  # [h, w, C, 1] and [C, 1, h, w].
        return 2, 3, 0, 1
    return (3, 2, 0, 1) if to_torch else (2, 3, 1, 0)
