"""Dataclass fields that explain themselves."""

import dataclasses
from typing import Any


def setting(default: Any, help_line: str) -> Any:
    """A dataclass field with a help line, for the flag that scripts make of it."""
    return dataclasses.field(default=default, metadata={"help": help_line})
