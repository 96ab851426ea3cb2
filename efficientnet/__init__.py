"""EfficientNet, alone: variants, layers and the model. Needs only Keras and TensorFlow."""

from efficientnet.model import build_efficientnet
from efficientnet.noise import noise_key
from efficientnet.outline import without_values
from efficientnet.variants import VARIANTS, Variant, get_variant

__all__ = [
    "VARIANTS",
    "Variant",
    "build_efficientnet",
    "get_variant",
    "noise_key",
    "without_values",
]
