"""Two processes and one directory: the second is refused, and a dead one not missed."""

import contextlib
import errno
import os
import re
import signal
import sys
import time

import pytest

from data import files
from data.errors import InputError
from noisy_student import iterate
from noisy_student.stages import lock
from tests.conftest import tiny_config


@pytest.fixture(params=["kernel", "signs"])
def kind(request, monkeypatch):
    """Which lock: `signs` as on a disk without any."""
    monkeypatch.setattr(lock, "SIGN_INTERVAL", 1.0)  # Of the holder: 0.05.
    if request.param == "signs":

        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(lock.fcntl, "flock", flock)
    return request.param


@pytest.fixture
def holder(tmp_path, kind):
    """Number of a process that holds `run`: forked, for TensorFlow is loaded already."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        lock.SIGN_INTERVAL = 0.05
        with lock.held(str(tmp_path / "run")):
            os.write(write, b"held")
            time.sleep(600)
    assert os.read(read, 4) == b"held"
    yield process
    kill(process)


def kill(process):
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_second_process_is_told_of_the_first(tmp_path, holder):
    command = re.escape(sys.orig_argv[-1])  # Under xdist it is no command of pytest's.
    expected = (
        f"run: expected a directory that no.*; process {holder} on .*, since .*{command}"
    )
    with pytest.raises(InputError, match=expected), lock.held(str(tmp_path / "run")):
        pass
    assert files.read_json(str(tmp_path / "run" / lock.LOCK))["process"] == holder


def test_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    kill(holder)
    directory = tmp_path / "run"
    assert (directory / lock.LOCK).exists()
    with lock.held(str(directory)):
        facts = files.read_json(str(directory / lock.LOCK))
        assert facts["process"] == os.getpid()
    assert not list(directory.iterdir())


def test_directory_is_free_after_an_error(tmp_path, kind):
    directory = str(tmp_path / "run")
    with pytest.raises(KeyError), lock.held(directory):
        raise KeyError
    with lock.held(directory):
        pass
    assert not os.listdir(directory)


def test_lock_cut_off_by_a_kill_is_taken_over(tmp_path, kind):
    (tmp_path / lock.LOCK).write_text('{"process": 12')
    with lock.held(str(tmp_path)):
        assert files.read_json(str(tmp_path / lock.LOCK))["process"] == os.getpid()


def test_run_on_a_held_work_dir_is_refused(tmp_path, cpu):
    """Before it looks at anything in it, or writes."""
    with lock.held(str(tmp_path)), pytest.raises(InputError, match="no other process"):
        iterate.iterate(tiny_config(), str(tmp_path), cpu)
    assert not os.listdir(tmp_path)
