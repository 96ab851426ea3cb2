"""A disk that is full, that cannot be written to, whose files vanish; and two runs at once.

    python -m benchmarks.torture.disk --output=docs/results/reliability/disk.json

Needs to mount a tmpfs: root, or `unshare --map-root-user --mount` before the command. A
small `iterate` on digits, by its script, as a process:

- on a disk that is enlarged a little each time it is full: every end must be one message,
  and the last one the result of a run that nothing happened to;
- on a disk that can only be read: refused before any work;
- with a file taken away, cut off or exchanged between two stages: the same result, or one
  message that names the file;
- twice at the same time: the second is refused with the first one's process.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from absl import flags

from benchmarks import results
from benchmarks.torture import small_run
from noisy_student import tables
from tpu_scripts import setting_flags

_ENLARGEMENTS = flags.DEFINE_integer(
    "enlargements", 12, "Of the disk, until the whole run has room.", lower_bound=2
)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_FULL = r"expected room for .*No space left on device.*run the same command again"


def main():
    began, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as directory:
        whole = f"{directory}/whole"
        _check(small_run.ended(small_run.iterate(whole)))
        expected = small_run.result(whole)
        parts = {
            "full disk": lambda: _full_disk(directory, whole, expected),
            "read-only disk": lambda: _read_only(directory, whole),
            "files between stages": lambda: _tampered(directory, whole, expected),
            "two runs": lambda: _two_runs(directory, expected),
        }
        for name, part in parts.items():
            found[name] = part()
            print(f"{name}: {found[name]}", flush=True)
    failures = [
        f"{name}: {text}" for name, row in found.items() for text in row["failures"]
    ]
    rows = [
        [name, str(row["cases"]), str(len(row["failures"]))] for name, row in found.items()
    ]
    print(tables.markdown_table(["part", "cases", "failures"], rows), *failures, sep="\n")
    given = results.settings(_ENLARGEMENTS)
    seconds = round(time.monotonic() - began)
    results.write(_OUTPUT.value, given, parts=found, seconds=seconds, failures=failures)
    if failures:
        raise SystemExit(1)


def _check(run: small_run.Ended) -> None:
    if run.status:
        raise RuntimeError(f"A run that nothing happened to ended with {run}.")


@contextlib.contextmanager
def _disk(directory: str, kilobytes: int) -> Iterator[str]:
    path = os.path.join(directory, "disk")
    os.makedirs(path)
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", path)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        os.rmdir(path)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _full_disk(directory: str, whole: str, expected: dict) -> dict:
    needed = _kilobytes(whole)
    step = needed // _ENLARGEMENTS.value
    failures, messages, size = [], [], step
    with _disk(directory, size) as disk:
        while True:
            run = small_run.ended(small_run.iterate(f"{disk}/run"))
            if not run.status:
                break
            message = run.text[run.text.rfind("Error: ") :].strip()
            messages.append(f"{size} kB: {_what(message)}")
            print(messages[-1], flush=True)
            if not run.refused(_FULL):
                failures.append(f"at {size} kB, status {run.status}: {run.tail}")
            size += step
            if size > 4 * needed:
                return {
                    "cases": len(messages),
                    "messages": messages,
                    "failures": [*failures, "It never came to its end."],
                }
            _mount("-o", f"remount,size={size}k", disk)
        if small_run.result(f"{disk}/run") != expected:
            failures.append("The result is another one than without a full disk.")
        failures += [f"left: {name}" for name in small_run.orphans(f"{disk}/run")]
    return {"cases": len(messages), "messages": messages, "failures": failures}


def _what(message: str) -> str:
    match = re.search(r"expected room for (.*?); received", message)
    return match[1] if match else message[:120]


def _kilobytes(directory: str) -> int:
    sizes = (
        os.stat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(directory)
        for name in names
    )
    return sum(size // 4096 * 4 + 4 for size in sizes)


def _read_only(directory: str, whole: str) -> dict:
    failures = []
    with _disk(directory, 2 * _kilobytes(whole)) as disk:
        shutil.copytree(
            whole, f"{disk}/begun", ignore=shutil.ignore_patterns("summary.json")
        )
        _mount("-o", "remount,ro", disk)
        for name in ("new", "begun"):
            run = small_run.ended(small_run.iterate(f"{disk}/{name}"))
            pattern = f"{name}: expected a directory that can be written to; .*Read-only"
            if not run.refused(pattern) or "steps" in run.text:
                failures.append(f"{name}: status {run.status}: {run.tail}")
    return {"cases": 2, "failures": failures}


def _tampered(directory: str, whole: str, expected: dict) -> dict:
    """Cases by what is done to which file; the student and the summary are to be made."""
    student = "generation_1/student"
    last = "-00003-of-00004.tfrecord"
    cases = {
        f"gone: data/labeled/labeled{last}": _remove,
        f"gone: data/unlabeled/unlabeled{last}": _remove,
        "gone: data/unlabeled/manifest.json": _remove,
        "gone: data": _remove,
        "gone: generation_0/teacher": _remove,
        "gone: generation_0/teacher/model.keras": _remove,
        "gone: generation_0/teacher/manifest.json": _remove,
        f"gone: generation_1/predictions/unlabeled{last}": _remove,
        "gone: generation_1/predictions/manifest.json": _remove,
        f"gone: generation_1/balanced/unlabeled{last}": _remove,
        "gone: generation_1/balanced/manifest.json": _remove,
        f"cut off: data/labeled/labeled{last}": _cut_off,
        f"cut off: generation_1/predictions/unlabeled{last}": _cut_off,
        f"cut off: generation_1/balanced/unlabeled{last}": _cut_off,
        "cut off: generation_0/teacher/model.keras": _cut_off,
        "cut off: generation_1/balanced/manifest.json": _cut_off,
        "cut off: config.json": _cut_off,
        f"damaged: generation_1/balanced/unlabeled{last}": _damage,
        f"damaged: data/labeled/labeled{last}": _damage,
    }
    failures, outcomes = [], {}
    for case, change in cases.items():
        work_dir = os.path.join(directory, "changed")
        shutil.copytree(whole, work_dir)
        for made in (student, "summary.json", "export", "report"):
            _remove(os.path.join(work_dir, made))
        path = case.split(": ")[1]
        change(os.path.join(work_dir, path))
        run = small_run.ended(small_run.iterate(work_dir))
        if not run.status:
            outcomes[case] = "made again"
            if small_run.result(work_dir) != expected:
                failures.append(f"{case}: another result, without a word")
        else:
            outcomes[case] = "refused"
            named = os.path.basename(path).split("-of-")[0]
            if not (run.refused(re.escape(named)) or _found(run.text, named)):
                failures.append(f"{case}: status {run.status}: {run.tail}")
        print(f"{case}: {outcomes[case]}", flush=True)
        shutil.rmtree(work_dir)
    return {"cases": len(cases), "outcomes": outcomes, "failures": failures}


def _found(message: str, named: str) -> bool:
    """Whether the command that a message tells to look for damage with names the file."""
    told = re.search(r"tpu_scripts\.lineage --model=(\S+) --verify_files`", message)
    if not told:
        return False
    verify = small_run.command("lineage", f"--model={told[1]}", "--verify_files")
    return small_run.ended(verify).refused(re.escape(named))


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def _cut_off(path: str) -> None:
    os.truncate(path, os.path.getsize(path) * 2 // 3)


def _damage(path: str) -> None:
    """One bit in the middle: name, size and both ends are as they were."""
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _two_runs(directory: str, expected: dict) -> dict:
    work_dir, failures = os.path.join(directory, "twice"), []
    with subprocess.Popen(
        small_run.iterate(work_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        while first.poll() is None and not os.path.exists(f"{work_dir}/running.json"):
            time.sleep(0.05)
        second = small_run.ended(small_run.iterate(work_dir))
        if not second.refused(rf"no other process writes to; process {first.pid} on "):
            failures.append(f"the second: status {second.status}: {second.tail}")
        if first.poll() is not None:
            failures.append("The first one ended before the second was asked.")
    if first.returncode or small_run.result(work_dir) != expected:
        failures.append(f"the first: status {first.returncode}, or another result")
    return {"cases": 1, "failures": failures}


if __name__ == "__main__":
    setting_flags.run(main)
