"""What many tests share: a tiny configuration and one finished run of it."""

import tpu_scripts  # noqa: F401, I001  First: it sets the environment of users' runs.

import dataclasses
import fcntl
import os
import shutil

import hypothesis
import pytest
import tensorflow as tf

from data import records
from noisy_student.preparation.preparation import prepare
from noisy_student import iterate, recipes, strategy
from noisy_student.config import DataConfig

# The same examples in every run, however slow the machine; to look for others:
# pytest --hypothesis-profile=default.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, max_examples=60
)
hypothesis.settings.load_profile("repeatable")


def tiny_config(**changes):
    """The digits recipe at its smallest: 7 blocks, 8 to 10 channels, few steps."""
    recipe = recipes.load("digits")
    model = dataclasses.replace(recipe.teacher, width=0.1, depth=0.1)
    training = dataclasses.replace(
        recipe.teacher_training,
        batch_size=20,
        duration="30 epochs",
        warmup="2 epochs",
        base_learning_rate=0.32,
    )
    tiny = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, labels_per_class=2, num_shards=3),
        teacher=model,
        student=model,
        teacher_training=training,
        student_training=dataclasses.replace(training, unlabeled_ratio=2.0),
        selection=dataclasses.replace(recipe.selection, min_confidence=0.05),
        generations=1,
    )
    return dataclasses.replace(tiny, **changes)


@pytest.fixture
def tiny():
    return tiny_config()


@pytest.fixture(scope="session")
def cpu():
    return strategy.create_strategy("cpu")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, cpu):
    """work_dir and summary of `tiny_config()`, run once for all test processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with open(shared / "finished_run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        summary = iterate.iterate(tiny_config(), str(shared / "finished_run"), cpu)
    # Each process has its own: tests take parts of it away.
    work_dir = str(tmp_path_factory.mktemp("finished_run"))
    shutil.copytree(shared / "finished_run", work_dir, dirs_exist_ok=True)
    return work_dir, summary


@pytest.fixture(scope="session")
def prepared(finished_run):
    """The record sets of the finished run."""
    work_dir, _ = finished_run
    return prepare(tiny_config().data, os.path.join(work_dir, "data"), seed=0)


@pytest.fixture
def digits_data():
    return DataConfig(
        labeled_data="digits:pool",
        labels_per_class=3,
        validation_data="digits:validation",
        test_data="digits:test",
    )


@pytest.fixture
def spoilt(tmp_path):
    """A copy of a record set whose second record has no image file."""

    def copy(examples, name):
        directory = tmp_path / name
        directory.mkdir()
        paths = tuple(shutil.copy(path, directory) for path in examples.files)
        rows = list(records.read_shard(paths[0]))
        image = rows[1].features.feature[records.IMAGE].bytes_list
        image.value[:] = [b"not an image"]
        with tf.io.TFRecordWriter(paths[0]) as writer:
            for row in rows:
                writer.write(row.SerializeToString())
        return dataclasses.replace(examples, files=paths)

    return copy
