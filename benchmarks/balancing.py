"""Time and memory of choosing among many predictions.

    python -m benchmarks.balancing --predictions=300e6 --classes=1000 \\
        --work_dir=runs/balancing --output=docs/results/balancing.json

The index of predictions is made up, in shards, and kept for the next time: classes as
uneven as a teacher's on web images (log-normal, the largest some hundred times the
smallest), confidences of which a part is so high that it rounds to 1. Then
everything is measured that `balance` does before it reads an image: all checks and
the choice. Each number is of a process of its own; memory is its peak, and that of
its largest child.
"""

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import flags

from data import files
from noisy_student import choosing
from noisy_student.beam_runner import RUNNERS, BeamRunner
from noisy_student.config import SelectionConfig
from noisy_student.predictions import index_path, write_table
from noisy_student.progress import Progress
from noisy_student.selection import Rule
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
    if _OUTPUT.value:
        files.write_json(_OUTPUT.value, {"classes": _CLASSES.value, "rows": rows})


def make_index(predictions: int) -> list[str]:
    """Writes what is missing of the made-up index; returns its shards' paths."""
    paths = shard_paths(predictions)
    weights = np.exp(np.random.default_rng(0).normal(0, 1, _CLASSES.value))
    progress = Progress(f"index of {predictions:,}", len(paths), unit="shards")
    for shard, path in enumerate(paths):
        if not os.path.exists(index_path(path)):
            write_table(index_path(path), _shard(shard, predictions, weights))
        progress.update(shard + 1)
    progress.finish()
    return paths


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
    # Logits' margins: a fifth is so sure that float32 rounds to 1.
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
    output = os.path.join(_WORK_DIR.value, "selection.json")
    began, cpu = time.monotonic(), _cpu()
    chosen = choosing.choose(paths, predictions, rule, runner, output)
    row["choice"] = {"seconds": time.monotonic() - began, "cpu_seconds": _cpu() - cpu}
    own, children = (
        resource.getrusage(who).ru_maxrss / 2**20
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    row |= {"peak_gib": own, "peak_gib_of_a_child": children}
    row["eligible"] = int(chosen.eligible.sum())
    row["classes_short"] = int((chosen.eligible < per_class).sum())
    return row


def _cpu() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    setting_flags.run(main)
