"""A whole run: the settings of its parts, and what fits together."""

import dataclasses
import math

from data import soft_labels
from data.augmentation import Augmentation
from data.errors import InputError
from data.settings import differences, setting
from noisy_student.config.data import DataConfig, check_data
from noisy_student.config.model import ModelConfig, check_model, check_student_size
from noisy_student.config.ranges import check_range
from noisy_student.config.selection import SelectionConfig, check_selection
from noisy_student.config.training import TrainingConfig, check_training


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run of Noisy Student Training. `recipes` holds named ones."""

    data: DataConfig = DataConfig()
    augmentation: Augmentation = Augmentation()
    teacher: ModelConfig = ModelConfig()
    student: ModelConfig = ModelConfig()
    teacher_training: TrainingConfig = TrainingConfig()
    student_training: TrainingConfig = TrainingConfig(unlabeled_ratio=3.0)
    selection: SelectionConfig = SelectionConfig()
    generations: int = setting(2, "Students trained one after the other.")
    control: bool = setting(
        True, "Also train the student on the labels alone, to compare with."
    )
    stop_when_no_gain: bool = setting(
        False, "Stop when a student is no better than its teacher on validation data."
    )
    allow_smaller_student: bool = setting(
        False, "Allow a student with fewer parameters than its teacher."
    )
    init_from: str = setting(
        "",
        "Directory of a model, as convert_checkpoint writes it, that every training starts "
        "from, but for its classifier; empty: random weights.",
    )
    student_init_from_teacher: bool = setting(
        False,
        "Start each student from its teacher's weights; in the paper from random ones.",
    )
    last_unlabeled_ratio: float = setting(
        0.0,
        "Unlabeled ratio of the last generation (28 for the paper's L2, after 14 and 14); "
        "0: the same as of the others.",
    )
    online_teacher: bool = setting(
        False,
        "Label each batch as the student trains: no stored labels, nothing selected.",
    )
    noised_teacher: bool = setting(
        False, "Label with training's noise on (table 6); the method has none."
    )
    calibrate: bool = setting(
        False,
        "Fit a temperature on the validation data, so that confidences of all teachers "
        "mean the same, and label with it.",
    )
    label_format: str = setting(
        "float32",
        "How the teacher's probabilities are stored: float32, float16, or top_K such as "
        "top_10: the K most probable classes. See docs/pseudo_labels.md.",
    )
    seed: int = setting(0, "Of every random draw of the run.")

    def training_of(self, generation: int) -> TrainingConfig:
        """The student training of a generation, 1 to `generations`."""
        if generation < self.generations or not self.last_unlabeled_ratio:
            return self.student_training
        ratio = self.last_unlabeled_ratio
        return dataclasses.replace(self.student_training, unlabeled_ratio=ratio)


# Training seeds are multiplied by 2^32 on the way to a draw, and must stay below 2^31.
_GENERATIONS, MOST_SEED = 1000, 2_147_482


def seed_of(seed: int, generation: int) -> int:
    """The seed of a generation's training: runs of other seeds share none of them.

    Args:
        seed: Of the run, 0 to 2,147,482.
        generation: 0 to 999.

    Raises:
        InputError: One of them is outside.
    """
    check_range("seed", seed, 0, MOST_SEED)
    check_range("generation", generation, 0, _GENERATIONS - 1)
    return _GENERATIONS * seed + generation


def check(config: Config) -> None:
    """Refuses what cannot work, before any work is done.

    Raises:
        InputError: Names the setting, what was expected and what came.
    """
    for role in ("teacher", "student"):
        check_model(getattr(config, role), f"{role}_")
        check_training(getattr(config, f"{role}_training"), f"{role}_")
    check_selection(config.selection)
    _check_selection_of_run(config)
    check_range("generations", config.generations, 1, _GENERATIONS - 1)
    check_range("seed", config.seed, 0, MOST_SEED)
    check_data(config.data)
    if config.stop_when_no_gain and not config.data.validation_data:
        raise InputError(
            "`stop_when_no_gain`: expected `validation_data` to measure the gain on; "
            "received none. The test data must not decide when to stop."
        )
    if config.student_training.unlabeled_ratio <= 0:
        raise InputError(
            "`unlabeled_ratio`: expected more than 0 for a student; received "
            f"{config.student_training.unlabeled_ratio}."
        )
    check_range("last_unlabeled_ratio", config.last_unlabeled_ratio, 0, math.inf)
    _check_frozen(config)
    _check_labeling(config)
    check_student_size(config.teacher, config.student, config.allow_smaller_student)


def _check_frozen(config: Config) -> None:
    """Layers can be frozen only where they do not start at random."""
    for role, has_weights in (
        ("teacher", bool(config.init_from)),
        ("student", config.init_from or config.student_init_from_teacher),
    ):
        blocks = getattr(config, f"{role}_training").frozen_blocks
        if blocks >= 0 and not has_weights:
            raise InputError(
                f"`{role}_frozen_blocks`: expected -1, since a {role} starts at random "
                f"weights here, which frozen layers would keep; received {blocks}. "
                "Runs can start from a model, --init_from, and students from their "
                "teacher, --student_init_from_teacher."
            )


def _check_labeling(config: Config) -> None:
    """An online teacher has no stored labels to select from, and no noise."""
    soft_labels.parse_format(config.label_format)
    if config.calibrate:
        _check_calibration(config)
    if not config.online_teacher:
        return
    if config.label_format != "float32":
        raise InputError(
            "`label_format`: expected its default with `online_teacher`, which stores no "
            f"labels; received {config.label_format!r}."
        )
    if config.noised_teacher:
        raise InputError(
            "`noised_teacher`: expected false with `online_teacher`, which has no noise; "
            "received true."
        )
    if config.data.dedup_by:
        raise InputError(
            "`dedup_by`: expected none with `online_teacher`, which learns from all "
            f"unlabeled images as they are; received {config.data.dedup_by!r}."
        )
    defaults, selection = map(dataclasses.asdict, (SelectionConfig(), config.selection))
    changed = differences(defaults, selection)
    if changed:
        raise InputError(
            "`min_confidence`, `images_per_class` and what else selects: expected the "
            "defaults with `online_teacher`, which selects nothing; received "
            f"{', '.join(changed)}."
        )


def _check_selection_of_run(config: Config) -> None:
    """A run has no earlier choice to keep."""
    if config.selection.selection == "unchanged":
        raise InputError(
            "`selection`: expected another than unchanged, which is for a balanced set "
            "that is labeled again (tpu_scripts.balance); received 'unchanged'."
        )


def _check_calibration(config: Config) -> None:
    """A temperature is fitted on validation data, for stored labels without noise."""
    if not config.data.validation_data:
        raise InputError(
            "`calibrate`: expected `validation_data` to fit the temperature on; received "
            "none. Training and test images must not decide it."
        )
    for other, reason in (
        ("online_teacher", "which stores no labels: use `student_softmax_temperature`"),
        ("noised_teacher", "since the temperature is fitted without noise"),
    ):
        if getattr(config, other):
            raise InputError(
                f"`calibrate`: expected false with `{other}`, {reason}; received true."
            )
