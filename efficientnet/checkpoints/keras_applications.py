"""Models of `keras.applications.EfficientNetB0` … `B7`, in and out.

The architecture is the same but for the input. There pixels go through
Rescaling (1/255), Normalization, and, only where the model was made with
`weights="imagenet"`, a second Rescaling by 1/sqrt(std): the published weight
files hold std in the place of the variance, so the two together divide by std
(keras-team/keras, applications/efficientnet.py). Here mean and std are what
these layers do taken together.
"""

import keras
import numpy as np

from efficientnet.checkpoints import places
from efficientnet.checkpoints.places import Block, Place
from efficientnet.model import build_efficientnet
from efficientnet.variants import STANDARD


def from_keras_applications(source: keras.Model, variant: str) -> keras.Model:
    """Builds our model with the weights of one of `keras.applications`.

    Args:
        source: `keras.applications.EfficientNetB0(…)`, with its classifier.
        variant: Its name here, such as `efficientnet-b0`.

    Returns:
        A model with the same logits, for pixels in 0..255. (The source's
        classifier may end in a softmax.)

    Raises:
        ValueError: The source is of another variant, or lacks the classifier.
    """
    classifier = _layer(source, "predictions")
    mean, std = _input_statistics(source)
    model = build_efficientnet(variant, num_classes=classifier.units, mean=mean, std=std)
    found = _weights(source)
    shapes = {name: tuple(variable.shape) for name, variable in found.items()}
    wanted = _named(model)
    places.assign(wanted, shapes, lambda name: found[name].numpy(), source.name)
    return model


def to_keras_applications(
    model: keras.Model, variant: str, image_size: int | None = None
) -> keras.Model:
    """Builds the model of `keras.applications` with our weights.

    Args:
        model: An EfficientNet, B0 to B7.
        variant: Its name, such as `efficientnet-b0`.
        image_size: Side of the images, which is fixed there; the variant's by
            default.

    Returns:
        A functional model made of stock layers alone, with the same logits.

    Raises:
        ValueError: `keras.applications` has no such variant.
    """
    name = variant.replace("efficientnet-b", "EfficientNetB")
    if not hasattr(keras.applications, name):
        raise ValueError(
            "`variant`: expected efficientnet-b0 to efficientnet-b7, which "
            f"keras.applications has; received {variant!r}."
        )
    classes = model.get_layer(places.CLASSIFIER).units
    target = getattr(keras.applications, name)(
        weights=None,
        classes=classes,
        classifier_activation=None,
        input_shape=image_size and (image_size, image_size, 3),
    )
    ours = _named(model)
    shapes = {key: tuple(variable.shape) for key, variable in ours.items()}
    places.assign(_weights(target), shapes, lambda key: ours[key].numpy(), model.name)
    own = model.get_layer("normalization")
    normalization = _layer(target, "normalization", keras.layers.Normalization)
    normalization.adapt_mean.assign(own.mean)
    normalization.adapt_variance.assign(np.square(own.std))
    normalization.finalize_state()
    return target


def _weights(model: keras.Model) -> dict[str, keras.Variable]:
    """What is trained, and moving statistics, by `<layer>/<weight>`."""
    return {
        f"{layer.name}/{weight.name}": weight
        for layer in model.layers
        if not isinstance(layer, keras.layers.Normalization)
        for weight in layer.weights
    }


def _named(model: keras.Model) -> dict[str, keras.Variable]:
    """Our weights by `<layer>/<weight>` there."""
    blocks = places.blocks_of(model)
    return {
        f"{_layer_name(place, blocks)}/{place.leaf}": variable
        for place, variable in places.weights_by_place(model).items()
    }


def _layer_name(place: Place, blocks: list[Block]) -> str:
    """(3, project_conv) is `block3a_project_conv`."""
    if place.block is None:
        return {
            "stem_conv": "stem_conv",
            "stem_norm": "stem_bn",
            "head_conv": "top_conv",
            "head_norm": "top_bn",
            "head_dense": "predictions",
        }[place.part]
    block = blocks[place.block]
    part = {
        "depthwise_conv": "dwconv",
        "depthwise_norm": "bn",
    }.get(place.part, place.part.replace("_norm", "_bn"))
    return f"block{block.stage + 1}{chr(ord('a') + block.repeat)}_{part}"


def _input_statistics(source: keras.Model) -> tuple[list[float], list[float]]:
    """Mean and std, on the scale 0..1, of what the source does to pixels."""
    normalization = _layer(source, "normalization", keras.layers.Normalization)
    mean = np.ravel(normalization.mean).astype(float)
    variance = np.ravel(normalization.variance).astype(float)
    std = np.sqrt(variance)
    scales = [
        np.ravel(layer.scale)
        for layer in source.layers
        if isinstance(layer, keras.layers.Rescaling)
    ]
    if len(scales) > 1:
        std = std / scales[1]
    elif np.allclose(variance, STANDARD.std, atol=1e-3):
        # A published weight file, loaded without the second rescaling.
        std = variance
    return mean.tolist(), std.tolist()


def _layer(
    model: keras.Model, name: str, kind: type[keras.layers.Layer] = keras.layers.Layer
) -> keras.layers.Layer:
    for layer in model.layers:
        if layer.name.startswith(name) and isinstance(layer, kind):
            return layer
    raise ValueError(
        "`source`: expected a model of keras.applications.EfficientNetB0 … B7 with "
        f"include_top=True; {model.name} has no layer {name!r}."
    )
