"""Stages as processes that can be killed, and what they leave in their directories."""

import contextlib
import json
import os
import subprocess
import sys
import time

from benchmarks.torture.small_run import cpu_seconds
from data import files
from noisy_student.stages.manifest import MANIFEST
from noisy_student.training import checkpoints
from noisy_student.training.history import HISTORY

# By its output directory the script of each stage; a later one reads earlier ones.
STAGES = {
    "teacher": "train",
    "predictions": "label",
    "balanced": "balance",
    "student": "train",
    "fixres": "fixres",
}
STEPS_PER_LOOP = 2
LOOP = (
    "--duration=70 steps",
    f"--steps_per_loop={STEPS_PER_LOOP}",
    "--checkpoint_interval=4 steps",
)
NETWORK = (
    "--width=0.1",
    "--depth=0.1",
    "--batch_size=20",
    "--warmup=4 steps",
    "--base_learning_rate=0.32",
)


def command(name: str, data: str, chain: str) -> list[str]:
    """Of the stage that writes `chain/name`."""
    labeled = f"--labeled_data=tfrecord:{data}/labeled"
    unlabeled = f"--unlabeled_data=tfrecord:{data}/unlabeled"
    predictions = f"--predictions={chain}/predictions"
    balanced = f"--pseudo_labeled_data={chain}/balanced"
    flags = {
        "teacher": ["--role=teacher", labeled, *NETWORK, *LOOP],
        "predictions": [f"--model={chain}/teacher", unlabeled],
        "balanced": [unlabeled, predictions, "--min_confidence=0.05"],
        "student": [
            *("--role=student", labeled, balanced, "--unlabeled_ratio=2"),
            *(*NETWORK, *LOOP),
        ],
        "fixres": [f"--model={chain}/student", labeled, "--image_size=20", *LOOP],
    }
    script = f"tpu_scripts.{STAGES[name]}"
    return [sys.executable, "-m", script, f"--output_dir={chain}/{name}", *flags[name]]


class StageProcess:
    """A stage in a process of its own; made once its work has begun.

    Its work begins, after all imports, with its first change in its directory.
    """

    def __init__(self, name: str, data: str, chain: str):
        self.directory = os.path.join(chain, name)
        self._log = f"{self.directory}.log"
        before = self._changed()
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                command(name, data, chain), stdout=log, stderr=subprocess.STDOUT
            )
        while self.is_alive() and self._changed() == before:
            time.sleep(0.002)
        self._seconds = self._begin = 0.0
        self._begin = self.worked()

    def _changed(self) -> int:
        there = os.path.isdir(self.directory)
        return os.stat(self.directory).st_mtime_ns if there else 0

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def worked(self) -> float:
        """Seconds of CPU since its work began: other load does not stretch them."""
        self._seconds = cpu_seconds(self._process.pid) or self._seconds
        return self._seconds - self._begin

    def kill(self) -> bool:
        """Sends SIGKILL; whether there was a process to be killed."""
        alive = self.is_alive()
        self._process.kill()
        self._process.wait()
        assert alive or self._process.returncode == 0, self._printed()
        return alive

    def finish(self) -> None:
        assert self._process.wait(timeout=300) == 0, self._printed()

    def _printed(self) -> str:
        with open(self._log) as log:
            return log.read()[-3000:]


class Found:
    """What a kill left finished, to compare with what the next process does.

    Attributes:
        pieces: `finished_pieces`.
        step: Of the checkpoint to go on from; 0 if there is none.
    """

    def __init__(self, directory: str):
        self._directory = directory
        self._reported = _steps_reported(directory)
        self.pieces = finished_pieces(directory)
        self.step = _newest_step(directory)

    def __str__(self):
        steps = f"{self._reported[-1]} steps, " if self._reported else ""
        saved = f", the newest of step {self.step}" if self.step else ""
        return f"{steps}{len(self.pieces)} finished pieces{saved}"

    def assert_continued(self) -> None:
        """The next process did no finished shard again, nor a step before `step`."""
        steps = _steps_reported(self._directory)[len(self._reported) :]
        assert not steps or steps[0] == self.step + STEPS_PER_LOOP
        for path, written in self.pieces.items():
            if path.endswith(".tfrecord"):
                assert os.stat(path).st_mtime_ns == written, path


def finished_pieces(directory: str) -> dict[str, int]:
    """Shards and checkpoints that are whole, and when they were written."""
    shards = os.path.join(directory, "finished_shards")
    saved = os.path.join(directory, checkpoints.CHECKPOINTS)
    notes = [name for name in listed(shards) if files.TEMPORARY_SUFFIX not in name]
    paths = [os.path.join(directory, name.removesuffix(".json")) for name in notes]
    paths += [os.path.join(saved, n) for n in listed(saved) if n.endswith(".index")]
    return {path: os.stat(path).st_mtime_ns for path in paths}


def listed(directory: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):  # A process may just be removing it.
        return os.listdir(directory)
    return []


def read_any_manifest(directory: str) -> dict:
    """That of an unfinished stage too; empty where the stage has none yet."""
    path = os.path.join(directory, MANIFEST)
    return files.read_json(path) if os.path.exists(path) else {}


def is_complete(directory: str) -> bool:
    return read_any_manifest(directory).get("complete", False)


def _newest_step(directory: str) -> int:
    newest, _ = checkpoints.newest_whole(os.path.join(directory, checkpoints.CHECKPOINTS))
    return int(newest.rsplit("-", 1)[-1]) if newest else 0


def _steps_reported(directory: str) -> list[int]:
    """The steps of `history.jsonl` in the order of writing, repeated ones too."""
    path, steps = os.path.join(directory, HISTORY), []
    if os.path.exists(path):
        with open(path) as lines:
            for line in lines:
                with contextlib.suppress(json.JSONDecodeError):  # Cut off by a kill.
                    steps.append(json.loads(line)["step"])
    return steps
