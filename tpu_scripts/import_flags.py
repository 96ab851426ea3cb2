"""The flags that import predictions made elsewhere in place of a teacher's."""

from absl import flags

from data.class_names import read_class_names
from data.errors import InputError
from tpu_scripts import augmentation_flags

# They belong to the script that asks for them: --helpshort.
flags.disclaim_key_flags()


_OF_A_TEACHER = (
    "noised_teacher",
    "seed",
    "calibrate",
    "validation_data",
    "batch_size",
    "worker_index",
    "num_workers",
)


def define() -> None:
    """Defines --import_predictions and --class_names."""
    flags.DEFINE_string(
        "import_predictions",
        "",
        "In place of --model: path or glob of Parquet or .npz files with `id` and "
        "`probabilities`. See docs/pseudo_labels.md.",
    )
    flags.DEFINE_string(
        "class_names",
        "",
        "With --import_predictions: file with the names of the classes in the order of "
        "the probabilities, a JSON list or one name a line.",
    )


def importing() -> bool:
    """Whether predictions are imported; checks that the flags go together."""
    source, names = flags.FLAGS.import_predictions, flags.FLAGS.class_names
    model = flags.FLAGS.model
    if bool(source) == bool(model):
        raise InputError(
            "`model`, `import_predictions`: expected one of them; received "
            f"{'both' if source else 'neither'}."
        )
    if bool(source) != bool(names):
        raise InputError(
            "`class_names`: expected together with --import_predictions, and only then; "
            f"received {names!r} with --import_predictions={source!r}."
        )
    for name in (*_OF_A_TEACHER, *augmentation_flags.given()):
        if source and flags.FLAGS[name].present:
            raise InputError(
                f"`{name}`: expected with --model alone; received it with "
                f"--import_predictions={source!r}, whose labels are made."
            )
    return bool(source)


def class_names() -> tuple[str, ...]:
    """The names in the file of --class_names."""
    return read_class_names(flags.FLAGS.class_names)
