"""Inputs read in a child process that may crash, hang or eat memory; the parent goes on.

A child notes the number of its input and when it began in shared memory, and leaves the
input in a file, before it reads. Whatever happens to the child, the parent knows which
input it was, puts it on record and starts another child at the next one.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
from typing import Any

_POLL = 0.05  # Seconds between looks at a child.
_HEX_BYTES = 4096  # Inputs below it are kept in the record of a failure.
_CURRENT = "current_input"
_RECYCLED_MB = 1500  # A child above it makes room for a new one, between two inputs.
_NUMBER, _BEGAN, _START_MB, _READ, _REFUSED, _PEAK_MB, _LONGEST = range(7)
_STARTING = 300.0  # Seconds that a child may take to import and prepare.


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an input may take.

    Attributes:
        seconds: To be read or refused.
        megabytes: Of memory above what the process had before.
    """

    seconds: float
    megabytes: float


@dataclasses.dataclass
class Found:
    """What became of the inputs of a reader."""

    reader: str
    wanted: int
    inputs: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    children: int = 0
    longest_s: float = 0.0
    failures: list[dict] = dataclasses.field(default_factory=list)

    def kinds(self) -> dict[str, int]:
        """Number of failures by kind."""
        counts: dict[str, int] = {}
        for failure in self.failures:
            counts[failure["kind"]] = counts.get(failure["kind"], 0) + 1
        return counts


def watch(
    name: str, run: str, count: int, seed: int, limits: Limits, deadline: float
) -> Found:
    """Reads inputs 0 to `count` of a reader, in as many children as it takes.

    Args:
        name: One of `readers.READERS`.
        run: Directory of the run whose files are damaged.
        count: How many inputs.
        seed: Of them.
        limits: Of an input.
        deadline: Of `time.monotonic`, after which no further input is begun.
    """
    found, began, next_input = Found(name, count), time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="bad_bytes_") as directory:
        while next_input < count and time.monotonic() < deadline:
            asked = _Asked(name, run, seed, count, limits, deadline)
            next_input = _child(found, next_input, asked, directory)
    found.seconds = round(time.monotonic() - began, 1)
    return found


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What a child is to read."""

    reader: str
    run: str
    seed: int
    end: int
    limits: Limits
    deadline: float


def _child(found: Found, first: int, asked: _Asked, directory: str) -> int:
    """Runs one child to its end; returns the number of the next input."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.torture.readers"])
    shared = context.Array("d", 7, lock=False)
    shared[_NUMBER] = first - 1
    ours, theirs = context.Pipe(duplex=False)
    work = os.path.join(directory, str(first))
    os.makedirs(work)
    child = context.Process(
        target=_read_all,
        args=(asked, first, work, shared, theirs),
    )
    started = time.monotonic()
    child.start()
    theirs.close()
    killed = _wait(child, ours, shared, asked.limits, started, found)
    at = int(shared[_NUMBER])
    found.children += 1
    found.read += int(shared[_READ])
    found.refused += int(shared[_REFUSED])
    found.peak_mb = max(found.peak_mb, round(shared[_PEAK_MB], 1))
    found.longest_s = max(found.longest_s, round(shared[_LONGEST], 2))
    if killed or child.exitcode:
        kind = killed or f"crash ({_exit_name(child.exitcode)})"
        current = os.path.join(work, _CURRENT)
        content = b""
        if at >= first and os.path.exists(current):
            with open(current, "rb") as file:
                content = file.read()
        found.failures.append(_failure(found.reader, at, kind, "", content))
        if at < first:  # It did not come to its first input: another would not either.
            at = found.wanted
    found.inputs += max(0, min(at, found.wanted - 1) - first + 1)
    shutil.rmtree(work, ignore_errors=True)
    return at + 1


def _wait(child, ours, shared, limits: Limits, started: float, found: Found) -> str:
    """Until the child ends; kills it where it must, and says why."""
    open_ = True
    while open_ or child.is_alive():
        try:
            while ours.poll(_POLL):
                found.failures.append(ours.recv())
        except EOFError:
            open_ = False
        if not child.is_alive():
            break
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            rss = _resident_mb(child.pid)
            reading = shared[_BEGAN] > 0
            if reading:
                shared[_PEAK_MB] = max(shared[_PEAK_MB], rss - shared[_START_MB])
            since = time.monotonic() - (shared[_BEGAN] or started)
            if reading and rss - shared[_START_MB] > limits.megabytes:
                return _kill(child, "memory")
            if since > (limits.seconds if reading else _STARTING):
                return _kill(child, "hang" if reading else "no start")
        if not open_:
            time.sleep(_POLL)
    child.join()
    return ""


def _kill(child, why: str) -> str:
    child.kill()
    child.join()
    return why


def _exit_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _failure(reader: str, number: int, kind: str, error: str, content: bytes) -> dict:
    kept = content.hex() if len(content) < _HEX_BYTES else None
    return {
        "reader": reader,
        "input": number,
        "kind": kind,
        "error": error,
        "bytes": len(content),
        "hex": kept,
    }


def _read_all(asked: _Asked, first: int, directory: str, shared, pipe) -> None:
    """In the child."""
    from benchmarks.torture import readers

    os.chdir(directory)  # What a library leaves behind goes with the directory.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # Notes to users, tens of thousands of them.
    os.dup2(null, 2)
    limits, name = asked.limits, asked.reader
    reader = readers.READERS[name](directory, asked.run)
    for number in range(first, asked.end):
        shared[_NUMBER] = number
        content = input_of(reader, asked.seed, number)
        with open(os.path.join(directory, _CURRENT), "wb") as file:
            file.write(content)
        shared[_START_MB] = start = _resident_mb()
        if number > first and (start > _RECYCLED_MB or time.monotonic() > asked.deadline):
            shared[_NUMBER] = number - 1
            return
        highest = _highest_mb()
        shared[_BEGAN] = time.monotonic()
        kind, error = outcome(reader, content)
        began, shared[_BEGAN] = shared[_BEGAN], time.monotonic()
        shared[_LONGEST] = max(shared[_LONGEST], shared[_BEGAN] - began)
        if _highest_mb() > highest:  # Else an earlier input went higher.
            shared[_PEAK_MB] = max(shared[_PEAK_MB], _highest_mb() - start)
            if _highest_mb() - start > limits.megabytes and kind in ("read", "refused"):
                kind, error = "memory", f"{_highest_mb() - start:.0f} MB"
        shared[_READ] += kind == "read"
        shared[_REFUSED] += kind == "refused"
        if kind not in ("read", "refused"):
            pipe.send(_failure(name, number, kind, error, content))


def input_of(reader: Any, seed: int, number: int) -> bytes:
    """The same bytes for the same seed and number, whatever was read before."""
    return reader.make(random.Random(f"{seed}:{reader.name}:{number}"))


def outcome(reader: Any, content: bytes) -> tuple[str, str]:
    """(`read` or `refused`, empty), or the name of an error and where it came from."""
    from data.errors import InputError

    try:
        reader.read(content)
    except InputError as error:
        if len(str(error)) > 20:
            return "refused", ""
        return "refused without a reason", str(error)
    except BaseException as error:  # SystemExit too: a reader must not end a program.
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(
            f"{f.filename.split('site-packages/')[-1]}:{f.name}" for f in reversed(frames)
        )
        return type(error).__name__, f"{str(error)[:300]} [{places}]"
    return "read", ""


def _resident_mb(process: int | str = "self") -> float:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _highest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
