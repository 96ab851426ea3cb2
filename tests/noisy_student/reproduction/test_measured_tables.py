import pytest

from noisy_student.recipes import Claim
from noisy_student.reproduction import measured_tables


def found(**rows):
    return {
        row: {seed: {"test_top_1": value / 100} for seed, value in enumerate(values)}
        for row, values in rows.items()
    }


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([82.0, 83.1, 84.0], [80.0, 81.0, 82.1], "holds"),
        ([80.0, 81.0, 82.1], [82.0, 83.1, 84.0], "does not hold"),
        ([82.0, 83.0, 84.0], [80.0, 83.5, 82.0], "can't tell"),
        ([82.0], [70.0], "can't tell"),  # One seed has no spread.
        ([82.0], [], "not run"),
    ],
)
def test_verdicts(better, worse, verdict):
    claim = Claim("It is better.", "a", "b")
    assert measured_tables.judged(claim, found(a=better, b=worse))["verdict"] == verdict


def test_seeds_are_paired_and_the_interval_is_students():
    """Differences 1, 2, 3: 2 ± 4.302653 · 1 / √3."""
    claim = Claim("It is better.", "a", "b")
    rows = found(a=[81.0, 82.0, 83.0, 99.0], b=[80.0, 80.0, 80.0])
    result = measured_tables.judged(claim, rows)
    assert list(result["differences"]) == ["0", "1", "2"]
    assert result["mean"] == pytest.approx(2.0)
    assert result["interval"] == pytest.approx(
        [2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5]
    )


def test_smaller_errors_are_better():
    rows = {
        name: {s: {"benchmarks": {"corruptions": {"error": v}}} for s, v in enumerate(vs)}
        for name, vs in {"a": [0.2, 0.21], "b": [0.4, 0.41]}.items()
    }
    claim = Claim("Fewer errors.", "a", "b", "benchmarks/corruptions/error")
    result = measured_tables.judged(claim, rows)
    assert result["mean"] == pytest.approx(20.0)
    assert result["verdict"] == "holds"
