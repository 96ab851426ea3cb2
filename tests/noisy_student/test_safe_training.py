"""Damage, signals, bad numbers and full disks: training loses nothing that was good."""

import dataclasses
import os
import shutil

import pytest

from noisy_student import preparation, training
from noisy_student.iterate import teacher_job
from noisy_student.training import LoopOptions
from tests.conftest import tiny_config

OPTIONS = LoopOptions(steps_per_loop=2, checkpoint_interval=2)


def short_config():
    """Six steps."""
    tiny = tiny_config()
    return dataclasses.replace(
        tiny, teacher_training=dataclasses.replace(tiny.teacher_training, epochs=6)
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
    data = directory / "checkpoints" / "ckpt-6.data-00000-of-00001"
    os.truncate(data, data.stat().st_size // 2)
    assert training.train(job, str(directory), cpu, OPTIONS) == unbroken[1]
    printed = capsys.readouterr().out
    assert "ckpt-6 is damaged" in printed
    assert "continues at 4/6 steps" in printed
