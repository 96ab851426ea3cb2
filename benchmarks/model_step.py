"""Time of a training step and of inference, beside other implementations.

    python -m benchmarks.model_step --output=docs/results/model_step.json

Every contestant lives in a process of its own, so that thread pools and
allocators do not mix. They take turns: a round is some steps of each, training
and then inference. What counts is the processor time of all threads, which other
load on the machine changes least. See `benchmarks.contestants` for what a step is.

All TensorFlow contestants run with oneDNN, and without if TF_ENABLE_ONEDNN_OPTS=0.
"""

import json
import os
import statistics
import subprocess
import sys

from absl import flags

from benchmarks import contestants, results
from noisy_student import tables
from tpu_scripts import setting_flags

_VARIANT = flags.DEFINE_string("variant", "efficientnet-b0", "The network.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the images, in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "How often each contestant's turn comes.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps a turn.")
_CONTESTANTS = flags.DEFINE_list(
    "contestants", list(contestants.CONTESTANTS), "Which ones; ratios are to the first."
)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

MODES = {"train": "Training step", "infer": "Inference"}
_WARM_UP_STEPS = 2


def main():
    workers = {name: Worker(name) for name in _CONTESTANTS.value}
    turns = {name: {mode: [] for mode in MODES} for name in workers}
    for mode in MODES:
        for worker in workers.values():
            worker.run(mode, _WARM_UP_STEPS)
        for _ in range(_ROUNDS.value):
            for name, worker in workers.items():
                turns[name][mode].append(worker.run(mode, _STEPS.value))
    missing = {name: w.missing for name, w in workers.items() if w.missing}
    measured = {name: each for name, each in turns.items() if name not in missing}
    found = {
        mode: {name: summary(each[mode]) for name, each in measured.items()}
        for mode in MODES
    }
    for mode, title in MODES.items():
        print(f"{title}, ms\n\n{as_markdown(found[mode], missing)}\n")
    settings = results.settings(_VARIANT, _IMAGE_SIZE, _BATCH_SIZE, _ROUNDS, _STEPS)
    settings["onednn"] = os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
    results.write(_OUTPUT.value, settings, **found, missing=missing)


class Worker:
    """A process with one contestant."""

    def __init__(self, name: str):
        setting = (_VARIANT.value, str(_IMAGE_SIZE.value), str(_BATCH_SIZE.value))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contestants", name, *setting],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.missing = self._answer().get("missing")

    def run(self, mode: str, steps: int) -> dict[str, float]:
        """Milliseconds a step, see `contestants.measure`; {} if it is missing."""
        if self.missing:
            return {}
        self._process.stdin.write(f"{mode} {steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A contestant ended: {self._process.args}")
        return json.loads(line)


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """The least and the median processor time over turns, and its parts."""
    totals = [turn["user"] + turn["sys"] for turn in turns]
    medians = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    found = {"cpu_min": min(totals), "cpu_median": statistics.median(totals), **medians}
    return {name: round(value, 1) for name, value in found.items()}


def as_markdown(rows: dict[str, dict], missing: dict[str, str]) -> str:
    """A table; the last two columns say how long the first takes, each being 1."""
    header = ["", "CPU min", "CPU median", "user", "sys", "wall"]
    header += ["first / this, min", "median"]
    first, lines = next(iter(rows.values()), None), []
    for name, row in rows.items():
        cells = [f"{value:.0f}" for value in row.values()]
        cells += [f"{first[key] / row[key]:.2f}" for key in ("cpu_min", "cpu_median")]
        lines.append([name, *cells])
    lines += [[name, f"not there: {reason}"] for name, reason in missing.items()]
    return tables.markdown_table(header, lines)


if __name__ == "__main__":
    setting_flags.run(main)
