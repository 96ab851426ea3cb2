"""Files appear whole or not at all."""

import errno
import hashlib
import os
import signal
import subprocess
import time

import pytest

from data import files
from data.errors import InputError


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)


def test_atomic_path_shows_the_file_only_when_it_is_whole(tmp_path):
    path = str(tmp_path / "deep" / "model.keras")
    with files.atomic_path(path) as temporary:
        assert temporary != path
        assert files.TEMPORARY_SUFFIX in temporary
        assert temporary.endswith(".keras")
        _write(temporary, "whole")
        assert not os.path.exists(path)
    assert os.listdir(tmp_path / "deep") == ["model.keras"]
    assert (tmp_path / "deep" / "model.keras").read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = str(tmp_path / "x.json")
    _write(path, "old")

    def fail():
        with files.atomic_path(path) as temporary:
            _write(temporary, "half")
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "old"


def test_an_error_before_anything_is_written_passes_through(tmp_path):
    with pytest.raises(ZeroDivisionError), files.atomic_path(str(tmp_path / "x")):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_object_stores_are_written_directly():
    path = "ram://atomic/x.json"
    assert not files.is_local(path)
    with files.atomic_path(path) as temporary:
        assert temporary == path
    files.write_json(path, [1])
    assert files.read_json(path) == [1]


def test_json_round_trip(tmp_path):
    value = {"name": "Ära", "list": [1, 2.5, None], "nested": {"x": True}}
    path = str(tmp_path / "value.json")
    files.write_json(path, value)
    assert files.read_json(path) == value
    with pytest.raises(TypeError):
        files.write_json(path, {"bad": object()})
    assert files.read_json(path) == value


def test_sha256_of_a_file_longer_than_one_read(tmp_path):
    content = os.urandom((1 << 22) + 17)
    (tmp_path / "x").write_bytes(content)
    assert files.sha256(str(tmp_path / "x")) == hashlib.sha256(content).hexdigest()


def test_directory_that_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("in the way")
    with pytest.raises(InputError, match="can be written to"):
        files.make_directory(str(path / "below"))


def test_atomic_open_shows_the_file_only_when_it_is_whole(tmp_path):
    path = str(tmp_path / "deep" / "a.txt")
    with files.atomic_open(path) as file:
        file.write("text")
        assert not os.path.exists(path)
    with pytest.raises(ZeroDivisionError), files.atomic_open(path, "wb"):
        raise ZeroDivisionError
    with open(path) as file:
        assert file.read() == "text"
    assert os.listdir(tmp_path / "deep") == ["a.txt"]


def test_sweep_removes_what_dead_processes_left(tmp_path):
    """And nothing that a process may still write, here or on another machine."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    machine, folder = files.unique_name().split("-")[0], tmp_path / "checkpoints"
    folder.mkdir()
    gone = [f"m.incomplete-{machine}-{dead.pid}-0123abcd.keras"]
    gone += [f".writable-{machine}-{dead.pid}-0123abcd"]
    gone += ["a.incomplete-00000000-12-0123abcd.json"]
    kept = ["m.keras", "notes.incomplete", "b.incomplete-00000000-12-0123abcd.json"]
    kept += [f"m.incomplete-{files.unique_name()}.keras"]
    for name in gone + kept:
        (folder / name).touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(folder / gone[-1], (two_days_ago, two_days_ago))
    files.sweep(str(tmp_path))
    assert sorted(os.listdir(folder)) == sorted(kept)
    files.sweep("gs://bucket/run")  # Asks nothing of an object store.


def test_temporary_files_of_a_killed_process_are_swept(tmp_path):
    path = str(tmp_path / "model.keras")
    process = os.fork()
    if not process:
        with files.atomic_path(path) as temporary:
            _write(temporary, "half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert files.TEMPORARY_SUFFIX in left
    files.sweep(str(tmp_path))
    assert not os.listdir(tmp_path)


def _write_until_the_disk_is_full(path):
    with files.atomic_open(path) as file:
        file.write("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_is_one_message_for_every_file(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(InputError, match="expected room for summary.json; received: No s"):
        _write_until_the_disk_is_full(str(path))
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert path.read_text() == "old"
