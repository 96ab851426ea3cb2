"""Settings: dataclass fields that explain themselves, and their JSON values."""

import dataclasses
import difflib
import types
import typing
from typing import Any

from data.errors import InputError


def setting(default: Any, help_line: str) -> Any:
    """A dataclass field with a help line, for the flag that scripts make of it."""
    return dataclasses.field(default=default, metadata={"help": help_line})


def from_dict(cls: type, values: dict) -> Any:
    """The dataclass `cls` from what `dataclasses.asdict` gave, nested ones included.

    Raises:
        InputError: There is a value that is no field of it, one of another type, or none
            for a field without a default.
    """
    if not isinstance(values, dict):
        raise InputError(
            f"`{cls.__name__}`: expected settings by name; received {str(values)[:80]!r}."
        )
    hints = typing.get_type_hints(cls)
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
    needed = {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - set(values)):
        raise InputError(f"`{cls.__name__}`: expected also {', '.join(missing)}.")
    return cls(
        **{
            key: from_dict(hints[key], value)
            if dataclasses.is_dataclass(hints[key])
            else _of_type(f"{cls.__name__}.{key}", value, hints[key])
            for key, value in values.items()
        }
    )


def _of_type(name: str, value: Any, expected: Any) -> Any:
    """The value; refuses one that JSON never gives for this type."""
    if not _fits(value, expected):
        raise InputError(
            f"`{name}`: expected {getattr(expected, '__name__', expected)}; received "
            f"{str(value)[:80]!r}."
        )
    return value


def _fits(value: Any, expected: Any) -> bool:
    parts = typing.get_args(expected)
    origin = typing.get_origin(expected) or expected
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in parts)
    if origin in (list, tuple):  # Tuples are lists in JSON.
        inner = [part for part in parts if part is not Ellipsis]
        return isinstance(value, (list, tuple)) and (
            len(inner) != 1 or all(_fits(one, inner[0]) for one in value)
        )
    if isinstance(value, bool) or not isinstance(origin, type):
        return origin is bool or not isinstance(origin, type)
    return isinstance(value, (int, float) if origin is float else origin)


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
