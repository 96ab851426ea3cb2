"""Named configurations. Each module here is one recipe: it has a `CONFIG`."""

import difflib
import importlib
import pkgutil

from data.errors import InputError
from noisy_student.config import Config


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Config:
    """The configuration of the recipe called `name`."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise InputError(
            f"`recipe`: expected one of {', '.join(names())}; received {name!r}.{hint}"
        )
    return importlib.import_module(f"{__name__}.{name}").CONFIG
