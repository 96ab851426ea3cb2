"""Bad records stop a stage with one message, or are left out and counted."""

import dataclasses
import os
import shutil

import pytest
import tensorflow as tf

from data import bad_records
from data.errors import InputError
from noisy_student.balancing import balancing
from noisy_student.config import DataConfig
from noisy_student.evaluation import evaluation
from noisy_student.iteration import jobs
from noisy_student.labeling import labeling
from noisy_student.preparation import preparation
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import train_step, training


@pytest.fixture
def teacher(finished_run):
    return os.path.join(finished_run[0], "generation_0/teacher")


def test_training_stops_at_a_bad_record_by_name(tiny, prepared, spoilt, cpu, tmp_path):
    data = dataclasses.replace(prepared, labeled=spoilt(prepared.labeled, "l"))
    job = jobs.teacher_job(tiny, data)
    expected = "labeled-00000-of-00003.tfrecord, record 1 .*`image/encoded`: .*12 bytes"
    with pytest.raises(InputError, match=expected):
        training.train(job, str(tmp_path / "t"), cpu)


@pytest.mark.slow
def test_training_under_a_mirrored_strategy_stops_by_name_too(
    tiny, prepared, spoilt, tmp_path
):
    cpus = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([cpus[0].name])
    data = dataclasses.replace(prepared, labeled=spoilt(prepared.labeled, "l"))
    job = jobs.teacher_job(tiny, data)
    with pytest.raises(InputError, match="labeled-00000-of-00003.tfrecord, record 1 "):
        training.train(job, str(tmp_path / "t"), strategy)


@pytest.mark.slow
def test_training_without_bad_records_resumes_exactly(
    tiny, prepared, finished_run, spoilt, cpu, tmp_path, assert_resumes
):
    work_dir, _ = finished_run
    balanced = balancing.load_balanced(os.path.join(work_dir, "generation_1/balanced"))
    labeled = bad_records.without_bad(spoilt(prepared.labeled, "l"), "labeled")
    pseudo = bad_records.without_bad(spoilt(balanced, "p"), "pseudo_labeled")
    assert pseudo.num_examples < balanced.num_examples
    data = dataclasses.replace(prepared, labeled=labeled)
    short = dataclasses.replace(tiny.student_training, duration="6 epochs")
    job = jobs.student_job(
        dataclasses.replace(tiny, student_training=short), data, 1, pseudo
    )
    assert_resumes(job, killed_before_loop=2)
    skipped = read_manifest(str(tmp_path / "unbroken"))["results"]["skipped_records"]
    assert skipped["count"] == 2
    assert "labeled-00000-of-00003.tfrecord:1" in skipped["first"][0]


def test_training_stops_by_name_at_a_file_that_vanishes(
    tiny, prepared, cpu, tmp_path, monkeypatch
):
    paths = tuple(shutil.copy(path, tmp_path) for path in prepared.labeled.files)
    labeled = dataclasses.replace(prepared.labeled, files=paths)
    job = jobs.teacher_job(tiny, dataclasses.replace(prepared, labeled=labeled))
    whole = train_step.NoisyStudentTrainer.train

    def vanishing(self, num_steps):
        means = whole(self, num_steps)
        if os.path.exists(paths[1]):
            os.remove(paths[1])
        return means

    monkeypatch.setattr(train_step.NoisyStudentTrainer, "train", vanishing)
    expected = f"^{paths[1]}: expected a file that stays .* gone.*Put it back"
    with pytest.raises(InputError, match=expected):
        training.train(job, str(tmp_path / "t"), cpu)


def test_labeling_stops_by_name_at_a_file_that_vanishes(
    teacher, prepared, cpu, tmp_path, monkeypatch
):
    paths = tuple(shutil.copy(path, tmp_path) for path in prepared.unlabeled.files)
    unlabeled = dataclasses.replace(prepared.unlabeled, files=paths)
    whole = labeling.label_shards

    def vanishing(*arguments):
        os.remove(paths[1])
        whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(labeling, "label_shards", vanishing)
        with pytest.raises(InputError, match=f"^{paths[1]}: expected a file that stays"):
            labeling.label(teacher, unlabeled, str(tmp_path / "p"), cpu)
    shutil.copy(prepared.unlabeled.files[1], paths[1])
    labeling.label(teacher, unlabeled, str(tmp_path / "p"), cpu)


def test_another_choice_of_skipped_records_is_another_training(
    tiny, prepared, spoilt, cpu, tmp_path
):
    labeled = bad_records.without_bad(spoilt(prepared.labeled, "l"), "labeled")
    short = dataclasses.replace(tiny.teacher_training, duration="1 epoch")
    tiny = dataclasses.replace(tiny, teacher_training=short)
    job = jobs.teacher_job(tiny, dataclasses.replace(prepared, labeled=labeled))
    training.train(job, str(tmp_path / "t"), cpu)
    other = dataclasses.replace(labeled, skipped=())
    with pytest.raises(InputError, match="labeled_data: "):
        training.train(dataclasses.replace(job, labeled=other), str(tmp_path / "t"), cpu)


