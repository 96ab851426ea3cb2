"""A trained model for use elsewhere: SavedModel, .keras, TFLite, and a model card.

    python -m tpu_scripts.export --model=runs/digits/generation_2/student \\
        --output_dir=exported --representative_data=digits:pool

Run again, also with other formats, it writes what is missing.
"""

from absl import flags

from noisy_student.export.export import export
from noisy_student.export.tflite import FORMATS, INT8, WITHOUT_DATA, TFLiteOptions
from tpu_scripts import setting_flags

_MODEL = flags.DEFINE_string("model", None, "Directory of a trained model.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where it all goes.", required=True)
_TFLITE = flags.DEFINE_list(
    "tflite",
    None,
    f"TFLite formats, some of {','.join(FORMATS)}; empty: none. By default the first "
    "three, and int8 where --representative_data is given.",
)
_REPRESENTATIVE_DATA = flags.DEFINE_string(
    "representative_data",
    "",
    "Data set of images like those the model will see, for int8; labels are not used.",
)
_REPRESENTATIVE_IMAGES = flags.DEFINE_integer(
    "representative_images", 100, "How many of them are taken."
)


def main() -> None:
    formats = _TFLITE.value
    if formats is None:
        formats = [*WITHOUT_DATA, *([INT8] if _REPRESENTATIVE_DATA.value else [])]
    options = TFLiteOptions(
        tuple(formats), _REPRESENTATIVE_DATA.value, _REPRESENTATIVE_IMAGES.value
    )
    export(_MODEL.value, _OUTPUT_DIR.value, options)


if __name__ == "__main__":
    setting_flags.run(main)
