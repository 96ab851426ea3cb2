"""A table's rows as they were measured, beside the paper's numbers, and its claims."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import scipy.stats

from noisy_student.recipes import Claim, Recipe, Table

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "can't tell", "not run"
Found = Mapping[str, Mapping[int, dict]]  # By row and seed, of `rows.run_row`.


def value_of(found: Mapping, metric: str) -> float | None:
    """A number of a row's results, in percent; None where it was not measured.

    Args:
        found: Of `rows.run_row`.
        metric: Path in it, see `Claim.metric`.
    """
    value: object = found
    for key in metric.split("/"):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return 100 * value if isinstance(value, float | int) else None


def values_of(found: Found, row: str, metric: str) -> dict[int, float]:
    """By seed, in percent."""
    values = {
        seed: value_of(of_seed, metric) for seed, of_seed in found.get(row, {}).items()
    }
    return {seed: value for seed, value in values.items() if value is not None}


def judged(claim: Claim, found: Found) -> dict:
    """Whether a claim of the paper holds here.

    The difference of the two rows is taken seed by seed. The claim holds if the 95 %
    interval of its mean (Student's t over seeds) is on the right side of 0, it does not
    if the interval is on the other side, and otherwise one can't tell. Of one seed one
    never can.

    Returns:
        `text`, `better`, `worse`, `metric`, `verdict`, and by seed the `differences` in
        points, positive where the claim is right; their `mean` and `interval`, None
        where there are too few seeds.
    """
    sign = -1 if "error" in claim.metric else 1
    better = values_of(found, claim.better, claim.metric)
    worse = values_of(found, claim.worse, claim.metric)
    seeds = sorted(set(better) & set(worse))
    differences = [sign * (better[seed] - worse[seed]) for seed in seeds]
    interval = _interval(differences)
    verdict = OPEN if differences else NOT_RUN
    if interval and interval[0] > 0:
        verdict = HOLDS
    elif interval and interval[1] < 0:
        verdict = FAILS
    return {
        "text": claim.text,
        "better": claim.better,
        "worse": claim.worse,
        "metric": claim.metric,
        "differences": dict(zip(map(str, seeds), differences, strict=True)),
        "mean": statistics.mean(differences) if differences else None,
        "interval": interval,
        "verdict": verdict,
    }


def _interval(values: Sequence[float]) -> list[float] | None:
    """95 % of the mean by Student's t; None of fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    point = float(scipy.stats.t.ppf(0.975, count - 1))
    half = point * statistics.stdev(values) / math.sqrt(count)
    mean = statistics.mean(values)
    return [mean - half, mean + half]


def as_json(table: Table, found: Found) -> dict:
    """The table: of each row the paper's numbers and the measured ones, and the claims.

    Returns:
        `table`, `title`, `metrics`; `rows`: of each `row`, `summary`, `paper` (`metric`,
        `value`, `cell`), `measured` (by metric and seed, in percent); `claims`, see
        `judged`.
    """
    return {
        "table": table.name,
        "title": table.title,
        "metrics": list(table.metrics),
        "rows": [_row(recipe, table, found) for recipe in table.rows],
        "claims": [judged(claim, found) for claim in table.claims],
    }


def _row(recipe: Recipe, table: Table, found: Found) -> dict:
    return {
        "row": recipe.row,
        "summary": recipe.summary,
        "paper": [dataclasses.asdict(each) for each in table.paper_numbers(recipe)],
        "measured": {
            metric: {
                str(seed): value
                for seed, value in values_of(found, recipe.row, metric).items()
            }
            for metric in table.metrics
        },
    }
