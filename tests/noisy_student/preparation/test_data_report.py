"""The look at prepared data: counts, sizes, duplicates, classes that are too small."""

import json

import numpy as np
import pytest

from data import images
from noisy_student.config import DataConfig
from noisy_student.preparation import data_report
from noisy_student.preparation.preparation import prepare


def png(value, height=10, width=20):
    return images.encode_png(np.full((height, width, 3), value, np.uint8))


@pytest.fixture
def report(tmp_path):
    labeled = {
        "cat": {f"{n}.png": png(n) for n in range(12)},
        "dog": {"one.png": png(50, 8, 9), "two.png": png(51), "a cat.png": png(3)},
    }
    test = {"cat": {"t.png": png(70), "of labeled.png": png(51)}, "dog": {"d.png": png(71)}}
    pool = {
        "p.png": png(90, 30, 40),
        "same.png": png(90, 30, 40),
        "of test.png": png(70),
        "broken.jpg": b"no picture",
    }
    for path, files in {
        **{f"labeled/{name}": value for name, value in labeled.items()},
        **{f"test/{name}": value for name, value in test.items()},
        "pool": pool,
    }.items():
        (tmp_path / path).mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / path / name).write_bytes(content)
    config = DataConfig(
        labeled_data=f"folder:{tmp_path}/labeled",
        unlabeled_data=f"folder:{tmp_path}/pool",
        test_data=f"folder:{tmp_path}/test",
    )
    directory = str(tmp_path / "out")
    found = data_report.report(prepare(config, directory, seed=0), directory)
    assert found == json.loads((tmp_path / "out" / data_report.REPORT).read_text())
    return found


def test_images_and_sizes(report):
    sets = report["sets"]
    assert {name: each["images"] for name, each in sets.items()} == {
        "labeled": 15,
        "test": 3,
        "unlabeled": 3,
    }
    assert sets["labeled"]["short_side"] == {"least": 8, "median": 10, "most": 10}
    assert sets["unlabeled"]["long_side"] == {"least": 20, "median": 40, "most": 40}
    assert report["classes"]["dog"] == {"labeled": 3, "test": 1}
    assert report["tiny_classes"] == ["dog"]
    assert sum(report["bad_files"].values()) == 1


def test_duplicates(report):
    sets = report["sets"]
    assert sets["labeled"]["repeated"] == 1  # A cat among the dogs.
    assert sets["test"]["shared"] == {"labeled": 1}
    assert sets["unlabeled"]["repeated"] == 1
    assert sets["unlabeled"]["shared"] == {"test": 1}
    conflicts = {frozenset(pair) for pair in report["conflicts"]}
    assert frozenset(("labeled", "cat/3.png", "dog/a cat.png")) in conflicts
    assert frozenset(("labeled", "dog/two.png", "test", "cat/of labeled.png")) in conflicts


def test_text_says_what_to_look_at(report):
    text = data_report.as_text(report)
    assert "2 classes: 3 labeled images of dog to 12 of cat." in text
    assert "1 class(es) have fewer than 10 labeled images: dog." in text
    assert "1 file(s) were skipped" in text
    assert "2 file(s) lie in two classes" in text
    assert "1 image(s) of unlabeled are also in test" in text
    assert "1 image(s) of test are also in labeled" in text
