"""The digits recipe over several seeds: mean, spread, and the control.

    python -m benchmarks.digits --work_dir=runs/digits_seeds --seeds=5 \\
        --output=docs/results/digits

Writes OUTPUT.json and the table of OUTPUT.md (between its two markers). Seeds
change the labeled images, the first weights, the order and all noise; the test
images stay the same. Run again, it goes on where it stopped.
"""

import dataclasses
import os

from absl import flags

from benchmarks import results
from noisy_student import recipes, tables
from noisy_student.iterate import iterate
from tpu_scripts import setting_flags, strategy_flags

_WORK_DIR = flags.DEFINE_string("work_dir", "runs/digits_seeds", "One folder a seed.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds, from 0 on.")
_OUTPUT = flags.DEFINE_string("output", "", "Path without ending; empty: print only.")
_RECIPE = flags.DEFINE_string("recipe", "digits", "The recipe to run.")
strategy_flags.define()


def main():
    strategy = strategy_flags.create_strategy()
    config = recipes.load(_RECIPE.value)
    rows = []
    for seed in range(_SEEDS.value):
        work_dir = os.path.join(_WORK_DIR.value, f"seed_{seed}")
        summary = iterate(dataclasses.replace(config, seed=seed), work_dir, strategy)
        rows.append(measured(summary))
    markdown = as_markdown(rows)
    print(markdown)
    if _OUTPUT.value:
        settings = results.settings(_RECIPE, _SEEDS)
        results.write(f"{_OUTPUT.value}.json", settings, seeds=rows)
        tables.replace_marked(f"{_OUTPUT.value}.md", markdown)


def measured(summary: dict) -> dict[str, float]:
    """The numbers of one run, in percent, by name."""
    row = {}
    for outcome in summary["generations"]:
        generation = outcome["generation"]
        row[f"{outcome['role']} (generation {generation})"] = outcome["test_top_1"]
        if "control" in outcome:
            row["control (labels alone)"] = outcome["control"]["test_top_1"]
        if labels := outcome.get("pseudo_labels"):
            row[f"whole pool labeled right (generation {generation})"] = labels[
                "pool_accuracy"
            ]
            row[f"kept pseudo-labels right (generation {generation})"] = labels["accuracy"]
    last = summary["generations"][-1]
    row["gain of the last student over the control"] = (
        last["test_top_1"] - last["control"]["test_top_1"]
    )
    return {name: round(100 * value, 2) for name, value in row.items()}


def as_markdown(rows: list[dict]) -> str:
    seeds = [f"seed {seed}" for seed in range(len(rows))]
    lines = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        cells = [f"{value:.1f}" for value in values]
        lines.append([name, tables.mean_and_spread(values, 1), *cells])
    return tables.markdown_table(["%", "mean ± std", *seeds], lines)


if __name__ == "__main__":
    setting_flags.run(main)
