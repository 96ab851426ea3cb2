"""Which pseudo-labeled images are kept, and how often each occurs."""

import dataclasses
from collections.abc import Sequence

from data.errors import InputError
from data.settings import setting
from noisy_student.config.ranges import check_one_of, check_range

SELECTIONS = ("top_k", "uniform", "reference", "unchanged")


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    """Which pseudo-labels are kept, and how often (paper §2; appendix, studies 2, 3)."""

    min_confidence: float = setting(
        0.3, "Smallest confidence of a pseudo-label that is kept, 0 to 1."
    )
    images_per_class: int = setting(
        0,
        "Pseudo-labeled examples a class: the most confident, or copies (130,000 in the "
        "paper); 0: unlabeled images / classes.",
    )
    selection: str = setting(
        "top_k",
        "Which images of a class: top_k, the most confident; uniform, any with enough "
        "confidence; reference, the published code's thresholds and lots; unchanged, "
        "those of a pseudo-labeled set that is labeled again, with their copies.",
    )
    filter: str = setting(
        "threshold", "threshold, by confidence, or none: every image may be kept."
    )
    balance: str = setting(
        "classes", "classes: the same number of examples in each; none: each image once."
    )
    max_confidence: float = setting(
        2.0,
        "Confidences from min_confidence to below this: a bucket of study 3. Above 1: no "
        "upper end.",
    )
    max_copies: int = setting(
        0, "Most copies of an image, however rare its class; 0: as many as it takes."
    )
    pool_fraction: float = setting(
        1.0, "Share of the unlabeled images that is used at all, drawn by id (study 2)."
    )


def check_selection(selection: SelectionConfig) -> None:
    """Refuses settings outside their ranges, and those that would have no effect.

    Raises:
        InputError: Names the setting, what was expected and what came.
    """
    check_range("min_confidence", selection.min_confidence, 0, 1)
    check_range("max_copies", selection.max_copies, 0, 2**31)
    check_range("pool_fraction", selection.pool_fraction, 1e-9, 1)
    check_one_of("selection", selection.selection, SELECTIONS)
    check_one_of("filter", selection.filter, ("threshold", "none"))
    check_one_of("balance", selection.balance, ("classes", "none"))
    if selection.max_confidence <= selection.min_confidence:
        raise InputError(
            "`max_confidence`: expected more than `min_confidence` "
            f"({selection.min_confidence}); received {selection.max_confidence}."
        )
    _check_unused(selection)
    check_range("images_per_class", selection.images_per_class, 0, 2**31)


def _check_unused(selection: SelectionConfig) -> None:
    """Refuses settings that another one leaves without effect."""
    without: list[tuple[str, Sequence[str]]] = []
    if selection.filter == "none":
        without.append(("filter=none", ("min_confidence", "max_confidence")))
    if selection.balance == "none":
        without.append(("balance=none", ("images_per_class", "max_copies", "selection")))
    if selection.selection == "unchanged":
        names = [field.name for field in dataclasses.fields(selection)]
        names.remove("selection")
        without.append(("selection=unchanged", names))
    defaults = SelectionConfig()
    for reason, names in without:
        for name in names:
            if getattr(selection, name) != getattr(defaults, name):
                raise InputError(
                    f"`{name}`: expected its default, {getattr(defaults, name)}, with "
                    f"{reason}, which has no use for it; received "
                    f"{getattr(selection, name)}."
                )
