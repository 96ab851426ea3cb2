"""Weights of other implementations, in and out: one module a format.

| module | format |
|---|---|
| `tf1` | checkpoints of the published TF1 code |
| `state_dict` | PyTorch state dicts in safetensors: timm, efficientnet_lite_pytorch |
| `keras_applications` | models of `keras.applications` |

`places` says where in a network a weight stands; a format is a function from
there to its own names.
"""

from efficientnet.checkpoints.keras_applications import (
    from_keras_applications,
    to_keras_applications,
)
from efficientnet.checkpoints.state_dict import (
    load_state_dict,
    save_state_dict,
    state_dict_num_classes,
)
from efficientnet.checkpoints.tf1 import (
    load_tf1_checkpoint,
    save_tf1_checkpoint,
    tf1_num_classes,
)

__all__ = [
    "from_keras_applications",
    "load_state_dict",
    "load_tf1_checkpoint",
    "save_state_dict",
    "save_tf1_checkpoint",
    "state_dict_num_classes",
    "tf1_num_classes",
    "to_keras_applications",
]
