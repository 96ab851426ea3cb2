"""Lengths of training: a number with its unit, such as `350 epochs`.

    steps   of the optimizer
    epochs  passes over the labeled images
    images  labeled images, counted each time they come

One text names one of the three, so that two cannot contradict each other.
"""

import contextlib
import dataclasses
import math
import re
import typing

from data.errors import InputError

UNITS = ("steps", "epochs", "images")
_TEXT = re.compile(r"\s*([-+.\d][-+.\w]*?)\s*(step|epoch|image)s?\s*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Duration:
    """So many steps, epochs or images.

    Attributes:
        number: 0 or more, finite.
        unit: One of `UNITS`.
    """

    number: float
    unit: str

    def __str__(self) -> str:
        whole = self.number.is_integer()
        number = str(int(self.number)) if whole else repr(self.number)
        return f"{number} {self.unit[:-1] if number == '1' else self.unit}"

    def steps(self, num_labeled: int, labeled_per_step: float) -> float:
        """The same in steps, not rounded.

        steps = images / labeled images a step = epochs · labeled images / the same

        Args:
            num_labeled: Labeled images, which an epoch passes over.
            labeled_per_step: Labeled images that count in a step, on average.
        """
        if self.unit == "steps":
            return self.number
        images = self.number * (num_labeled if self.unit == "epochs" else 1)
        return images / labeled_per_step


class WithDurations:
    """A dataclass of settings some of which are durations, kept in one spelling.

    So that `30epochs` and `30 epochs` are the same setting. Texts that are none stay as
    they are: checks of the settings name them.
    """

    durations: typing.ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        for name in self.durations:
            text = getattr(self, name)
            with contextlib.suppress(InputError):
                object.__setattr__(self, name, str(parse(text, name)))


def parse(text: str, name: str) -> Duration:
    """A duration from its text; one of nothing is `0 steps`.

    Args:
        text: A number of Python's notation, then a unit: `5 epochs`, `1 epoch`,
            `2.4epochs`, `1_000 steps`, `1e9 images`.
        name: Of the setting, for the message of an error.

    Raises:
        InputError: The unit is missing or another one, or the number is none.
    """
    match = _TEXT.fullmatch(str(text))
    try:
        number = float(match[1]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not 0 <= number < math.inf:
        raise InputError(
            f"`{name}`: expected a number of 0 or more with one of the units "
            f"{', '.join(UNITS)}, such as '5 epochs' or '1000 steps'; received {text!r}."
        )
    return Duration(number, f"{match[2]}s")
