"""Writing files so that a reader never sees half of one."""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from data import full_disk
from data.errors import InputError
from data.storage_errors import StorageErrors

TEMPORARY_SUFFIX = ".incomplete"
_PROBE = ".writable"
# As `unique_name` ends; older versions wrote other names, which stay.
_TEMPORARY = re.compile(
    rf"(?:{re.escape(TEMPORARY_SUFFIX)}|{re.escape(_PROBE)})-([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{8}}"
)
_DAY = 24 * 3600.0  # Seconds.
_THREADS = 16  # An object store answers a request in some 50 ms, but many at once.


def is_local(path: str) -> bool:
    """Whether it is a path of this machine, not a URL such as gs://bucket/file."""
    return "://" not in path


def map_in_threads(function: Callable, paths: Iterable[str]) -> Iterator:
    """`map` for what reads files, several at once; errors that pass are waited out."""

    def patient(path: str) -> Any:
        return StorageErrors(path).retry(lambda: function(path))

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(patient, paths)


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """Yields a path to write to; renamed to `path` when the block succeeds.

    Object stores publish a file only when it is closed and have no cheap
    rename, so there the path itself is yielded.

    Raises:
        InputError: The disk is full.
    """
    with full_disk.explained(os.path.dirname(path) or ".", os.path.basename(path)):
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        if is_local(path):
            yield from _renamed(path)
        else:
            yield path


def _renamed(path: str) -> Iterator[str]:
    """A name beside it, which becomes `path` when nothing went wrong."""
    # Keeps the file type at the end, `.weights.h5` too: Keras looks at it.
    directory, name = os.path.split(path)
    stem, dot, extension = name.partition(".")
    temporary = f"{stem}{TEMPORARY_SUFFIX}-{unique_name()}{dot}{extension}"
    temporary = os.path.join(directory, temporary)
    try:
        yield temporary
        _to_disk(temporary)  # Else a power failure may leave the name without content.
        os.replace(temporary, path)
    except BaseException:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
        raise


@contextlib.contextmanager
def atomic_open(path: str, mode: str = "w") -> Iterator[tf.io.gfile.GFile]:
    """Yields a file to write; it is at `path` when the block succeeds.

    Closed before it is renamed, see `atomic_path`.

    Args:
        path: Where it goes.
        mode: `w`, or `wb` for bytes.
    """
    with atomic_path(path) as temporary, tf.io.gfile.GFile(temporary, mode) as file:
        yield file


def _to_disk(path: str) -> None:
    if not os.path.isfile(path):  # A directory, or nothing was written.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: str) -> None:
    """Makes `directory` and proves that files can be written to it."""
    probe = os.path.join(directory, f"{_PROBE}-{unique_name()}")
    try:
        tf.io.gfile.makedirs(directory)
        with tf.io.gfile.GFile(probe, "w") as file:
            file.write("")
        tf.io.gfile.remove(probe)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise InputError(
            f"{directory}: expected a directory that can be written to; {reason}. "
            "Choose another --work_dir or --output_dir."
        ) from error


def unique_name() -> str:
    """Machine, process and 8 random hex digits, as `sweep` reads them.

    On a disk that several machines share, two processes can have the same number.
    """
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def sweep(directory: str) -> None:
    """Removes temporary files of dead processes, below a directory too.

    Of processes of this machine that are no more; of other machines after a day, as they
    may be alive. Object stores have none.
    """
    if not is_local(directory):
        return
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            match = _TEMPORARY.search(name)
            if match and not _may_be_written(path, *match.groups()):
                with contextlib.suppress(FileNotFoundError):  # Another process's sweep.
                    os.remove(path)


def _may_be_written(path: str, machine: str, process: str) -> bool:
    if machine == _machine():
        try:
            os.kill(int(process), 0)  # Sends nothing.
        except ProcessLookupError:
            return False
        except PermissionError:  # Of another user.
            return True
    with contextlib.suppress(FileNotFoundError):
        return time.time() - os.stat(path).st_mtime < _DAY
    return False


@functools.cache
def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def write_json(path: str, value: object) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_open(path) as file:
        file.write(json.dumps(value, indent=2) + "\n")


def read_json(path: str) -> Any:
    """The value in a JSON file; errors of storage that pass are waited out.

    Raises:
        InputError: It holds no JSON.
    """

    def read() -> bytes:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()

    try:
        content = StorageErrors(path).retry(read)
    except tf.errors.FailedPreconditionError as error:
        raise InputError(f"{path}: expected a JSON file; received a directory.") from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError.
        raise InputError(
            f"{path}: expected JSON; received {len(content)} bytes that are none "
            f"({str(error)[:200]}). Put back a copy, or delete it and run the command "
            "again that made it."
        ) from error


def sha256(path: str) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
