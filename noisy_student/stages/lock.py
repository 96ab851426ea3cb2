"""One process at a time writes to a directory; a second one is told of the first.

On a disk of this machine, or one that passes locks on to its server (NFS), the kernel
keeps the lock and lets go of it when the process ends, however it ends. Object stores and
disks without locks have none: there the holder renews a sign in the lock's file, and who
finds the file waits for the next sign. That cannot tell two that start within the same
seconds; the kernel's lock can.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator

import tensorflow as tf

from data import files
from data.errors import InputError
from noisy_student.stages.manifest import now

LOCK = "running.json"
SIGN_INTERVAL = 20.0  # Seconds between two signs of a holder.
# What a disk says that cannot lock.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def held(directory: str) -> Iterator[None]:
    """Within it no other process can hold the directory, which is made if missing.

    What dead processes left in it is swept first.

    Raises:
        InputError: Another process holds it: with its number, machine, begin and
            command.
    """
    files.make_directory(directory)
    path = os.path.join(directory, LOCK)
    with contextlib.ExitStack() as stack:
        if not (files.is_local(path) and _locked_by_kernel(path, stack)):
            _wait_for_sign(path)
            stack.enter_context(_signs(path))
        files.sweep(directory)
        yield


def _locked_by_kernel(path: str, stack: contextlib.ExitStack) -> bool:
    """Takes the lock until `stack` ends; False on a disk that has none."""
    while True:
        file = stack.enter_context(open(path, "a"))  # noqa: SIM115  Until the end.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held_by(path, _read(path)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                break
        file.close()  # Its holder has just removed it: the next one has another file.
    stack.callback(_remove, path)  # While it is still locked.
    # In place: a new file of this name would be another lock.
    file.truncate(0)
    file.write(json.dumps(_own_facts(), indent=2))
    file.flush()
    return True


def _wait_for_sign(path: str) -> None:
    """Raises if the file's holder gives another sign; of a dead one there is none."""
    facts = _read(path)
    if not facts:  # Or made a moment ago, to find that this disk has no locks.
        return
    print(
        f"{path}: left by process {facts.get('process')} on {facts.get('host')}. Waits "
        f"{2 * SIGN_INTERVAL:.0f} s for a sign of it, and goes on if there is none.",
        flush=True,
    )
    end = time.monotonic() + 2 * SIGN_INTERVAL
    while time.monotonic() < end:
        time.sleep(SIGN_INTERVAL / 10)
        found = _read(path)
        if found is None:
            return
        if found.get("sign") != facts.get("sign"):
            raise _held_by(path, found)


@contextlib.contextmanager
def _signs(path: str) -> Iterator[None]:
    facts, ended = _own_facts(), threading.Event()

    def renew() -> None:
        while not ended.wait(SIGN_INTERVAL):
            # One that cannot be written now, the next one makes up for.
            with contextlib.suppress(OSError, tf.errors.OpError):
                files.write_json(path, {**facts, "sign": secrets.token_hex(6)})

    files.write_json(path, {**facts, "sign": secrets.token_hex(6)})
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _remove(path)


def _own_facts() -> dict:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": now(),
        "command": shlex.join(sys.orig_argv),
    }


def _read(path: str) -> dict | None:
    """What the file says; None if there is none, nothing if it is cut off."""
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            found = json.loads(file.read())
    except tf.errors.NotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _remove(path: str) -> None:
    with contextlib.suppress(OSError, tf.errors.OpError):
        tf.io.gfile.remove(path)


def _held_by(path: str, facts: dict | None) -> InputError:
    facts = facts or {}
    process = facts.get("process", "of a number not known")
    return InputError(
        f"{os.path.dirname(path)}: expected a directory that no other process writes to; "
        f"process {process} on {facts.get('host', 'a machine not known')} does, since "
        f"{facts.get('started', 'a time not known')}: {facts.get('command', '')}\nWait "
        "until it has ended, or stop it; or choose another directory."
    )
