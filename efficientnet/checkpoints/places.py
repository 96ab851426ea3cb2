"""Where a weight stands in the network, independent of any format's names."""

import dataclasses
import re
from collections.abc import Callable

import keras
import numpy as np

from efficientnet.blocks import MBConv

CLASSIFIER = "head_dense"


@dataclasses.dataclass(frozen=True)
class Place:
    """One weight's place.

    Attributes:
        block: Index over all blocks, from 0; None outside the blocks.
        part: `stem_conv`, `stem_norm`, `expand_conv`, `expand_norm`,
            `depthwise_conv`, `depthwise_norm`, `se_reduce`, `se_expand`,
            `project_conv`, `project_norm`, `head_conv`, `head_norm` or
            `head_dense`.
        leaf: `kernel`, `bias`, `gamma`, `beta`, `moving_mean`, `moving_variance`.
    """

    block: int | None
    part: str
    leaf: str


@dataclasses.dataclass(frozen=True)
class Block:
    """What formats need to know of a block to name its weights.

    Attributes:
        stage: Index of its stage, from 0.
        repeat: Index within the stage, from 0.
        expands: Whether it has an expansion.
    """

    stage: int
    repeat: int
    expands: bool


def weights_by_place(model: keras.Model) -> dict[Place, keras.Variable]:
    """All weights of an EfficientNet, moving statistics included."""
    return {_place(variable.path): variable for variable in model.variables}


def _place(path: str) -> Place:
    """`block_3/block_3_expand/norm/gamma` is (3, expand_norm, gamma)."""
    inside = re.fullmatch(r"block_(\d+)/block_\1_(\w+?)/(\w+)/(\w+)", path)
    if inside:
        index, layer, kind, leaf = inside.groups()
        return Place(int(index), f"{layer}_{kind}", leaf)
    *layers, leaf = path.split("/")
    return Place(None, "_".join(layers), leaf)


def blocks_of(model: keras.Model) -> list[Block]:
    """The model's blocks; stages begin where stride, kernel or expansion say so."""
    blocks, previous = [], None
    for layer in model.layers:
        if not isinstance(layer, MBConv):
            continue
        form = (layer.kernel_size, layer.expand_ratio)
        if previous is None:
            stage, repeat = 0, 0
        elif layer.strides > 1 or form != previous:
            stage, repeat = stage + 1, 0
        else:
            repeat += 1
        previous = form
        blocks.append(Block(stage, repeat, layer.expand_ratio != 1))
    return blocks


def assign(
    wanted: dict[str, keras.Variable],
    shapes: dict[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    source: str,
) -> None:
    """Fills variables from a file whose names and shapes were found to match.

    Args:
        wanted: Variables by their names in the file.
        shapes: The file's shapes, as the variables have them, by name.
        read: Gives the value of a name, in that shape.
        source: The file, for messages.

    Raises:
        ValueError: The file lacks weights, holds others, or other shapes. No
            variable was changed.
    """
    missing = [name for name in wanted if name not in shapes]
    if missing:
        raise ValueError(
            f"{source}: expected all {len(wanted)} weights of the model; {len(missing)} "
            f"are not there, such as {missing[0]}. It may be of another variant."
        )
    for name, variable in wanted.items():
        if tuple(shapes[name]) != tuple(variable.shape):
            raise ValueError(
                f"{source}: expected {name} of shape {tuple(variable.shape)}; received "
                f"{tuple(shapes[name])}. The file is of another variant: pass its own."
            )
    unknown = sorted(set(shapes) - set(wanted))
    if unknown:
        raise ValueError(
            f"{source}: expected only the model's {len(wanted)} weights; received "
            f"{len(unknown)} others too, such as {unknown[0]}. The file is of another "
            "variant: pass its own."
        )
    for name, variable in wanted.items():
        variable.assign(read(name))
