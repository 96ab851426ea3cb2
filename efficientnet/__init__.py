"""EfficientNet, alone: variants, layers and the model. Needs only Keras and TensorFlow."""

from efficientnet.layers import noise_key
from efficientnet.model import build_efficientnet
from efficientnet.variants import VARIANTS, Variant, get_variant

__all__ = ["VARIANTS", "Variant", "build_efficientnet", "get_variant", "noise_key"]
