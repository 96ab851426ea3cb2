"""Freezing the shallow layers of a network."""

import keras

from efficientnet.normalization import BatchNormalization


def freeze(model: keras.Model, blocks: int) -> None:
    """Freezes the stem and the first `blocks` blocks; the head stays trainable.

    A frozen layer is not changed by training: its weights get no gradient and no
    weight decay, its batch norm uses the moving statistics and leaves them as
    they are, and it drops no branches (reference: `fix_layer_num`, 0 for the
    stem alone). Load the weights first: frozen layers keep what they hold.

    Args:
        model: A network of `build_efficientnet`.
        blocks: 0 to the number of its blocks.

    Raises:
        ValueError: It is another network, or has fewer blocks.
    """
    count = num_blocks(model)
    if not 0 <= blocks <= count:
        raise ValueError(f"expected 0 to the network's {count} blocks; received {blocks}.")
    for name in ("stem", *(f"block_{index}" for index in range(blocks))):
        model.get_layer(name).trainable = False


def freeze_statistics(model: keras.Model) -> None:
    """Makes every batch norm use its moving statistics, also where noise is on."""
    kinds = (BatchNormalization, keras.layers.BatchNormalization)
    for layer in model._flatten_layers():  # Keras has no public way into blocks.
        if isinstance(layer, kinds):
            layer.trainable = False


def num_blocks(model: keras.Model) -> int:
    """How many blocks a network of `build_efficientnet` has.

    Raises:
        ValueError: It is another network.
    """
    count = sum(layer.name.startswith("block_") for layer in model.layers)
    if not count:
        raise ValueError(
            "expected an EfficientNet, which has a stem, blocks and a head; received "
            f"{model.name!r}, which has no blocks."
        )
    return count
