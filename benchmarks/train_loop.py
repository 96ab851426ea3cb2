"""What training costs beyond the network: input, optimizer, averages, loop.

    python -m benchmarks.train_loop --output=docs/results/train_loop.json

Four contestants, each in a process of its own, take turns; what counts is the
processor time of all threads, a step:

* `network`: forward and backward of the network alone, on a batch in memory;
* `updates`: RMSProp and the averages of weights and statistics, given gradients;
* `input`: reading, decoding, random crop and RandAugment of a batch of photos;
* `loop`: training as `tpu_scripts.train` does it, all of this with L2, metrics,
  history, summaries, and the look for numbers that are not finite.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks import results
from benchmarks.photos import write_photos
from data import streams
from noisy_student import tables
from tpu_scripts import setting_flags

_VARIANT = flags.DEFINE_string("variant", "efficientnet-b0", "The network.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the images in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 6, "How often each contestant's turn comes.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps a turn, and a loop on the device.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")
_CONTESTANT = flags.DEFINE_string("contestant", "", "Serve one of them, for the others.")

_CLASSES, _PHOTOS = 1000, 256


def main():
    if _CONTESTANT.value:
        return _serve(CONTESTANTS[_CONTESTANT.value])
    workers = {name: _Worker(name) for name in CONTESTANTS}
    turns = {name: [] for name in workers}
    for number in range(_ROUNDS.value + 1):
        for name, worker in workers.items():
            spent = worker.run()
            if number:  # The first compiles.
                turns[name].append(spent)
    found = {
        name: {"min": min(times), "median": statistics.median(times)}
        for name, times in turns.items()
    }
    print(as_markdown(found))
    settings = results.settings(_VARIANT, _IMAGE_SIZE, _BATCH_SIZE, _ROUNDS, _STEPS)
    results.write(_OUTPUT.value, settings, cpu_ms_a_step=found)


def as_markdown(found) -> str:
    header = ["", "CPU-ms a step, min", "median", "of the network, min", "median"]
    rows = []
    for name, row in found.items():
        parts = [row[key] / found["network"][key] for key in ("min", "median")]
        cells = [f"{row['min']:.0f}", f"{row['median']:.0f}"]
        rows.append([name, *cells, *(f"{100 * part:.1f} %" for part in parts)])
    return tables.markdown_table(header, rows)


class _Worker:
    """A process with one contestant."""

    def __init__(self, name: str):
        command = [sys.executable, "-m", "benchmarks.train_loop", *sys.argv[1:]]
        self._process = subprocess.Popen(
            [*command, f"--contestant={name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self) -> float:
        """A turn; milliseconds of processor time a step, all threads."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A contestant ended: {self._process.args}")
        return float(line)


def _serve(contestant) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What libraries print must not get among the answers.
    with tempfile.TemporaryDirectory() as directory:
        turn = contestant(directory)  # `steps` steps.
        before = time.process_time()
        for _ in sys.stdin:
            turn()
            # From the end of the turn before: input is made ahead, between turns too.
            now = time.process_time()
            print(1000 * (now - before) / _STEPS.value, file=answers)
            before = now


def _network(directory):
    import tensorflow as tf

    from efficientnet import noise_key

    model = _job(directory).model.build(_CLASSES, seed=0)
    size, batch = _IMAGE_SIZE.value, _BATCH_SIZE.value
    generator = tf.random.Generator.from_seed(0)
    images = tf.cast(generator.uniform((batch, size, size, 3), 0, 256), tf.uint8)
    labels = generator.uniform((batch,), 0, _CLASSES, tf.int32)

    @tf.function
    def step(number):
        with tf.GradientTape() as tape, noise_key(0, number):
            logits = model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        # A number of each, or they would not be computed.
        return loss, tf.add_n([tf.reshape(gradient, [-1])[0] for gradient in gradients])

    def turn():
        for number in range(_STEPS.value):
            step(tf.constant(number, tf.int64))[0].numpy()

    return turn


def _updates(directory):
    import tensorflow as tf

    from noisy_student.training import ema, optimizer

    job = _job(directory)
    model = job.model.build(_CLASSES, seed=0)
    schedule = optimizer.schedule_for(job.training, _PHOTOS)
    rmsprop = optimizer.RMSProp(schedule)
    rmsprop.build(model.trainable_variables)
    average = ema.ExponentialMovingAverage(model.variables, job.training.ema_decay)
    gradients = [tf.ones(v.shape) * 1e-3 for v in model.trainable_variables]

    @tf.function
    def steps():
        for _ in tf.range(_STEPS.value):
            rmsprop.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            average.update(rmsprop.iterations.value)

    return steps


def _input(directory):
    from data import pipeline

    job = _job(directory)
    stream = streams.TrainingInput(job.labeled, _IMAGE_SIZE.value, job.augmentation, seed=0)
    iterator = iter(pipeline.training_batches(stream, _BATCH_SIZE.value))

    def turn():
        for _ in range(_STEPS.value):
            next(iterator)

    return turn


def _loop(directory):
    from noisy_student.strategy import create_strategy
    from noisy_student.training.train_step import NoisyStudentTrainer
    from noisy_student.training.training_loop import (
        LoopOptions,
        OngoingTraining,
        TrainingLoop,
    )

    strategy, job = create_strategy("cpu"), _job(directory)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    options = LoopOptions(steps_per_loop=_STEPS.value)
    run = OngoingTraining(
        trainer, job, os.path.join(directory, "training"), options, "training"
    )
    os.makedirs(run.directory)
    return TrainingLoop(run).run_steps


CONTESTANTS = {"network": _network, "updates": _updates, "input": _input, "loop": _loop}


def _job(directory):
    """A teacher's training on photos, on for as long as somebody measures."""
    from data.augmentation import PRESETS
    from noisy_student.config import ModelConfig, TrainingConfig
    from noisy_student.training.job import TrainingJob

    return TrainingJob(
        labeled=write_photos(directory, _PHOTOS, _CLASSES),
        pseudo_labeled=None,
        model=ModelConfig(variant=_VARIANT.value, image_size=_IMAGE_SIZE.value),
        training=TrainingConfig(batch_size=_BATCH_SIZE.value, duration="1e6 steps"),
        augmentation=PRESETS["imagenet"],
        seed=0,
    )


if __name__ == "__main__":
    setting_flags.run(main)
