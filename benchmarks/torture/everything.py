"""All parts of the torture, one after the other, and their counts in a page.

    python -m benchmarks.torture.everything        (or: make torture)

Each part is a module here, bounded in time, and runs alone too. The two hours of training
go on beside the others. What a part finds lies in `docs/results/reliability/PART.json`;
`docs/results/reliability.md` has a row for each. Fails where a part failed.
"""

import os
import subprocess
import sys
from collections.abc import Callable

from absl import flags

from data import files
from noisy_student import tables
from tpu_scripts import setting_flags

_RESULTS = flags.DEFINE_string("results", "docs/results/reliability", "Of the JSON files.")
_PAGE = flags.DEFINE_string("page", "docs/results/reliability.md", "Of the table.")
_LIST = flags.DEFINE_list("parts", [], "Names of parts to run; empty: all.")
_ONLY_PAGE = flags.DEFINE_bool("only_page", False, "Make the table of what lies there.")

_BESIDE = "long_training"


def _of_long_training(found: dict) -> str:
    hours = found["settings"]["minutes"] / 60
    return (
        f"{hours:g} h, {found['steps']:,} steps, {found['evaluations']} evaluations: "
        f"memory {100 * found['growth']:+.1f} % ({found['memory_mib_an_hour']:+.1f} MiB "
        f"an hour), at most {found['most_checkpoints']} checkpoints, "
        f"{found['summary_files']} file of summaries"
    )


def _of_input_steps(found: dict) -> str:
    first, last = found["steps_a_cpu_second"]
    return (
        f"{found['steps']:,} steps: {found['mib_in_100000_steps']:+.1f} MiB; {first} steps "
        f"a CPU second at first, {last} at last"
    )


# What was done, in words, of each part's results.
_PARTS: dict[str, Callable[[dict], str]] = {
    "names": lambda found: (
        f"{found['settings']['class_names']} names of classes, "
        f"{found['settings']['file_names']} of files, {len(found['scripts'])} scripts"
    ),
    "bad_bytes": lambda found: (
        f"{found['inputs']:,} damaged files read by {len(found['readers'])} readers"
    ),
    "guided": lambda found: (
        f"{found['inputs']:,} inputs guided by coverage, {len(found['readers'])} readers"
    ),
    "kills": lambda found: f"{len(found['kills'])} SIGKILLs of {len(found['runs'])} run(s)",
    "workers": lambda found: f"{len(found['tests'])} tests of killed workers",
    "disk": lambda found: ", ".join(
        f"{part['cases']} × {name}" for name, part in found["parts"].items()
    ),
    "failing_storage": lambda found: ", ".join(
        f"{name}: {row['errors']} errors" for name, row in found["stages"].items()
    ),
    "input_steps": _of_input_steps,
    _BESIDE: _of_long_training,
    "determinism": lambda found: (
        f"{len(found['differs'])} comparisons of {found['files']} files"
    ),
}


def main():
    parts = _LIST.value or list(_PARTS)
    ended = {}
    if not _ONLY_PAGE.value:
        beside = _started(_BESIDE) if _BESIDE in parts else None
        for name in parts:
            if name != _BESIDE:
                ended[name] = _started(name).wait()
        if beside:
            ended[_BESIDE] = beside.wait()
    rows = [_row(name) for name in _PARTS]
    table = tables.markdown_table(["part", "what was done", "failures", "minutes"], rows)
    tables.replace_marked(_PAGE.value, table)
    print(table)
    failed = [name for name, status in ended.items() if status]
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}")


def _started(name: str) -> subprocess.Popen:
    print(f"=== {name}", flush=True)
    path = os.path.join(_RESULTS.value, f"{name}.json")
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.torture.{name}", f"--output={path}"]
    )


def _row(name: str) -> list[str]:
    path = os.path.join(_RESULTS.value, f"{name}.json")
    if not os.path.exists(path):
        return [f"`{name}`", "not run", "", ""]
    found = files.read_json(path)
    failures = found["failures"]
    minutes = f"{found['seconds'] / 60:.0f}" if "seconds" in found else ""
    return [f"`{name}`", _PARTS[name](found), str(len(failures)), minutes]


if __name__ == "__main__":
    setting_flags.run(main)
