"""The whole of Noisy Student Training: teacher, then students, one after the other.

    python -m tpu_scripts.iterate --recipe=digits --work_dir=runs/digits

Run again, it goes on at the first unfinished stage.
"""

import dataclasses
import os
import shlex
import sys

from absl import flags

from noisy_student import config, recipes
from noisy_student.iterate import iterate
from noisy_student.iteration.checks import check_run
from noisy_student.planning import presets, run_plan
from noisy_student.preparation import splits
from noisy_student.report import report, story
from noisy_student.stages import layout
from noisy_student.tables import format_table
from noisy_student.training.training_loop import LoopOptions
from tpu_scripts import augmentation_flags, plan_flags, setting_flags, strategy_flags

_RECIPE = flags.DEFINE_string(
    "recipe", "digits", "Named configuration; `reproduce --list` shows all of them."
)
_WORK_DIR = flags.DEFINE_string("work_dir", "runs/digits", "Where everything goes.")
_PRESET = flags.DEFINE_string(
    "preset",
    "",
    "small, medium or large: choose network, image size, batch and length of training "
    "from the data, in place of the recipe's; says what and why. Other flags go before.",
)

# Part of the configuration, its prefix in the flags, its type.
_PARTS = (
    ("data", "", config.DataConfig),
    ("selection", "", config.SelectionConfig),
    ("teacher", "teacher_", config.ModelConfig),
    ("teacher_training", "teacher_", config.TrainingConfig),
    ("student", "student_", config.ModelConfig),
    ("student_training", "student_", config.TrainingConfig),
)
for _, _prefix, _type in _PARTS:
    setting_flags.define(_type, _prefix)
augmentation_flags.define()
setting_flags.define(config.Config)
setting_flags.define(LoopOptions)
plan_flags.define()
strategy_flags.define()


def main() -> None:
    settings = recipes.load_run(_RECIPE.value)
    options = setting_flags.override(LoopOptions())
    choices = _choices(settings)
    settings = presets.apply(settings, choices)
    parts = {
        name: setting_flags.override(getattr(settings, name), prefix)
        for name, prefix, _ in _PARTS
    }
    parts["augmentation"] = augmentation_flags.augmentation(settings.augmentation)
    settings = dataclasses.replace(setting_flags.override(settings), **parts)
    if choices:
        lines = presets.described(choices, settings)
        print(f"--preset={_PRESET.value} chose, for teacher and student:", *lines, sep="\n")
    work_dir = _WORK_DIR.value
    strategy = strategy_flags.create_strategy(
        work_dir=work_dir, **_read_where_it_lies(settings.data)
    )
    if plan_flags.dry_run():
        return _show_plan(settings, strategy, options)
    command = shlex.join(["python", "-m", "tpu_scripts.iterate", *sys.argv[1:]])
    summary = iterate(settings, work_dir, strategy, options, command)
    print()
    print(format_table(story.table(summary)))
    print(f"\nReport: {os.path.join(work_dir, report.REPORT)}")
    print(f"Model:  {os.path.join(work_dir, layout.EXPORT, layout.SAVED_MODEL)}")


def _choices(recipe: config.Config) -> list[presets.Choice]:
    """What the preset chooses; nothing without one."""
    if not _PRESET.value:
        return []
    settings = setting_flags.override(recipe)
    data = setting_flags.override(recipe.data)
    config.check_data(data)
    found = presets.facts(splits.split(data, settings.seed))
    return presets.choose(_PRESET.value, found, settings.init_from)


def _read_where_it_lies(data: config.DataConfig) -> dict[str, str]:
    """Data sets that are TFRecords already, by argument, but for what is split."""
    found = {
        name: value
        for name, value in vars(data).items()
        if str(value).startswith("tfrecord:")
    }
    if data.labels_per_class or not data.test_data:
        found.pop("labeled_data", None)
    return found


def _show_plan(settings, strategy, options):
    check_run(settings, strategy, options)
    data = os.path.join(_WORK_DIR.value, layout.DATA)
    plan_flags.show(
        run_plan.plan_run(settings, strategy),
        lambda: run_plan.speeds_of_run(settings, data, strategy),
        options,
    )


if __name__ == "__main__":
    setting_flags.run(main)
