"""What rows were found to be: a JSON file a row, with every seed that was run.

They are small, and are all that a table is made of: with them a run on another machine
goes on where this one stopped.
"""

import dataclasses
import os

import tensorflow as tf

from data import files
from data.errors import InputError
from data.settings import differences
from noisy_student.config import Config
from noisy_student.recipes import Recipe


def read(results_dir: str, recipe: Recipe) -> dict[int, dict]:
    """What was found with each seed; empty if nothing was.

    Args:
        results_dir: Of all rows of a scale.
        recipe: The row.

    Raises:
        InputError: The file is of other settings.
    """
    path = path_of(results_dir, recipe)
    if not tf.io.gfile.exists(path):
        return {}
    stored = files.read_json(path)
    # Settings that came later were not there, and at their defaults, when it was run.
    stored["config"] = _completed(stored["config"], dataclasses.asdict(Config()))
    changed = differences(_identity(stored), _identity(_described(recipe)))
    if changed:
        raise InputError(
            f"{path}: expected results of the recipe {recipe.name!r} as it is; received "
            "those of other settings (there -> here):\n  "
            + "\n  ".join(changed)
            + "\nChoose another --results_dir, or delete this file to run the row anew."
        )
    return {int(seed): found for seed, found in stored["seeds"].items()}


def add(results_dir: str, recipe: Recipe, seed: int, found: dict) -> None:
    """Puts a seed on record, beside those that are there."""
    files.make_directory(results_dir)
    # Another process may add another seed in the same moment, and be the last to write.
    while seed not in (seeds := read(results_dir, recipe)):
        seeds = dict(sorted({**seeds, seed: found}.items()))
        described = {**_described(recipe), "seeds": seeds}
        files.write_json(path_of(results_dir, recipe), described)


def path_of(results_dir: str, recipe: Recipe) -> str:
    return os.path.join(results_dir, f"{recipe.row}.json")


def _described(recipe: Recipe) -> dict:
    config = dataclasses.asdict(recipe.config)
    del config["seed"]
    return {
        "recipe": recipe.name,
        "role": recipe.role,
        "teacher_recipe": recipe.teacher_recipe,
        "fixres": recipe.fixres and dataclasses.asdict(recipe.fixres),
        "benchmarks": list(recipe.benchmarks),
        "config": config,
    }


def _completed(stored: dict, defaults: dict) -> dict:
    """The stored settings, with defaults where there is none."""
    return {
        key: _completed(stored[key], value)
        if isinstance(value, dict) and key in stored
        else stored.get(key, value)
        for key, value in defaults.items()
        if key != "seed"
    }


def _identity(described: dict) -> dict:
    return {key: value for key, value in described.items() if key != "seeds"}
