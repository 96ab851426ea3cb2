"""Dataclass fields that explain themselves."""

import dataclasses


def setting(default, help_line: str):
    """A dataclass field with a help line, for the flag that scripts make of it."""
    return dataclasses.field(default=default, metadata={"help": help_line})
