"""The search for the largest batch: right whatever memory does, and in few compiles."""

import pytest

from benchmarks.tpu.largest_batch import LADDER, bounds, search

LIMIT = 15.48 * 1024


@pytest.mark.parametrize(
    "peak",
    [
        lambda rows: 100 + 3 * rows,
        lambda rows: 7_500 + 320 * rows,
        lambda rows: 260 + 0.01 * rows**2,  # The line through small ones promises too much.
        lambda rows: 15_000 + 10_000 * rows,  # Not even one.
        lambda rows: 1.0,  # Any number.
    ],
)
@pytest.mark.parametrize("begin", [(1, 2), (64, 128)])
def test_a_rung_is_accepted_and_the_next_one_is_not(peak, begin):
    asked = []

    def compiled(rows):
        asked.append(rows)
        fits = peak(rows) <= LIMIT
        return {"fits": fits, **({"peak_mib": peak(rows)} if fits else {})}

    accepted, refused = bounds(search(compiled, begin))
    fitting = [rung for rung in LADDER if peak(rung) <= LIMIT]
    assert accepted == max(fitting, default=0)
    assert refused == next((rung for rung in LADDER if rung > accepted), None)
    assert len(asked) == len(set(asked)) <= 8
