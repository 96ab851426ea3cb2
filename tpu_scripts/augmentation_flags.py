"""Flags of the input noise: a preset by name, and single settings."""

from absl import flags

from data.augmentation import PRESETS, Augmentation
from tpu_scripts import setting_flags

flags.disclaim_key_flags()


def define() -> None:
    """Defines --augmentation and a flag for each field of `Augmentation`."""
    flags.DEFINE_enum(
        "augmentation",
        None,
        list(PRESETS),
        "Input noise by name, in place of the recipe's; see docs/input.md.",
    )
    setting_flags.define(Augmentation)


def given() -> list[str]:
    """Names of those flags that were set."""
    names = ["augmentation", *setting_flags.names(Augmentation)]
    return [name for name in names if flags.FLAGS[name].value is not None]


def augmentation(default: Augmentation) -> Augmentation:
    """The named one, or the default, with the single settings that were given."""
    name = flags.FLAGS.augmentation
    return setting_flags.override(PRESETS[name] if name else default)
