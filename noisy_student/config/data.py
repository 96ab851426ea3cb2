"""Which data sets, and how they are split."""

import dataclasses

from data.errors import InputError
from data.settings import setting
from noisy_student.config.ranges import check_one_of, check_range

DEDUP_BY = ("bytes", "perceptual")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images are used, and how they are split. Sets are data set strings.

    Either `unlabeled_data` or `labels_per_class` says what is unlabeled; see
    `check_data`.
    """

    labeled_data: str = setting("digits", "Labeled data set, such as folder:DIR.")
    unlabeled_data: str = setting(
        "", "Unlabeled data set; empty with --labels_per_class: the rest."
    )
    validation_data: str = setting(
        "",
        "Labeled images to measure each model on, beside the test images; needed by "
        "--evaluation_interval, --calibrate and --stop_when_no_gain.",
    )
    test_data: str = setting(
        "", "Labeled images for the result; empty: hold some labeled ones out."
    )
    labels_per_class: int = setting(
        0, "Keep this many labels a class, the rest is unlabeled; 0: keep all."
    )
    pool_imbalance: float = setting(
        1.0,
        "Make the unlabeled set this much imbalanced, by its true labels: images of the "
        "most common class for one of the rarest (study 5); 1: as it is.",
    )
    holdout_fraction: float = setting(
        0.2, "Share of the labeled images held out as test data where none is given."
    )
    label_offset: int = setting(
        0, "Subtracted from labels in TFRecord files (1 for the usual ImageNet files)."
    )
    num_shards: int = setting(0, "Shards a set is written to; 0: one per 5,000 images.")
    skip_bad_records: bool = setting(
        False, "Look through TFRecord files first and leave bad records out, counted."
    )
    dedup_by: str = setting(
        "",
        "Search the unlabeled images for validation and test images: bytes (same files) "
        "or perceptual (photos saved again or resized too); empty: do not search.",
    )


def check_data(data: DataConfig) -> None:
    """Refuses sets and splits that cannot work.

    Raises:
        InputError: Names the setting, what was expected and what came.
    """
    check_range("num_shards", data.num_shards, 0, 99_999)
    check_range("pool_imbalance", data.pool_imbalance, 1, 1e6)
    if data.labels_per_class < 0:
        raise InputError(
            f"`labels_per_class`: expected 0 or more; received {data.labels_per_class}."
        )
    if bool(data.labels_per_class) == bool(data.unlabeled_data):
        came = "both" if data.unlabeled_data else "neither"
        raise InputError(
            "Unlabeled images: expected either `unlabeled_data`, or `labels_per_class` to "
            f"make unlabeled ones of the rest of `labeled_data`; received {came}."
        )
    if not data.test_data:
        check_range("holdout_fraction", data.holdout_fraction, 0.01, 0.9)
    if data.dedup_by:
        check_one_of("dedup_by", data.dedup_by, DEDUP_BY)
