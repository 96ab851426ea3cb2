"""Peak memory and work of a student's step, by share of pseudo-labels and by remedy.

    python -m benchmarks.step_memory --output=docs/results/step_memory.json

For each ratio of pseudo-labeled to labeled images: the step as it is, with recomputed
activations (`--remat`), and in parts (`--accumulation_steps`). Each runs in a process
of its own. Memory is what a step adds to a process that has done some: its peak
resident size less that before, beside what `--dry_run` says of activations, gradients
and input. Without oneDNN, whose allocator keeps what it once had.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys

from absl import flags

from benchmarks import results
from noisy_student import tables
from tpu_scripts import setting_flags

_VARIANT = flags.DEFINE_string("variant", "efficientnet-b0", "The network.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the images in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Labeled images a step.")
_RATIOS = flags.DEFINE_list("unlabeled_ratios", ["0", "3", "14"], "Pseudo-labeled ones.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps measured, after two that compile.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")
_MEASURE = flags.DEFINE_string("measure", "", "Measure one of them, for the table.")

_CLASSES = 1000


def main():
    if _MEASURE.value:
        ratio, remat, parts = map(float, _MEASURE.value.split(","))
        print(json.dumps(measure(ratio, bool(remat), int(parts))))
        return
    rows = []
    for ratio in map(float, _RATIOS.value):
        for remedy, remat, parts in (
            ("none", False, 1),
            ("remat", True, 1),
            ("in parts", False, _BATCH_SIZE.value),
        ):
            found = _in_own_process(f"{ratio},{int(remat)},{parts}")
            rows.append({"unlabeled_ratio": ratio, "remedy": remedy, **found})
            print(rows[-1], flush=True)
    print(as_markdown(rows))
    settings = results.settings(_VARIANT, _IMAGE_SIZE, _BATCH_SIZE, _STEPS)
    results.write(_OUTPUT.value, settings, rows=rows)


def as_markdown(rows) -> str:
    header = ["unlabeled_ratio", "images", "remedy", "GiB", "as planned", "CPU-s a step"]
    lines = []
    for row in rows:
        cells = [f"{row['unlabeled_ratio']:g}", str(row["images"]), row["remedy"]]
        cells += [f"{row[key]:.2f}" for key in ("gib", "planned_gib")]
        lines.append([*cells, f"{row['cpu_seconds']:.1f}"])
    return tables.markdown_table(header, lines)


def _in_own_process(what: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.step_memory", *sys.argv[1:]]
    run = subprocess.run(
        [*command, f"--measure={what}"],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def measure(ratio: float, remat: bool, parts: int) -> dict:
    """GiB that a step adds, as planned too, and its CPU time in seconds."""
    import tensorflow as tf

    from noisy_student.planning.plan import PlannedTraining
    from noisy_student.training.train_step import NoisyStudentTrainer

    job = _job(ratio, remat, parts)
    trainer = NoisyStudentTrainer(job, tf.distribute.get_strategy())
    batch = _batch(job)
    step = tf.function(lambda: trainer._train_step(batch))
    step()
    step()
    before = _resident_bytes_anew()
    began = os.times()
    for _ in range(_STEPS.value):
        step()
    ended = os.times()
    seconds = ended.user + ended.system - began.user - began.system
    peak = _status("VmHWM")
    planned = PlannedTraining("student", job, replicas=1)
    return {
        "images": job.images_per_step,
        "gib": (peak - before) / 2**30,
        "planned_gib": (planned.memory - planned.cost.state_bytes) / 2**30,
        "cpu_seconds": seconds / _STEPS.value,
    }


def _job(ratio: float, remat: bool, parts: int):
    """A student's training, but for its records, which are not read here."""
    from data.augmentation import Augmentation
    from data.records import RecordSet
    from noisy_student.config import ModelConfig, TrainingConfig
    from noisy_student.training.job import TrainingJob

    examples = RecordSet((), (10_000,), tuple(map(str, range(_CLASSES))))
    return TrainingJob(
        labeled=examples,
        pseudo_labeled=examples if ratio else None,
        model=ModelConfig(
            variant=_VARIANT.value, image_size=_IMAGE_SIZE.value, remat=remat
        ),
        training=TrainingConfig(
            batch_size=_BATCH_SIZE.value, unlabeled_ratio=ratio, accumulation_steps=parts
        ),
        augmentation=Augmentation(),
        seed=0,
    )


def _batch(job) -> dict:
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(0)

    def rows(count):
        shape = (count, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3)
        return {
            "image": tf.cast(generator.uniform(shape, 0, 256), tf.uint8),
            "label": generator.uniform((count,), 0, _CLASSES, tf.int32),
        }

    batch = {"labeled": rows(job.training.batch_size)}
    if job.pseudo_batch_size:
        logits = generator.normal((job.pseudo_batch_size, _CLASSES))
        soft = {"probabilities": tf.nn.softmax(logits)}
        batch["pseudo_labeled"] = {**rows(job.pseudo_batch_size), **soft}
    return batch


def _resident_bytes_anew() -> int:
    """Gives back what is free, starts the peak again, and returns what is resident."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    """Bytes, of this process, from `/proc`."""
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith(f"{name}:")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    setting_flags.run(main)
