"""Rows of a table, run whole on digits with the tiny network."""

import dataclasses
import json
import os

import pytest

from data.errors import InputError
from noisy_student.recipes import Claim, FixRes, PaperNumber, Recipe, Table, variations
from noisy_student.reproduction import row_files, rows, table_files
from noisy_student.training import training as training_module
from tests.conftest import tiny_config


def recipe(name, config, **more):
    return Recipe(f"tiny-{name}", f"The row {name}.", config, scale="tiny", **more)


CONFIG = tiny_config()
TEACHER = recipe("teacher", CONFIG, role="teacher", benchmarks=("fgsm",))
CONTROL = recipe("control", CONFIG, role="control")
STUDENT = recipe(
    "student", CONFIG, paper=(PaperNumber("top_1", 84.9, "table_6/all noise/130M"),)
)
SVM = recipe("rbf_svm", CONFIG, role="rbf_svm")
HARD = recipe("hard", variations.with_student_training(CONFIG, soft_labels=False))


# As `rows.run_row` gives them.
FOUND = {
    "teacher": {"test_top_1": 0.81, "validation_top_1": 0.82},
    "student": {"test_top_1": 0.84321, "validation_top_1": 0.85},
}


@pytest.fixture(scope="module")
def laboratory(cpu, tmp_path_factory):
    return rows.Laboratory(str(tmp_path_factory.mktemp("laboratory")), cpu)


@pytest.fixture(scope="module")
def found(laboratory):
    return {each.row: rows.run_row(each, 1, laboratory) for each in (STUDENT, TEACHER)}


def test_a_row_has_its_models_numbers(found):
    student = found["student"]
    assert 0 < student["test_top_1"] <= 1
    assert 0 < student["validation_top_1"] <= 1
    assert student["pseudo_labels"]["kept"] > 0
    assert "pseudo_labels" not in found["teacher"]
    # Of the images of `digits:test`, whatever the seed: all, as they are 500.
    clean, attacked = found["teacher"]["test_top_1"], found["teacher"]["benchmarks"]["fgsm"]
    assert attacked["images"] == 500
    assert attacked["epsilon_16"] < clean
    assert student["benchmarks"] == {}


@pytest.mark.slow
def test_rows_share_what_they_have_in_common(found, laboratory, monkeypatch):
    """The teacher is trained and its labels made once, whichever row comes first."""
    trained = []
    loop = training_module._run_loop
    monkeypatch.setattr(
        training_module, "_run_loop", lambda run: (trained.append(run.name), loop(run))[1]
    )
    assert (
        rows.run_row(TEACHER, 1, laboratory)["test_top_1"]
        == (found["teacher"]["test_top_1"])
    )
    assert trained == []
    rows.run_row(HARD, 1, laboratory)
    rows.run_row(CONTROL, 1, laboratory)
    assert trained == ["generation_1/student", "generation_1/control"]
    stages = sorted(
        name.rpartition("-")[0] for name in os.listdir(f"{laboratory.work_dir}/seed_1")
    )
    before_students = ["balanced", "control", "data", "predictions"]
    assert stages == [*before_students, "student", "student", "teacher"]


def test_a_baseline_is_measured_on_the_same_labels(laboratory):
    found = rows.run_row(SVM, 1, laboratory)
    assert 0.5 < found["test_top_1"] < 0.95
    assert found["settings"]["C"] in (1, 3, 10, 30, 100)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["fine_tuned", "student"])
def test_what_follows_the_student(laboratory, cpu, tmp_path, role):
    """Study 6's fine-tuning on labels, and FixRes at a larger size."""
    fixres = FixRes(24, "2 steps") if role == "student" else None
    config = variations.pre_training(CONFIG) if role == "fine_tuned" else CONFIG
    row = recipe(f"after-{role}", config, role=role, fixres=fixres)
    found = rows.run_row(row, 1, laboratory)
    with open(
        os.path.join(laboratory.work_dir, "seed_1", found["model"], "model.json")
    ) as f:
        assert json.load(f)["image_size"] == (24 if fixres else 16)
    assert found["steps"] == (2 if fixres else 30)


def test_files_of_rows_go_on_and_refuse_other_settings(tmp_path):
    directory = str(tmp_path)
    assert row_files.read(directory, STUDENT) == {}
    row_files.add(directory, STUDENT, 1, FOUND["student"])
    row_files.add(directory, STUDENT, 0, FOUND["student"])
    assert list(row_files.read(directory, STUDENT)) == [0, 1]
    other = dataclasses.replace(STUDENT, config=HARD.config)
    with pytest.raises(InputError, match=r"(?s)student\.json.*soft_labels.*--results_dir"):
        row_files.read(directory, other)


def test_a_table_as_files(tmp_path):
    directory = str(tmp_path)
    table = Table(
        "6",
        "A table",
        (TEACHER, STUDENT, HARD),
        (Claim("Students are better.", "student", "teacher"),),
    )
    for row in (TEACHER, STUDENT):
        row_files.add(directory, row, 1, FOUND[row.row])
    text = table_files.write(table, directory)
    value = f"{100 * FOUND['student']['test_top_1']:.2f}"
    assert f"| `student` The row student. | 84.9 | {value} (1 seed) |" in text
    assert "| `hard` The row hard. | | not run |" in text
    assert "can't tell" in text
    with open(tmp_path / "table_6.json") as file:
        assert json.load(file)["rows"][1]["paper"][0]["value"] == 84.9
    assert os.path.getsize(tmp_path / "table_6.png") > 10_000
