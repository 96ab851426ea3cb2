"""Named configurations. Modules here have `RECIPES`; some have `TABLES` made of them."""

import difflib
import functools
import importlib
import pkgutil

from data.errors import InputError
from noisy_student.config import Config
from noisy_student.recipes.recipe import Claim, FixRes, PaperNumber, Recipe, Table

__all__ = ["Claim", "FixRes", "PaperNumber", "Recipe", "Table"]
__all__ += ["find", "load", "load_run", "names", "scales", "tables"]

_WITHOUT_RECIPES = ("recipe", "variations")


@functools.cache
def _modules() -> tuple:
    names = [m.name for m in pkgutil.iter_modules(__path__)]
    return tuple(
        importlib.import_module(f"{__name__}.{name}")
        for name in names
        if name not in _WITHOUT_RECIPES
    )


@functools.cache
def _all() -> dict[str, Recipe]:
    found = [each for module in _modules() for each in getattr(module, "RECIPES", ())]
    by_name = {each.name: each for each in found}
    assert len(by_name) == len(found), "Two recipes of one name."
    return by_name


def names() -> list[str]:
    return sorted(_all())


def find(name: str) -> Recipe:
    """The recipe called `name`."""
    if name not in _all():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise InputError(
            "`recipe`: expected a name that `python -m tpu_scripts.reproduce --list` "
            f"shows; received {name!r}.{hint}"
        )
    return _all()[name]


def load(name: str) -> Config:
    """The configuration of the recipe called `name`."""
    return find(name).config


def load_run(name: str) -> Config:
    """The same for a whole run.

    Raises:
        InputError: The recipe needs more than the run of its configuration.
    """
    recipe = find(name)
    if not recipe.is_whole_run:
        raise InputError(
            "`recipe`: expected one whose model is the last student of a run; received "
            f"{name!r}, which is another model of it, has another recipe's teacher, or "
            f"is trained further at the end. Run: {recipe.command}"
        )
    return recipe.config


def scales() -> list[str]:
    """What the paper's tables can be run at."""
    return [module.SCALE for module in _modules() if hasattr(module, "TABLES")]


def tables(scale: str) -> dict[str, Table]:
    """The tables of a scale, by name."""
    for module in _modules():
        if hasattr(module, "TABLES") and scale == module.SCALE:
            return {table.name: table for table in module.TABLES}
    raise InputError(f"`scale`: expected {' or '.join(scales())}; received {scale!r}.")
