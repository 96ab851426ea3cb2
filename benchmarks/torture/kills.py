"""Fifty SIGKILLs at random moments of whole runs: what is left, and what comes out.

    python -m benchmarks.torture.kills --output=docs/results/reliability/kills.json

`iterate` on digits, by its script, is killed again and again until it ends; then the next
run begins, until there were enough kills. The moments are drawn in CPU seconds since the
run took its work_dir, so that other load does not shift them. Fails where a run ends with
an error, with other weights, pseudo-labels or summary than a run without kills, or leaves
a temporary file.
"""

import collections
import os
import random
import shutil
import subprocess
import tempfile
import time

from absl import flags

from benchmarks import results
from benchmarks.torture import small_run
from noisy_student import tables
from noisy_student.stages.lock import LOCK
from tpu_scripts import setting_flags

_KILLS = flags.DEFINE_integer("kills", 50, "In all.", lower_bound=1)
_LONGEST = flags.DEFINE_float(
    "longest", 30, "CPU seconds of work after which a process is killed at the latest."
)
_MINUTES = flags.DEFINE_float("minutes", 90, "No run begins after so many.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")


def main():
    began, draw = time.monotonic(), random.Random(_SEED.value)
    runs, kills, failures = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        whole = os.path.join(directory, "whole")
        unbroken = small_run.ended(small_run.iterate(whole))
        if unbroken.status:
            raise RuntimeError(unbroken.tail)
        expected = small_run.result(whole)
        end = began + 60 * _MINUTES.value
        while (left := _KILLS.value - len(kills)) > 0 and time.monotonic() < end:
            work_dir = os.path.join(directory, f"killed_{len(runs)}")
            of_run, problem = _killed_until_it_ends(work_dir, draw, left)
            kills += of_run
            if not problem and small_run.result(work_dir) != expected:
                problem = "another result than without kills"
            if orphans := small_run.orphans(work_dir):
                problem = f"{problem} left: {orphans}".strip()
            if problem:
                failures.append(f"run {len(runs)}: {problem}")
            runs.append({"kills": len(of_run), "problem": problem})
            shutil.rmtree(work_dir)
    if len(kills) < _KILLS.value:
        failures.append(
            f"Only {len(kills)} of {_KILLS.value} kills in {_MINUTES.value} min."
        )
    where = collections.Counter(kill["stage"] for kill in kills)
    rows = [[stage, str(count)] for stage, count in sorted(where.items())]
    rows += [["all kills", str(len(kills))], ["runs", str(len(runs))]]
    print(tables.markdown_table(["killed in", "times"], rows), *failures, sep="\n")
    found = {"runs": runs, "where": dict(sorted(where.items())), "kills": kills}
    given = results.settings(_KILLS, _LONGEST, _SEED)
    seconds = round(time.monotonic() - began)
    results.write(_OUTPUT.value, given, **found, seconds=seconds, failures=failures)
    if failures:
        raise SystemExit(1)


def _killed_until_it_ends(
    work_dir: str, draw: random.Random, most: int
) -> tuple[list[dict], str]:
    """The kills of a run, and what is wrong with its end; nothing if nothing is.

    After `most` kills the run is left to end.
    """
    kills: list[dict] = []
    while True:
        moment = draw.uniform(0, _LONGEST.value) if len(kills) < most else float("inf")
        log = f"{work_dir}.log"
        with open(log, "w") as file:
            process = subprocess.Popen(
                small_run.iterate(work_dir), stdout=file, stderr=subprocess.STDOUT
            )
        _wait(process, work_dir, moment)
        if process.poll() is None:
            process.kill()
            process.wait()
            kills.append({"cpu_s": round(moment, 2), "stage": _stage(work_dir)})
            print(f"kill {len(kills)}: {kills[-1]}", flush=True)
            continue
        if process.returncode:
            with open(log) as file:
                return kills, f"status {process.returncode}: {file.read()[-800:]}"
        return kills, ""


def _wait(process: subprocess.Popen, work_dir: str, moment: float) -> None:
    """Until the process has worked for `moment` CPU seconds, or has ended.

    Its work begins when it takes the work_dir: imports come before.
    """
    lock, begin = os.path.join(work_dir, LOCK), None
    before = _modified(lock)
    while process.poll() is None:
        now = small_run.cpu_seconds(process.pid)
        if begin is None and _modified(lock) != before:
            begin = now
        if begin is not None and now - begin >= moment:
            return
        time.sleep(0.01)


def _modified(path: str) -> int:
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0


def _stage(work_dir: str) -> str:
    """The stage that was under way: the last one that wrote."""
    newest = max(
        (
            os.path.join(folder, name)
            for folder, _, names in os.walk(work_dir)
            for name in names
        ),
        key=_modified,
        default=work_dir,
    )
    parts = os.path.relpath(os.path.dirname(newest), work_dir).split(os.sep)
    return "/".join(parts[:2])


if __name__ == "__main__":
    setting_flags.run(main)
