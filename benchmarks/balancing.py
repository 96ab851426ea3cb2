"""Time and memory of choosing among many predictions.

    python -m benchmarks.balancing --predictions=300e6 --classes=1000 \\
        --work_dir=runs/balancing --output=docs/results/balancing.json

The index of predictions is made up, in shards, and kept for the next time: uneven
classes (log-normal, the largest a thousand times the smallest), confidences of which
3.5 % are so high that they round to 1. Measured is all that `balance` does before it
reads an image: the checks and the choice. Each number of predictions has a process of
its own; memory is its peak, and that of its largest child.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import flags

from benchmarks import results
from data import files
from noisy_student.balancing import choosing
from noisy_student.balancing.beam_runner import RUNNERS, BeamRunner
from noisy_student.balancing.checking import check_predictions
from noisy_student.balancing.selection import Rule
from noisy_student.config import SelectionConfig
from noisy_student.labeling.predictions import index_facts, index_path, write_table
from noisy_student.stages.progress import Progress
from tpu_scripts import setting_flags

_PREDICTIONS = flags.DEFINE_list("predictions", ["10e6"], "How many; several: a table.")
_CLASSES = flags.DEFINE_integer("classes", 1000, "How many.")
_PER_CLASS = flags.DEFINE_float(
    "images_per_class_share", 130e6 / 300e6, "Images per class · classes / predictions."
)
_SHARD = flags.DEFINE_integer("shard_size", 300_000, "Predictions in a shard.")
_WORK_DIR = flags.DEFINE_string("work_dir", None, "For the made-up index.", required=True)
_SELECTION = flags.DEFINE_string("selection", "top_k", "The rule.")
_RUNNER = flags.DEFINE_enum("runner", "direct", RUNNERS, "Of Beam.")
_BEAM_OPTIONS = flags.DEFINE_multi_string("beam_options", [], "Of the runner.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")
_PLOT = flags.DEFINE_string("plot", "", "PNG file to draw; empty: none.")
_MEASURE = flags.DEFINE_integer("measure", 0, "Measure this many, for the table.")


def main():
    if _MEASURE.value:
        print(json.dumps(measure(_MEASURE.value)))
        return
    rows = []
    for predictions in (int(float(text)) for text in _PREDICTIONS.value):
        make_index(predictions)
        arguments = [sys.executable, "-m", "benchmarks.balancing", *sys.argv[1:]]
        arguments.append(f"--measure={predictions}")
        out = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(out.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    settings = results.settings(_CLASSES, _PER_CLASS, _SHARD, _SELECTION, _RUNNER)
    results.write(_OUTPUT.value, settings, rows=rows)
    if _PLOT.value:
        plot(rows, _PLOT.value)


def plot(rows: list[dict], path: str) -> None:
    """Processor time and memory over the number of predictions."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    millions = [row["predictions"] / 1e6 for row in rows]
    for name in ("checks", "choice"):
        seconds = [row[name]["cpu_seconds"] for row in rows]
        axes[0].plot(millions, seconds, "o-", label=name)
    axes[0].set(ylabel="processor time (s)", ylim=(0, None))
    axes[0].legend()
    axes[1].plot(millions, [row["peak_gib"] for row in rows], "o-")
    axes[1].set(ylabel="peak memory (GiB)", ylim=(0, 4))
    for each in axes:
        each.set_xlabel("million predictions")
        each.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def make_index(predictions: int) -> None:
    """Writes what is missing of the made-up index."""
    paths = shard_paths(predictions)
    weights = np.exp(np.random.default_rng(0).normal(0, 1, _CLASSES.value))
    progress = Progress(f"index of {predictions:,}", len(paths), unit="shards")
    for shard, path in enumerate(paths):
        if not os.path.exists(index_path(path)):
            write_table(index_path(path), _shard(shard, predictions, weights))
        if not os.path.exists(path):
            files.write_json(_facts_path(path), _facts(path))
            open(path, "wb").close()  # No probabilities: nothing here reads them.
        progress.update(shard + 1)
    progress.finish()


def _facts_path(path: str) -> str:
    return f"{path}.json"


def _facts(path: str) -> dict:
    """What labeling's manifest would say of a shard."""
    return {"records": _SHARD.value, "bytes": 0, **index_facts(path)}


def shard_paths(predictions: int) -> list[str]:
    count = -(-predictions // _SHARD.value)
    # Shards are the same for any number of predictions: small tables reuse them.
    return [
        os.path.join(_WORK_DIR.value, f"predictions-{shard:05d}.tfrecord")
        for shard in range(count)
    ]


def _shard(number: int, predictions: int, weights) -> pa.Table:
    del predictions
    size = _SHARD.value
    generator = np.random.default_rng([1, number])
    labels = generator.choice(len(weights), size, p=weights / weights.sum())
    # Logits' margins: 3.5 % are so sure that float32 rounds to 1.
    margins = generator.normal(4, 7, size).astype(np.float32)
    confidences = 1 / (1 + np.exp(-margins)) * (1 - 1 / len(weights)) + 1 / len(weights)
    first = number * size
    numbers = np.arange(first, first + size, dtype=np.uint64)
    ids = pc.binary_join_element_wise(
        pa.scalar(f"web-{number:05d}/"), pc.cast(pa.array(numbers), pa.string()), ""
    )
    return pa.table(
        {
            "id": pc.cast(ids, pa.binary()),
            # A bijection, so that all differ, as hashes of ids do.
            "id_hash": pa.array(_scrambled(numbers)),
            "label": pa.array(labels.astype(np.int32)),
            "confidence": pa.array(np.minimum(confidences, 1).astype(np.float32)),
        }
    )


def _scrambled(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def measure(predictions: int) -> dict:
    """Seconds, CPU-seconds and peak memory of the checks and of the choice."""
    paths = shard_paths(predictions)
    per_class = int(predictions * _PER_CLASS.value / _CLASSES.value)
    settings = SelectionConfig(selection=_SELECTION.value)
    rule = Rule(settings, per_class, _CLASSES.value, 0, np.zeros(0, np.uint64))
    runner = BeamRunner(_RUNNER.value, tuple(_BEAM_OPTIONS.value))
    row = {"predictions": predictions, "shards": len(paths)}
    facts = {path: files.read_json(_facts_path(path)) for path in paths}
    with _timed(row, "checks"):
        check_predictions(facts, _CLASSES.value, runner, _WORK_DIR.value)
    with _timed(row, "choice"):
        chosen = choosing.choose(
            choosing.Shards(paths, predictions, runner, _WORK_DIR.value), rule
        )
    own, children = (
        resource.getrusage(who).ru_maxrss / 2**20
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    row |= {"peak_gib": round(own, 2), "peak_gib_of_a_child": round(children, 2)}
    row["eligible"] = int(chosen.eligible.sum())
    row["classes_short"] = int((chosen.eligible < per_class).sum())
    return row


@contextlib.contextmanager
def _timed(row: dict, name: str):
    began, cpu = time.monotonic(), _cpu()
    yield
    row[name] = {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(_cpu() - cpu, 1),
    }


def _cpu() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    setting_flags.run(main)
