"""What a JSON file must hold, written as an example of types, and the look at it.

A form is a type; a dict of keys that must be there, each with its form; `{str: form}`
for any keys; or `[form]` for a list. Numbers of type float may be whole; no bool is a
number; `optional(form)` is of a key that may be missing, or null.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from data import files
from data.errors import InputError

_REMEDY = "Put back a copy, or delete it and run the command again that made it."


@dataclasses.dataclass(frozen=True)
class _Optional:
    form: Any


def optional(form: Any) -> _Optional:
    """The form of a key that need not be there, or may be null."""
    return _Optional(form)


def read(path: str, form: Any, what: str, remedy: str = _REMEDY) -> Any:
    """The value in a JSON file that has a form.

    Args:
        path: Of the file.
        form: As above.
        what: The file is, such as `the manifest of a stage`.
        remedy: What to do about another form, as a sentence.

    Raises:
        InputError: It holds no JSON, or lacks something, or has it in another form.
    """
    value = files.read_json(path)
    if found := problem(value, form):
        raise InputError(f"{path}: expected {what}; received {found}. {remedy}")
    return value


def problem(value: Any, form: Any, name: str = "") -> str:
    """What is at odds with the form, with its place; nothing if nothing is.

    Args:
        value: Of JSON.
        form: As above.
        name: The value's place, for the message.
    """
    if isinstance(form, type):
        return "" if _is(value, form) else _of_type(value, name, form.__name__)
    if isinstance(form, list):
        if not isinstance(value, list):
            return _of_type(value, name, "list")
        return _first(problem(one, form[0], f"{name}[{i}]") for i, one in enumerate(value))
    if not isinstance(value, dict):
        return _of_type(value, name, "object")
    if str in form:
        every = form[str]
        return _first(problem(one, every, f"{name}.{key}") for key, one in value.items())
    found = []
    for key, wanted in form.items():
        inner = wanted.form if isinstance(wanted, _Optional) else wanted
        is_optional = isinstance(wanted, _Optional)
        if key not in value:
            if not is_optional:
                found.append(f"one without `{f'{name}.{key}'.lstrip('.')}`")
        elif value[key] is not None or not is_optional:
            found.append(problem(value[key], inner, f"{name}.{key}"))
    return _first(found)


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):  # An int to Python.
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _of_type(value: Any, name: str, expected: str) -> str:
    place = f"`{name.lstrip('.')[:80]}`" if name else "a value"
    return f"{place} {str(value)[:80]!r}, which is no {expected}"


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")
