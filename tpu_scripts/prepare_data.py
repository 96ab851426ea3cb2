"""Data sets to TFRecord shards: labeled, unlabeled, validation and test.

python -m tpu_scripts.prepare_data --recipe=digits --output_dir=runs/hand/data
"""

from absl import flags

from noisy_student import config, recipes
from noisy_student.preparation import prepare
from tpu_scripts import setting_flags

_RECIPE = flags.DEFINE_string(
    "recipe", "digits", f"Named configuration: {', '.join(recipes.names())}."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the shards go.", required=True)
_SEED = flags.DEFINE_integer("seed", None, "Of the splits and the order.", lower_bound=0)
setting_flags.define(config.DataConfig)


def main():
    recipe = recipes.load(_RECIPE.value)
    seed = recipe.seed if _SEED.value is None else _SEED.value
    data = setting_flags.override(recipe.data)
    config.check_data(data)
    prepared = prepare(data, _OUTPUT_DIR.value, seed)
    print(f"{prepared.labeled.num_classes} classes")
    sets = {"labeled": prepared.labeled, "unlabeled": prepared.unlabeled}
    for name, records in {**sets, **prepared.evaluation_sets()}.items():
        print(f"{name}: {records.num_examples:,} images in {len(records.files)} shards")


if __name__ == "__main__":
    setting_flags.run(main)
