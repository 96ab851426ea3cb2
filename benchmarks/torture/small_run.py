"""A whole run of `iterate` on digits that is over in a minute, as a user would start it."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys

from data import files

# 60 labeled images and 1,200 unlabeled ones; networks of some thousand weights.
SETTINGS = (
    "--recipe=digits",
    "--labels_per_class=6",
    "--num_shards=4",
    "--generations=1",
    "--nocontrol",
    "--min_confidence=0.05",
    "--steps_per_loop=5",
    "--checkpoint_interval=20 steps",
    *(
        f"--{role}_{setting}"
        for role in ("teacher", "student")
        for setting in ("width=0.1", "depth=0.1", "batch_size=20", "duration=60 steps")
    ),
)
_ORPHAN = re.compile(r"\.incomplete|_temp|\.writable|finished_shards|running\.json")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a script ended.

    Attributes:
        status: Of its process; below 0: by this signal.
        text: What it printed and its errors.
    """

    status: int
    text: str

    def refused(self, pattern: str) -> bool:
        """Whether it ended with one message, which fits a regular expression."""
        said = self.text[self.text.rfind("Error: ") :]
        return self.status == 1 and bool(re.search(pattern, said, re.DOTALL))

    @property
    def tail(self) -> str:
        """The end of what it printed, for a list of failures."""
        return self.text.strip()[-500:]


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tpu_scripts.{script}", *arguments]


def iterate(work_dir: str) -> list[str]:
    """The command of the whole run."""
    return command("iterate", f"--work_dir={work_dir}", *SETTINGS)


def ended(command: list[str], environment: dict[str, str] | None = None) -> Ended:
    """Runs a command to its end."""
    run = subprocess.run(
        command,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **(environment or {})},
    )
    text = (run.stdout + run.stderr).decode("utf-8", "backslashreplace")
    return Ended(run.returncode, text)


def result(work_dir: str) -> dict:
    """What equal runs agree on: the summary, and of each stage shards and weights."""
    with open(os.path.join(work_dir, "summary.json")) as file:
        summary = json.load(file)
    summary["timing"] = None
    stages = {}
    for folder, _, names in os.walk(work_dir):
        if "manifest.json" in names:
            manifest = files.read_json(os.path.join(folder, "manifest.json"))
            name = os.path.relpath(folder, work_dir)
            stages[name] = {key: manifest[key] for key in ("identity", "shards", "results")}
    return {"summary": summary, "stages": stages}


def orphans(work_dir: str) -> list[str]:
    """Temporary files that nobody writes any more."""
    found = []
    for folder, directories, names in os.walk(work_dir):
        for name in [*directories, *names]:
            if _ORPHAN.search(name):
                found.append(os.path.relpath(os.path.join(folder, name), work_dir))
    return found


def cpu_seconds(process: int) -> float:
    """Of a process by its number, all threads; 0 where it is no more."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()  # From the third on: proc(5).
        ticks = int(fields[11]) + int(fields[12])  # utime, stime
        return ticks / os.sysconf("SC_CLK_TCK")
    return 0.0
