"""What a single value may be."""

import math
from collections.abc import Collection

from data.errors import InputError


def check_range(name: str, value: float, low: float, high: float) -> None:
    if not (low <= value <= high and math.isfinite(value)):
        bounds = f"{low} or more" if high == math.inf else f"{low} to {high}"
        raise InputError(f"`{name}`: expected {bounds}; received {value}.")


def check_one_of(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise InputError(f"`{name}`: expected {' or '.join(choices)}; received {value!r}.")


def check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"`{name}`: expected more than 0; received {value}.")
