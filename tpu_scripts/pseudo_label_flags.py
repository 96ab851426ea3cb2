"""The flags that say where a student's pseudo-labels come from."""

import os

from absl import flags

from data.errors import InputError
from data.records import RecordSet
from noisy_student.balancing.balancing import load_balanced
from tpu_scripts import record_flags

flags.disclaim_key_flags()


def define() -> None:
    """Defines --pseudo_labeled_data, --online_teacher and --unlabeled_data."""
    flags.DEFINE_string(
        "pseudo_labeled_data", "", "Directory that balance wrote, for a student."
    )
    flags.DEFINE_string(
        "online_teacher",
        "",
        "Trained model that labels --unlabeled_data as the student trains, in place of "
        "--pseudo_labeled_data: no stored labels, nothing filtered or balanced.",
    )
    flags.DEFINE_string("unlabeled_data", "", "Unlabeled data set, for --online_teacher.")


def check(role: str) -> None:
    """Refuses a student without one source, and other roles with any.

    Args:
        role: `teacher`, `student` or `control`.
    """
    stored, online = flags.FLAGS.pseudo_labeled_data, flags.FLAGS.online_teacher
    unlabeled = flags.FLAGS.unlabeled_data
    if role != "student" and (stored or online):
        raise InputError(
            "`pseudo_labeled_data`, `online_teacher`: expected for --role=student and for "
            f"no other; received {stored or online!r} with --role={role}."
        )
    if role == "student" and bool(stored) == bool(online):
        raise InputError(
            "`pseudo_labeled_data`, `online_teacher`: expected one of them for "
            f"--role=student; received {'both' if stored else 'neither'}."
        )
    if bool(online) != bool(unlabeled):
        raise InputError(
            "`unlabeled_data`: expected together with --online_teacher, and only then; "
            f"received {unlabeled!r} with --online_teacher={online!r}."
        )


def paths() -> dict[str, str]:
    """What they name, by flag."""
    names = ("pseudo_labeled_data", "unlabeled_data", "online_teacher")
    return {name: flags.FLAGS[name].value for name in names}


def pseudo_labeled(output_dir: str) -> RecordSet | None:
    """Stored labels, or images for an online teacher, or None."""
    if flags.FLAGS.pseudo_labeled_data:
        return load_balanced(flags.FLAGS.pseudo_labeled_data, flags.FLAGS.skip_bad_records)
    if not flags.FLAGS.online_teacher:
        return None
    name, directory = "unlabeled_data", os.path.join(output_dir, "unlabeled_data")
    return record_flags.prepare(name, flags.FLAGS[name].value, directory, labeled=False)
