"""Of damaged checkpoints none is restored, and of broken saves none is left."""

import os

import pytest
import tensorflow as tf

from data.errors import InputError
from noisy_student.training.checkpoints import Checkpoints, newest_whole


class Saver:
    """A step and a tensor, saved every step like a training."""

    def __init__(self, directory, keep=3):
        self.step = tf.Variable(0, dtype=tf.int64)
        self.values = tf.Variable(tf.zeros([1000]))
        checkpoint = tf.train.Checkpoint(step=self.step, values=self.values)
        self.manager = Checkpoints(
            checkpoint, str(directory), step=self.step, interval=1, keep=keep
        )
        self.manager.restore_or_initialize()

    def run(self, steps):
        for _ in range(steps):
            self.step.assign_add(1)
            self.values.assign(tf.fill([1000], float(self.step.numpy())))
            self.manager.save(checkpoint_number=self.step.numpy())


@pytest.mark.parametrize("extra", [{"slot": tf.zeros([2])}, {"values": tf.zeros([3])}])
def test_a_checkpoint_of_other_variables_is_refused(tmp_path, extra):
    Saver(tmp_path).run(1)
    step, values = tf.Variable(0, dtype=tf.int64), tf.Variable(tf.zeros([1000]))
    variables = {"values": values} | {k: tf.Variable(v) for k, v in extra.items()}
    checkpoint = tf.train.Checkpoint(step=step, **variables)
    manager = Checkpoints(checkpoint, str(tmp_path), step=step, interval=1, keep=3)
    with pytest.raises(InputError, match=r"ckpt-1: expected a checkpoint of this network"):
        manager.restore_or_initialize()


@pytest.fixture
def saved(tmp_path):
    Saver(tmp_path).run(3)
    return tmp_path / "checkpoints"


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def empty(path):
    os.truncate(path, 0)


DAMAGES = [(how, f) for how in (cut, flip, empty, os.remove) for f in ("index", "data")]


def part_of(directory, step, part):
    return next(directory.glob(f"ckpt-{step}.{part}*"))


@pytest.mark.parametrize(("damage", "part"), DAMAGES)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    saved, tmp_path, capsys, damage, part
):
    damage(part_of(saved, 3, part))
    path, damaged = newest_whole(str(saved))
    assert (path, list(damaged)) == (str(saved / "ckpt-2"), [str(saved / "ckpt-3")])
    assert capsys.readouterr().out == ""

    saver = Saver(tmp_path)
    printed = capsys.readouterr().out
    assert f"Warning: the checkpoint {saved}/ckpt-3 is damaged (" in printed
    assert "training goes on from ckpt-2." in printed
    assert saver.step.numpy() == 2
    assert saver.values.numpy()[0] == 2
    assert list((saved / "damaged").glob("ckpt-3.*"))
    saver.run(3)  # Saves its own ckpt-3, and keeps count of what to delete.
    assert sorted(path.name for path in saved.glob("*.index")) == [
        "ckpt-3.index",
        "ckpt-4.index",
        "ckpt-5.index",
    ]
    assert Saver(tmp_path).step.numpy() == 5
    assert capsys.readouterr().out == ""


def test_without_a_whole_checkpoint_training_stops_and_says_what_to_do(saved, tmp_path):
    for step in (1, 2, 3):
        cut(part_of(saved, step, "data"))
    before = sorted(os.listdir(saved))
    with pytest.raises(InputError, match=r"all 3 .*newest, ckpt-3: .*delete this dir"):
        Saver(tmp_path)
    assert sorted(os.listdir(saved)) == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe nothing", b"model_checkpoint_path"])
def test_a_damaged_list_of_checkpoints_loses_none(saved, tmp_path, content):
    (saved / "checkpoint").write_bytes(content)
    saver = Saver(tmp_path)
    assert saver.step.numpy() == 3
    assert len(saver.manager.checkpoints) == 3


def test_an_empty_list_of_no_checkpoints_is_no_hindrance(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint").touch()
    saver = Saver(tmp_path)
    saver.run(1)
    assert Saver(tmp_path).step.numpy() == 1


def test_what_a_killed_save_left_is_removed(saved, tmp_path, capsys):
    (saved / "ckpt-4_temp").mkdir()
    (saved / "ckpt-4_temp" / "part-00000").write_bytes(b"half")
    (saved / "ckpt-4.data-00000-of-00001").write_bytes(b"half")
    assert Saver(tmp_path).step.numpy() == 3
    assert not list(saved.glob("ckpt-4*"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", [cut, empty])
def test_a_kill_in_the_first_save_starts_the_training_anew(tmp_path, capsys, damage):
    Saver(tmp_path).run(1)
    saved = tmp_path / "checkpoints"
    os.remove(saved / "checkpoint")  # Written after the index, which is cut off.
    damage(saved / "ckpt-1.index")
    saver = Saver(tmp_path)
    assert saver.step.numpy() == 0
    assert "ckpt-1 is damaged (" in (printed := capsys.readouterr().out)
    assert "training starts anew." in printed
    saver.run(2)
    assert Saver(tmp_path).step.numpy() == 2
    assert capsys.readouterr().out == ""


def test_a_moved_directory_goes_on(saved, tmp_path):
    saved.parent.joinpath("moved").mkdir()
    os.rename(saved, tmp_path / "moved" / "checkpoints")
    saver = Saver(tmp_path / "moved")
    saver.run(2)
    assert saver.manager.latest_checkpoint.endswith("moved/checkpoints/ckpt-5")
    assert len(list((tmp_path / "moved" / "checkpoints").glob("*.index"))) == 3
