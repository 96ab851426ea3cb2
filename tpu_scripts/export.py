"""A trained model as a SavedModel that takes image files.

    python -m tpu_scripts.export --model=runs/digits/generation_2/student \\
        --output_dir=exported
"""

from absl import flags

from noisy_student.export import export
from tpu_scripts import setting_flags

_MODEL = flags.DEFINE_string("model", None, "Directory of a trained model.", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where saved_model/ goes.", required=True
)


def main():
    export(_MODEL.value, _OUTPUT_DIR.value)


if __name__ == "__main__":
    setting_flags.run(main)
