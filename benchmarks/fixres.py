"""What FixRes gains: a model at its own size, at a larger one, and after fine-tuning.

    python -m benchmarks.fixres --labeled_data=idx:DIR:train --test_data=idx:DIR:test \\
        --work_dir=runs/fixres --output=docs/results/fixres

For each seed a network is trained on random crops (`--crop=inception`), and measured
on the test images at its own size and at the larger one; then the same with FixRes,
as `tpu_scripts.fixres` does it. The control is fine-tuned just as long at the larger
size on training's own random crops: what it lacks is that both crops are alike.
Writes OUTPUT.json and the table of OUTPUT.md. Run again, it goes on where it stopped.
"""

import dataclasses
import os

from absl import flags

from benchmarks import results
from data.augmentation import Augmentation
from noisy_student import tables
from noisy_student.config import DataConfig, ModelConfig, TrainingConfig
from noisy_student.evaluation.evaluation import accuracy_on
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.preparation.preparation import PreparedData, prepare
from noisy_student.training import fixres
from noisy_student.training.job import TrainingJob
from noisy_student.training.training import train
from noisy_student.training.training_loop import LoopOptions
from tpu_scripts import setting_flags, strategy_flags

_LABELED = flags.DEFINE_string("labeled_data", None, "Labeled data set.", required=True)
_TEST = flags.DEFINE_string("test_data", None, "Labeled data set.", required=True)
_PER_CLASS = flags.DEFINE_integer("labels_per_class", 500, "Images a class to train on.")
_WORK_DIR = flags.DEFINE_string("work_dir", "runs/fixres", "Where models go.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds, from 0 on.")
_SIZE = flags.DEFINE_integer("image_size", 64, "Of training, in pixels.")
_LARGER = flags.DEFINE_integer("larger_size", 80, "Of fine-tuning, in pixels.")
_DURATION = flags.DEFINE_string("duration", "12 epochs", "Of the first training.")
_OUTPUT = flags.DEFINE_string("output", "", "Path without ending; empty: print only.")
strategy_flags.define()

_NETWORK = dict(width=0.25, depth=0.34, dropout_rate=0.1, batch_norm_momentum=0.97)
_OPTIONS = LoopOptions(steps_per_loop=50, checkpoint_interval="200 steps")


def main():
    strategy = strategy_flags.create_strategy()
    rows = []
    for seed in range(_SEEDS.value):
        rows.append(measured(seed, strategy))
        print(rows[-1], flush=True)
    markdown = as_markdown(rows)
    print(markdown)
    if _OUTPUT.value:
        settings = results.settings(
            _LABELED, _TEST, _PER_CLASS, _SEEDS, _SIZE, _LARGER, _DURATION
        )
        results.write(f"{_OUTPUT.value}.json", settings, seeds=rows)
        tables.replace_marked(f"{_OUTPUT.value}.md", markdown)


def measured(seed: int, strategy) -> dict[str, float]:
    """Top-1 in percent by what was measured."""
    directory = os.path.join(_WORK_DIR.value, f"seed_{seed}")
    data = prepare(
        DataConfig(
            labeled_data=_LABELED.value,
            test_data=_TEST.value,
            labels_per_class=_PER_CLASS.value,
        ),
        os.path.join(directory, "data"),
        seed,
    )
    model = os.path.join(directory, "model")
    job = _job(data, seed)
    train(job, model, strategy, _OPTIONS, f"seed {seed}")
    network, training = fixres.default_settings(model)
    network = dataclasses.replace(network, image_size=_LARGER.value)
    tuning = fixres.fixres_job(model, data.labeled, network, training, seed)
    control = dataclasses.replace(tuning, augmentation=job.augmentation)
    tuned, same_crops = (os.path.join(directory, name) for name in ("fixres", "control"))
    train(tuning, tuned, strategy, _OPTIONS, f"seed {seed}: FixRes")
    train(control, same_crops, strategy, _OPTIONS, f"seed {seed}: control")

    def top_1(model: str, size: int) -> float:
        network, info = model_files.load_model(model)
        info = dataclasses.replace(info, image_size=size)
        predictor = Predictor(network, strategy, 250)
        found = accuracy_on(predictor, data.test, info, f"{model} at {size}")
        return float(100 * found["top_1"])

    small, large = _SIZE.value, _LARGER.value
    return {
        f"as trained, {small} pixels": top_1(model, small),
        f"as trained, {large} pixels": top_1(model, large),
        f"fine-tuned on random crops, {large} pixels": top_1(same_crops, large),
        f"FixRes, {large} pixels": top_1(tuned, large),
    }


def _job(data: PreparedData, seed: int) -> TrainingJob:
    """The first training, on random crops."""
    return TrainingJob(
        labeled=data.labeled,
        pseudo_labeled=None,
        model=ModelConfig(image_size=_SIZE.value, **_NETWORK),
        training=TrainingConfig(
            batch_size=50,
            duration=_DURATION.value,
            warmup="2 epochs",
            base_learning_rate=0.128,
            final_base_learning_rate=0.00128,
            ema_decay=0.99,
        ),
        augmentation=Augmentation(num_ops=0),
        seed=seed,
    )


def as_markdown(rows: list[dict[str, float]]) -> str:
    lines = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        each = ", ".join(f"{value:.2f}" for value in values)
        lines.append([name, tables.mean_and_spread(values, 2), each])
    return tables.markdown_table(["", "top-1, %", "each seed"], lines)


if __name__ == "__main__":
    setting_flags.run(main)
