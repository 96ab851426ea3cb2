"""Intervals against what is known of means, and what is called better."""

import json

import numpy as np
import pytest

from data.errors import InputError
from noisy_student.evaluation_suite import bootstrap, comparison, outcomes, suite
from noisy_student.evaluation_suite.calibration import ece_of
from noisy_student.evaluation_suite.comparison import Compared


def test_intervals_are_those_of_a_mean():
    values = np.random.default_rng(0).normal(5, 2, (400, 1))
    low, high = bootstrap.interval(bootstrap.resampled_means(values)[:, 0])
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.15 * error)


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        right = generator.random((120, 1)) < 0.8
        low, high = bootstrap.interval(bootstrap.resampled_means(right, 300)[:, 0])
        held += low <= 0.8 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_images_without_a_number_do_not_count():
    values = np.array([[1.0, np.nan], [3.0, 4.0], [5.0, np.nan]])
    means = bootstrap.resampled_means(values, 500)
    assert means.shape == (500, 2)
    assert set(np.unique(means[:, 1][np.isfinite(means[:, 1])])) == {4.0}
    assert np.isfinite(bootstrap.interval(means[:, 1])).all()


def test_many_images_are_drawn_in_pieces(monkeypatch):
    values = np.random.default_rng(0).random((50, 3))
    whole = bootstrap.resampled_means(values, 40)
    monkeypatch.setattr(bootstrap, "_CELLS", 350)
    np.testing.assert_allclose(bootstrap.resampled_means(values, 40), whole)


def ece_and_interval(confidences, right):
    value = ece_of(confidences, right)
    found = bootstrap.resampled(
        lambda rows: ece_of(confidences[rows], right[rows]), len(right)
    )
    return value, bootstrap.basic_interval(value, found)


def test_the_interval_of_an_ece_holds_the_truth():
    held = 0
    for seed in range(12):  # Right in 10 points fewer than it says.
        generator = np.random.default_rng(seed)
        confidences = generator.uniform(0.85, 0.95, 300)
        right = generator.random(300) < confidences - 0.1
        _, (low, high) = ece_and_interval(confidences, right)
        held += low <= 0.1 <= high
    assert held >= 10


def write(directory, scores, benchmark="test", **changes):
    """Results as `suite.run` leaves them."""
    ids = np.array([f"id{k:03d}" for k in range(len(next(iter(scores.values()))))])
    table = {"id": ids, **{name: np.asarray(v, float) for name, v in scores.items()}}
    report = {"data": {"fingerprint": "f"}, "settings": {}, "missing": [], "results": {}}
    outcomes.write(str(directory / benchmark / suite.SCORES), table)
    (directory / f"{benchmark}.json").write_text(json.dumps(report | changes))
    return Compared(directory.name, str(directory))


def rows_of(report):
    return {row["metric"]: row for row in report["rows"]}


def test_half_a_point_on_500_images_is_not_sold_as_a_gain(tmp_path):
    # 450 and 453 right of 500: 9 images for the one, 12 for the other.
    first = np.ones(500)
    first[:50] = 0
    second = first.copy()
    second[:12], second[100:109] = 1, 0
    models = [
        write(tmp_path / "a", {"top_1": first}),
        write(tmp_path / "b", {"top_1": second}),
    ]
    report = comparison.compare(models, ["test"], str(tmp_path / "out"))
    row = rows_of(report)["top_1"]
    difference = row["difference"]["b"]
    assert difference["value"] == pytest.approx(0.006)
    assert difference["verdict"] == "open"
    assert difference["low"] < 0 < difference["high"]
    error = 1.96 * (second - first).std() / np.sqrt(500)
    assert difference["high"] == pytest.approx(0.006 + error, abs=0.2 * error)
    assert (tmp_path / "out/comparison.png").exists()
    table = comparison.as_table(report)
    assert table[1][:4] == ["test", "top_1", "90.00", "90.60"]
    assert table[1][4].startswith("+0.60 [-1.2")


def test_images_that_gain_for_one_and_lose_for_none_are_a_gain(tmp_path):
    # The two intervals overlap by far; image by image there is no doubt.
    first = np.zeros(400)
    first[:300] = 1
    second = first.copy()
    second[390:] = 1
    scores = [{"top_1": first, "nll": 1 - first}, {"top_1": second, "nll": 1 - second}]
    models = [write(tmp_path / name, s) for name, s in zip("ab", scores, strict=True)]
    rows = rows_of(comparison.compare(models, ["test"], str(tmp_path / "out")))
    assert rows["top_1"]["high"]["a"] > rows["top_1"]["low"]["b"]
    assert rows["top_1"]["difference"]["b"]["verdict"] == "better"
    assert rows["nll"]["higher_is_better"] is False
    assert rows["nll"]["difference"]["b"]["verdict"] == "better"
    back = comparison.compare(models[::-1], ["test"], str(tmp_path / "out"))
    assert rows_of(back)["top_1"]["difference"]["a"]["verdict"] == "worse"


def test_errors_are_relative_to_the_first_models(tmp_path):
    generator = np.random.default_rng(0)
    scores = []
    for shares in ((0.4, 0.2), (0.2, 0.3)):
        fog, snow = (generator.random(300) < share for share in shares)
        scores.append({"fog": fog, "snow": snow, "error": (fog + 0.0 + snow) / 2})
    models = [
        write(tmp_path / name, s, "corruptions")
        for name, s in zip("ab", scores, strict=True)
    ]
    rows = rows_of(comparison.compare(models, ["corruptions"], str(tmp_path / "out")))
    ratios = [np.mean(scores[1][k]) / np.mean(scores[0][k]) for k in ("fog", "snow")]
    row = rows["relative_error"]
    assert row["value"] == {"a": 100, "b": pytest.approx(100 * np.mean(ratios))}
    assert row["low"]["a"] == row["high"]["a"] == 100
    assert row["difference"]["b"]["verdict"] == "open"


def test_results_on_other_images_are_not_compared(tmp_path):
    one = write(tmp_path / "a", {"top_1": [1, 0]})
    other = write(tmp_path / "b", {"top_1": [1, 0]}, data={"fingerprint": "g"})
    with pytest.raises(InputError, match="b has g. Evaluate both with the same flags"):
        comparison.compare([one, other], ["test"], str(tmp_path / "out"))
    other = write(tmp_path / "b", {"top_1": [1, 0]}, settings={"seed": 1})
    with pytest.raises(InputError, match="has settings {}, b has {'seed': 1}"):
        comparison.compare([one, other], ["test"], str(tmp_path / "out"))
    with pytest.raises(InputError, match="two or more models"):
        comparison.compare([one], ["test"], str(tmp_path / "out"))


def test_names_are_short_unless_two_share_one():
    runs = ["r/generation_1/control", "r/generation_1/student/"]
    assert list(comparison.short_names(runs).values()) == [
        "generation_1/control",
        "generation_1/student",
    ]
    same = ["a/generation_1/student", "b/generation_1/student"]
    assert list(comparison.short_names(same).values()) == same