def test_labeling_and_balancing_leave_bad_records_out(
    teacher, prepared, spoilt, cpu, tmp_path, capsys, tiny
):
    unlabeled = spoilt(prepared.unlabeled, "u")
    expected = "unlabeled-00000-of-00003.tfrecord, record 1 .*`image/encoded`"
    with pytest.raises(InputError, match=expected):
        labeling.label(teacher, unlabeled, str(tmp_path / "stopped"), cpu)
    clean = bad_records.without_bad(unlabeled, "unlabeled")
    predictions = labeling.label(teacher, clean, str(tmp_path / "predictions"), cpu)
    results = read_manifest(predictions)["results"]
    assert results["images"] == prepared.unlabeled.num_examples - 1
    assert results["skipped_records"]["count"] == 1
    assert "1 bad record(s) skipped, such as unlabeled-00000" in capsys.readouterr().out
    balanced = balancing.balance(
        clean, predictions, str(tmp_path / "balanced"), tiny.selection, seed=0
    )
    assert balanced.num_examples
    with pytest.raises(InputError, match="--skip_bad_records as it was then"):
        balancing.balance(unlabeled, predictions, str(tmp_path / "b"), tiny.selection, 0)


def test_balancing_reads_no_further_than_a_truncated_file_goes(
    teacher, prepared, cpu, tmp_path, tiny
):
    paths = tuple(shutil.copy(path, tmp_path) for path in prepared.unlabeled.files)
    os.truncate(paths[2], os.path.getsize(paths[2]) - 5)
    cut = dataclasses.replace(prepared.unlabeled, files=paths)
    with pytest.raises(InputError, match=r"unlabeled-00002.*and all after it: expected a"):
        labeling.label(teacher, cut, str(tmp_path / "stopped"), cpu)
    clean = bad_records.without_bad(cut, "unlabeled")
    predictions = labeling.label(teacher, clean, str(tmp_path / "predictions"), cpu)
    assert read_manifest(predictions)["results"]["images"] == cut.num_examples - 1
    balancing.balance(clean, predictions, str(tmp_path / "b"), tiny.selection, seed=0)


def test_metrics_say_what_was_skipped(teacher, prepared, spoilt, cpu, tmp_path):
    model = shutil.copytree(teacher, tmp_path / "teacher")
    test = spoilt(prepared.test, "test")
    with pytest.raises(InputError, match="test-00000-of-.*, record 1 .*`image/encoded`"):
        evaluation.evaluate(str(model), {"test": test}, cpu)
    clean = bad_records.without_bad(test, "labeled")
    metrics = evaluation.evaluate(str(model), {"test": clean}, cpu)
    assert metrics["test"]["images"] == prepared.test.num_examples - 1
    assert metrics["test"]["skipped_records"]["count"] == 1


def test_prepared_sets_and_their_list_of_bad_files(prepared, spoilt, tmp_path, capsys):
    """A part of TFRecord files is written anew without the bad records."""
    directory = os.path.dirname(spoilt(prepared.test, "test").files[0])
    config = DataConfig(
        labeled_data=f"tfrecord:{directory}", labels_per_class=2, skip_bad_records=True
    )
    found = preparation.prepare(config, str(tmp_path / "data"), seed=0)
    sets = (found.labeled, found.unlabeled, found.test)
    total = prepared.test.num_examples
    assert sum(examples.num_examples for examples in sets) == total - 1
    assert "1 unreadable image(s) skipped, such as test-00000" in capsys.readouterr().out
    with open(tmp_path / "data" / preparation.BAD_FILES) as file:
        assert len(file.readlines()) == 2
    manifest = read_manifest(str(tmp_path / "data/labeled"))
    assert manifest["results"]["skipped_records"]["count"] == 1


def test_too_few_class_names_are_refused_by_name(prepared, tmp_path):
    path = shutil.copy(prepared.test.files[0], tmp_path)
    (tmp_path / "class_names.json").write_text('["0", "1", "2"]')
    shutil.move(path, tmp_path / "own.tfrecord")
    expected = (
        r"`data`: expected labels below 3.* has 9\. The first one outside is \d of "
        r".*own.tfrecord:\d+ \(.*complete class_names.json"
    )
    with pytest.raises(InputError, match=expected):
        preparation.prepare_set(f"tfrecord:{tmp_path}/own.tfrecord", str(tmp_path / "d"))
