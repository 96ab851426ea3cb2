"""Where the time of a generation goes: labeling, balancing, training, evaluation.

    python -m benchmarks.generation --recipe=fashion_mnist --work_dir=runs/generation \\
        --output=docs/results/generation.json

Runs the recipe's first generation, its teacher not counted, and takes the time of each
stage: wall clock, and processor time of all threads. Of the training, the steps on the
device are what `train_step.NoisyStudentTrainer.train` took; the rest is building and
tracing the network, checkpoints, summaries and progress.
"""

import dataclasses
import os
import time
from collections.abc import Callable

from absl import flags

from benchmarks import results
from data.errors import InputError
from noisy_student import recipes, tables
from noisy_student.iteration.places import WorkDir
from noisy_student.iteration.run import Run
from noisy_student.stages import layout
from noisy_student.training.train_step import NoisyStudentTrainer
from noisy_student.training.training_loop import LoopOptions
from tpu_scripts import setting_flags, strategy_flags

_RECIPE = flags.DEFINE_string("recipe", "fashion_mnist", "The recipe to run.")
_WORK_DIR = flags.DEFINE_string("work_dir", "runs/generation", "Where it is run.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file; empty: print only.")
setting_flags.define(LoopOptions)
strategy_flags.define()


class Clock:
    """Wall-clock and processor seconds by name."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {}

    def timed(self, name: str, function: Callable):
        """What the function returns, its time added to the name's."""
        wall, cpu = time.monotonic(), time.process_time()
        returned = function()
        row = self.seconds.setdefault(name, [0.0, 0.0])
        row[0] += time.monotonic() - wall
        row[1] += time.process_time() - cpu
        return returned


def main():
    for stage in (layout.predictions(1), layout.balanced(1), layout.student(1)):
        if os.path.exists(os.path.join(_WORK_DIR.value, stage)):
            raise InputError(
                f"`work_dir`: expected one without {stage}, whose time is to be taken; "
                f"received {_WORK_DIR.value}. Choose another."
            )
    strategy = strategy_flags.create_strategy()
    config = dataclasses.replace(recipes.load(_RECIPE.value), generations=1)
    options = setting_flags.override(LoopOptions())
    run = Run(config, WorkDir(_WORK_DIR.value), strategy, options)
    run.prepare()
    teacher = run.train_teacher()
    clock = timed_generation(run, teacher)
    print(as_markdown(clock.seconds))
    results.write(_OUTPUT.value, results.settings(_RECIPE), seconds=clock.seconds)


def timed_generation(run: Run, teacher: str) -> Clock:
    clock = Clock()
    steps = NoisyStudentTrainer.train
    NoisyStudentTrainer.train = lambda self, number: clock.timed(
        "steps", lambda: steps(self, number)
    )
    try:
        pseudo_labeled = clock.timed(
            "labeling and balancing", lambda: run.pseudo_label(1, teacher)
        )
        student = clock.timed(
            "training", lambda: run.train_student(1, pseudo_labeled, teacher)
        )
        clock.timed("evaluation", lambda: run.measured(1, "student", student))
    finally:
        NoisyStudentTrainer.train = steps
    return clock


def as_markdown(seconds: dict[str, list[float]]) -> str:
    whole = [
        sum(row[at] for name, row in seconds.items() if name != "steps") for at in (0, 1)
    ]
    lines = [
        [
            name,
            *(f"{row[at]:.1f} s, {row[at] / whole[at]:.0%}" for at in (0, 1)),
        ]
        for name, row in {**seconds, "generation": whole}.items()
    ]
    return tables.markdown_table(["", "wall", "CPU"], lines)


if __name__ == "__main__":
    setting_flags.run(main)
