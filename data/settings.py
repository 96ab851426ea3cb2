"""Settings: dataclass fields that explain themselves, and their JSON values."""

import dataclasses
import difflib
import typing
from typing import Any

from data.errors import InputError


def setting(default: Any, help_line: str) -> Any:
    """A dataclass field with a help line, for the flag that scripts make of it."""
    return dataclasses.field(default=default, metadata={"help": help_line})


def from_dict(cls: type, values: dict) -> Any:
    """The dataclass `cls` from what `dataclasses.asdict` gave, nested ones included.

    Raises:
        InputError: There is a value that is no field of it.
    """
    types = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"`{cls.__name__}`: expected settings among {', '.join(sorted(known))}; "
            f"received {unknown[0]!r}.{hint} The file may come from another version of "
            "this project."
        )
    return cls(
        **{
            key: from_dict(types[key], value)
            if dataclasses.is_dataclass(types[key])
            else value
            for key, value in values.items()
        }
    )


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """`field: old -> new` for all that differs between two nested dicts."""
    lines = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            lines += differences(before, now, f"{prefix}{key}.")
        elif before != now:
            lines.append(f"{prefix}{key}: {before!r} -> {now!r}")
    return lines
