"""A hundred thousand steps of the input pipeline: does memory stay what it is?

    python -m benchmarks.torture.input_steps \\
        --output=docs/results/reliability/input_steps.json

Labeled and pseudo-labeled batches of a training, decoded and augmented, some thousands of
epochs of them, without a network. Fails where memory grows.
"""

import os
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks import results
from noisy_student import tables
from tpu_scripts import setting_flags

_STEPS = flags.DEFINE_integer("steps", 100_000, "Batches of each stream.", lower_bound=100)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images in a batch.", lower_bound=1)
_MINUTES = flags.DEFINE_float("minutes", 60, "Stops after the step that exceeds it.")
_LOOKS = flags.DEFINE_integer("looks", 200, "At the memory.", lower_bound=10)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_WARM_UP = 0.15  # Part of the steps that does not count.
_MOST_GROWTH = 0.05  # Of the memory, over the steps that count.


def main():
    with tempfile.TemporaryDirectory() as directory:
        looks = _looks(_batches(directory))
    found = summary(looks)
    print(tables.markdown_table(["", "found"], [[k, str(v)] for k, v in found.items()]))
    failures = []
    if found["growth"] > _MOST_GROWTH:
        failures.append(f"Memory grew by {found['growth']:.1%}.")
    if found["steps"] < _STEPS.value:
        failures.append(f"Only {found['steps']} steps in {_MINUTES.value:g} minutes.")
    given = results.settings(_STEPS, _BATCH_SIZE, _MINUTES)
    results.write(_OUTPUT.value, given, **found, failures=failures, looks=looks)
    if failures:
        raise SystemExit("\n".join(failures))


def summary(looks: list[dict]) -> dict:
    counted = looks[int(len(looks) * _WARM_UP) :]
    steps = np.array([look["step"] for look in counted], float)
    memory = np.array([look["memory_mib"] for look in counted])
    slope = float(np.polyfit(steps, memory, 1)[0])
    growth = slope * (steps[-1] - steps[0]) / float(np.median(memory))
    half = len(counted) // 2
    return {
        "steps": looks[-1]["step"],
        "memory_mib": float(np.median(memory)),
        "mib_in_100000_steps": round(slope * 1e5, 2),
        "growth": round(growth, 4),
        "steps_a_cpu_second": [_speed(counted[: half + 1]), _speed(counted[half:])],
    }


def _speed(looks: list[dict]) -> float:
    first, last = looks[0], looks[-1]
    return round((last["step"] - first["step"]) / (last["cpu_s"] - first["cpu_s"]), 1)


def _looks(batches) -> list[dict]:
    looks, began, every = [], time.monotonic(), max(_STEPS.value // _LOOKS.value, 1)
    for step, _ in enumerate(batches, 1):
        if step % every and step != _STEPS.value:
            continue
        looks.append(
            {"step": step, "memory_mib": _memory_mib(), "cpu_s": sum(os.times()[:2])}
        )
        minutes = (time.monotonic() - began) / 60
        if len(looks) % 10 == 0:
            print(f"{step:,}/{_STEPS.value:,} steps, {minutes:.1f} minutes", flush=True)
        if step == _STEPS.value or minutes > _MINUTES.value:
            return looks
    raise AssertionError("The stream ended.")


def _memory_mib() -> float:
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmRSS"].split()[0]) / 1024


def _batches(directory: str):
    """What `training_data` reads, of images of digits."""
    import tensorflow as tf

    from data import pipeline, records
    from data.augmentation import Augmentation
    from data.images import encode_png
    from data.streams import TrainingInput
    from noisy_student.preparation.preparation import prepare_set

    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    classes = tuple("0123456789")

    def row(number: int, **more) -> dict:
        return {
            records.IMAGE: encode_png(images[number]),
            records.ID: f"image-{number}".encode(),
            **more,
        }

    streams = {}
    labeled = prepare_set("digits:validation", os.path.join(directory, "labeled"))
    streams["labeled"] = labeled
    path = os.path.join(directory, records.shard_name("pseudo", 0, 1))
    soft = np.full(len(classes), 0.1, np.float32)
    rows = [
        row(n, **{records.LABEL: n % 10, records.PROBABILITIES: soft, records.COPIES: 2})
        for n in range(len(images))
    ]
    records.write_shard(path, rows)
    streams["pseudo_labeled"] = records.RecordSet(
        files=(path,), examples_per_file=(2 * len(rows),), class_names=classes
    )
    return tf.data.Dataset.zip(
        {
            kind: pipeline.training_batches(
                TrainingInput(examples, 16, Augmentation(), seed=0, kind=kind),
                _BATCH_SIZE.value,
            )
            for kind, examples in streams.items()
        }
    ).as_numpy_iterator()


if __name__ == "__main__":
    setting_flags.run(main)
