"""Damage, signals, bad numbers and full disks: training loses nothing that was good."""

import dataclasses
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from data import files, full_disk, pipeline, records, storage_errors, streams
from data.errors import InputError
from data.records import RecordSet
from noisy_student import iterate
from noisy_student.evaluation import evaluation
from noisy_student.iteration.jobs import student_job, teacher_job
from noisy_student.preparation import preparation
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import best_model, history, optimizer, training
from noisy_student.training.history import read_history
from noisy_student.training.train_step import NoisyStudentTrainer
from noisy_student.training.training_loop import LoopOptions
from tests.conftest import tiny_config

OPTIONS = LoopOptions(steps_per_loop=4, checkpoint_interval="8 steps")
STEPS = 40


def short_config():
    """A teacher of 40 steps of 20 images."""
    tiny = tiny_config()
    return dataclasses.replace(
        tiny,
        teacher_training=dataclasses.replace(
            tiny.teacher_training, duration=f"{STEPS} epochs"
        ),
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("data"))
    return preparation.prepare(short_config().data, directory, seed=0)


@pytest.fixture(scope="module")
def job(prepared):
    return teacher_job(short_config(), prepared)


@pytest.fixture(scope="module")
def unbroken(job, cpu, tmp_path_factory):
    """Directory and model of a training that nothing happened to."""
    directory = str(tmp_path_factory.mktemp("unbroken"))
    return directory, training.train(job, directory, cpu, OPTIONS)


