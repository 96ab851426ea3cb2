"""Runs rows one after the other, and leaves out those whose numbers are on file."""

from collections.abc import Callable, Iterable, Sequence

from noisy_student.recipes import Recipe
from noisy_student.reproduction import row_files
from noisy_student.reproduction.rows import Laboratory, run_row


def run_rows(
    rows: Sequence[Recipe],
    seeds: Iterable[int],
    laboratory: Laboratory,
    results_dir_of: Callable[[Recipe], str],
) -> None:
    """Every row with every seed, the rows of a seed one after the other.

    Args:
        rows: What to run.
        seeds: Of the runs.
        laboratory: Where.
        results_dir_of: Where a row's file lies.

    Raises:
        InputError: A row's file is of other settings; before the first is run.
    """
    for recipe in rows:
        row_files.read(results_dir_of(recipe), recipe)
    left = [(seed, recipe) for seed in seeds for recipe in rows]
    for number, (seed, recipe) in enumerate(left, 1):
        title = f"{recipe.row}, seed {seed}"
        if seed in row_files.read(results_dir_of(recipe), recipe):
            print(f"{title}: done")
            continue
        print(f"\n=== {title} ({number} of {len(left)}) ===", flush=True)
        found = run_row(recipe, seed, laboratory)
        row_files.add(results_dir_of(recipe), recipe, seed, found)
        print(f"{title}: test top-1 {100 * found['test_top_1']:.2f} %", flush=True)