def test_training_goes_on_from_the_checkpoint_before_a_truncated_one(
    job, unbroken, cpu, tmp_path, capsys
):
    directory = shutil.copytree(unbroken[0], tmp_path / "copy")
    os.remove(directory / "model.keras")
    data = directory / "checkpoints" / "ckpt-40.data-00000-of-00001"
    os.truncate(data, data.stat().st_size // 2)
    assert training.train(job, str(directory), cpu, OPTIONS) == unbroken[1]
    printed = capsys.readouterr().out
    assert "ckpt-40 is damaged" in printed
    assert "continues at 36/40 steps" in printed


ITERATE = textwrap.dedent(
    """
    import sys
    from tests.noisy_student.training.test_safe_training import short_config
    from noisy_student import iterate, strategy
    from noisy_student.training.training_loop import LoopOptions
    from tpu_scripts import setting_flags
    options = LoopOptions(steps_per_loop=4, checkpoint_interval="1000 steps")
    cpu = strategy.create_strategy("cpu")
    work_dir = sys.argv.pop()
    setting_flags.run(lambda: iterate.iterate(short_config(), work_dir, cpu, options))
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_say_how_far_and_give_their_status(unbroken, cpu, tmp_path, sent):
    teacher = tmp_path / "generation_0" / "teacher"
    process = subprocess.Popen(
        [sys.executable, "-c", ITERATE, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not read_history(str(teacher)):
        time.sleep(0.005)
    process.send_signal(sent)
    printed, errors = process.communicate()
    assert process.returncode == 128 + sent, errors
    reached = read_history(str(teacher))[-1]["step"]
    assert 4 <= reached < STEPS
    line = (
        f"Stopped by {sent.name}: step {reached} of {STEPS} is saved. Run the same command"
    )
    assert line in printed
    assert "Traceback" not in errors
    assert [p.name for p in teacher.glob("checkpoints/*.index")] == [
        f"ckpt-{reached}.index"
    ]
    config = short_config()
    data = preparation.prepare(config.data, str(tmp_path / "data"), seed=0)
    assert (
        training.train(teacher_job(config, data), str(teacher), cpu, OPTIONS)
        == (unbroken[1])
    )


def poisoned_job(prepared, directory, poisoned=None):
    """A student of 60 pseudo-labeled images; the probabilities of one are NaN."""
    path = str(directory / "pseudo.tfrecord")
    rows = []
    for example in list(records.read_shard(prepared.unlabeled.files[0]))[:60]:
        id_ = records.example_id(example, path, 0)
        value = math.nan if id_ == poisoned else 0.1
        image = example.features.feature[records.IMAGE].bytes_list.value[0]
        row = {records.IMAGE: image, records.ID: id_.encode(), records.LABEL: 3}
        row[records.PROBABILITIES] = np.full(10, value, np.float32).tolist()
        rows.append(row)
    records.write_shard(path, rows)
    names = prepared.labeled.class_names
    config = short_config()
    job = student_job(config, prepared, 1, RecordSet((path,), (60,), names))
    settings = dataclasses.replace(job.training, unlabeled_ratio=1.0)
    return dataclasses.replace(job, training=settings)


@pytest.mark.slow
def test_the_first_bad_loss_is_named_with_its_records(prepared, cpu, tmp_path):
    """The third step of three that make up an epoch is the first to see the bad record."""
    job = poisoned_job(prepared, tmp_path)
    stream = streams.TrainingInput(
        job.pseudo_labeled, 8, job.augmentation, job.seed, kind="pseudo_labeled"
    )
    third = pipeline.named_examples(stream, 20, 40, 20)
    assert len({row["id"] for row in third}) == 20
    job = poisoned_job(prepared, tmp_path, poisoned=third[7]["id"])

    options = LoopOptions(steps_per_loop=2, checkpoint_interval="1 step")
    directory = str(tmp_path / "student")
    with pytest.raises(FloatingPointError) as raised:
        training.train(job, directory, cpu, options)
    message = str(raised.value)
    rate = float(optimizer.schedule_for(job.training, 20)(2))
    assert "The first loss that is not finite is that of step 3, at" in message
    assert f"at learning rate {rate:.3g}." in message
    assert f"pseudo_labeled: {', '.join(row['id'] for row in third)}\n" in message
    assert f"{directory}/bad_step.json" in message
    written = files.read_json(f"{directory}/bad_step.json")
    assert (written["step"], written["not_finite"]) == (3, "loss")
    assert written["records"]["pseudo_labeled"] == third
    ids = {
        records.example_id(example, "", 0)
        for path in job.labeled.files
        for example in records.read_shard(path)
    }
    assert {row["id"] for row in written["records"]["labeled"]} == ids
    # The bad loop leaves no checkpoint and no row.
    assert tf.train.latest_checkpoint(f"{directory}/checkpoints").endswith("ckpt-2")
    assert [row["step"] for row in read_history(directory)] == [2]
    with pytest.raises(FloatingPointError, match="of step 3, at learning rate"):
        training.train(job, directory, cpu, options)


def test_weights_that_are_not_finite_are_not_saved(job, cpu, tmp_path):
    """Of one step the loss is from before the update."""
    wild = dataclasses.replace(job.training, base_learning_rate=1e41, warmup="0 steps")
    job = dataclasses.replace(job, training=wild)
    options = LoopOptions(steps_per_loop=1, checkpoint_interval="1 step")
    with pytest.raises(FloatingPointError, match="not the weights after step 1, at learn"):
        training.train(job, str(tmp_path), cpu, options)
    assert not list(tmp_path.glob("checkpoints/*.index"))
    assert not read_history(str(tmp_path))


TWO_REPLICAS = """
    import json
    import tensorflow as tf
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        device, [tf.config.LogicalDeviceConfiguration()] * 2)
    from noisy_student.training import bad_step
    from noisy_student import strategy
    two = strategy.create_strategy("mirrored")
    with two.scope():
        first = bad_step.FirstBadStep(2)

    @tf.function
    def look(losses, step):
        def on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            first.look(tf.math.is_finite(losses[replica]), step)
        two.run(on_replica)

    bad = float("nan")
    found = []
    for losses in ([[1., 1, bad, 1], [1, bad, bad, 1]], [[1., 1, 1, bad], [1, 1, 1, 1]]):
        for step in range(4):
            look(tf.constant(losses)[:, step], tf.constant(7 + step))
        found += [first.take(), first.take()]
    print(json.dumps(found))
"""


def test_a_loss_that_is_bad_on_one_replica_counts():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_REPLICAS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert json.loads(run.stdout.splitlines()[-1]) == [8, 0, 10, 0]


FULL = textwrap.dedent(
    """
    import sys
    from tests.noisy_student.training.test_safe_training import OPTIONS, short_config
    from noisy_student import strategy
    from noisy_student.iteration.jobs import teacher_job
    from noisy_student.preparation import preparation
    from noisy_student.training import training
    from tpu_scripts import setting_flags
    output, data = sys.argv.pop(), sys.argv.pop()
    cpu = strategy.create_strategy("cpu")
    prepared = preparation.prepare(short_config().data, data, seed=0)
    job = teacher_job(short_config(), prepared)
    if ROOM:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
    setting_flags.run(lambda: training.train(job, output, cpu, OPTIONS))
    """
)


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_leaves_what_was_good(
    job, unbroken, prepared, cpu, tmp_path
):
    """Here no file may grow beyond half a checkpoint: writes fail midway, as if full."""
    output = shutil.copytree(unbroken[0], tmp_path / "output")
    os.remove(output / "model.keras")
    size = (output / "checkpoints" / "ckpt-40.data-00000-of-00001").stat().st_size
    for path in output.glob("checkpoints/ckpt-40*"):
        os.remove(path)
    data = os.path.dirname(os.path.dirname(prepared.labeled.files[0]))
    run = subprocess.run(
        [sys.executable, "-c", f"ROOM = {size // 2}\n{FULL}", data, str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    expected = f"Error: {output}/checkpoints: expected room for the checkpoint of step 40; "
    assert f"{expected}received: File too large. Free some of" in run.stderr
    assert "Traceback" not in run.stderr
    left = sorted(path.name for path in output.glob("checkpoints/*") if "40" in path.name)
    assert left == []
    assert training.train(job, str(output), cpu, OPTIONS) == unbroken[1]


def test_a_history_cut_off_by_a_full_disk_goes_on_in_a_new_line(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n{"st')
    writer = history.HistoryWriter(str(tmp_path))
    writer.append({"step": 2})
    writer.append({"step": 3})
    assert [row["step"] for row in read_history(str(tmp_path))] == [1, 2, 3]


def write_to_a_full_disk(directory):
    with full_disk.explained(directory, "the model"), open("/dev/full", "w") as full:
        full.write("x")


def allocate_on_a_full_device(directory):
    with full_disk.explained(directory, "the model"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")


def test_a_full_disk_is_told_from_a_full_device(tmp_path):
    with pytest.raises(InputError, match="room for the model; received: No space left"):
        write_to_a_full_disk(str(tmp_path))
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"):
        allocate_on_a_full_device(str(tmp_path))


@pytest.mark.slow
def test_the_best_model_on_validation_data_is_kept_and_changes_nothing(
    job, unbroken, prepared, cpu, tmp_path
):
    options = dataclasses.replace(OPTIONS, evaluation_interval="10 steps")
    info = training.train(job, str(tmp_path), cpu, options, validation=prepared.validation)
    assert info == unbroken[1]
    found = {
        row["step"]: row["validation_top_1"]
        for row in read_history(str(tmp_path))
        if "validation_top_1" in row
    }
    assert list(found) == [12, 20, 32, 40]
    best_step = max(found, key=found.get)  # The first of equal ones.
    record = files.read_json(str(tmp_path / "best" / "validation.json"))
    assert record == {"step": best_step, "validation_top_1": found[best_step]}
    assert read_manifest(str(tmp_path))["results"]["best"] == record
    measured = {
        directory: evaluation.evaluate(
            str(directory), {"validation": prepared.validation}, cpu
        )["validation"]["top_1"]
        for directory in (tmp_path, tmp_path / "best")
    }
    assert measured == {tmp_path: found[40], tmp_path / "best": found[best_step]}
    tags = set()
    for path in (tmp_path / "tensorboard").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {"validation_top_1", "validation_top_5", "validation_cross_entropy"} <= tags


def test_of_equally_good_models_the_earlier_is_kept(tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.25, 0.5, 0.75])
    rest = {"top_5": 1.0, "cross_entropy": 0.5}
    saved = []
    monkeypatch.setattr(
        best_model, "accuracy_on", lambda *_: {"top_1": next(accuracies), **rest}
    )
    monkeypatch.setattr(best_model, "Predictor", mock.MagicMock())
    monkeypatch.setattr(
        best_model,
        "model_files",
        mock.MagicMock(write_model=lambda model, *_: saved.append(model)),
    )
    best = best_model.BestModel(str(tmp_path), None, interval=10, total_steps=35)
    for step in (10, 20, 30, 35):
        trainer = mock.MagicMock(averaged_model=lambda step=step: step)
        best.evaluate(trainer, step, {}, "name")
    assert saved == [10, 35]
    assert best.record() == {"step": 35, "validation_top_1": 0.75}
    ends = [0, 8, 16, 24, 32, 35]
    loops = itertools.pairwise(ends)
    assert [step for before, step in loops if best.due(before, step)] == [16, 24, 32, 35]


def test_evaluation_without_validation_data_is_refused(job, cpu, tmp_path):
    options = LoopOptions(evaluation_interval="5 steps")
    with pytest.raises(InputError, match="`evaluation_interval`: expected none without"):
        training.train(job, str(tmp_path), cpu, options)
    config = short_config()
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, validation_data="")
    )
    with pytest.raises(
        InputError, match=r"`evaluation_interval`.*received '5 steps'\. Test data"
    ):
        iterate.iterate(config, str(tmp_path / "run"), cpu, options)
    assert not os.listdir(tmp_path)
    with pytest.raises(InputError, match="`evaluation_interval`: expected a num.*'5'"):
        LoopOptions(evaluation_interval="5")


def test_storage_that_fails_for_a_while_changes_nothing(
    job, unbroken, cpu, tmp_path, monkeypatch
):
    """An error in the midst of a loop: its steps are done again, from the checkpoint."""
    whole, calls = NoisyStudentTrainer.train, []

    def failing(self, num_steps):
        calls.append(int(self.step.numpy()))
        means = whole(self, num_steps)
        if len(calls) in (1, 4):  # Before the first checkpoint, and after that of step 4.
            raise tf.errors.UnavailableError(None, None, "503")
        return means

    monkeypatch.setattr(NoisyStudentTrainer, "train", failing)
    monkeypatch.setattr(storage_errors.time, "sleep", lambda seconds: None)
    directory = str(tmp_path / "failing")
    found = training.train(job, directory, cpu, OPTIONS)
    assert calls[:6] == [0, 0, 4, 8, 4, 8]
    assert found.weights_sha256 == unbroken[1].weights_sha256
    assert read_manifest(directory)["timing"]["storage_errors"] == 2
    assert read_manifest(unbroken[0])["timing"]["storage_errors"] == 0
    assert [row["step"] for row in read_history(directory)] == list(range(4, STEPS + 1, 4))
