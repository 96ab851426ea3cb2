"""What compact soft labels cost a student, and what they save.

    python -m benchmarks.label_formats --output=docs/results/label_formats

Three tables, in OUTPUT.json and between the markers of docs/pseudo_labels.md: bytes an
image; the change of a student's soft cross entropy on made-up peaked predictions of
1,000 classes; students on scikit-learn's digits, trained from one teacher's labels in
each format. Run again, it goes on where it stopped.
"""

import dataclasses
import os
import tempfile

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import results
from data import evaluation_input, records, soft_labels
from data.evaluation_input import EvaluationInput
from noisy_student import recipes, tables
from noisy_student.balancing.balancing import balance
from noisy_student.evaluation.evaluation import evaluate
from noisy_student.iteration import jobs
from noisy_student.labeling import labeling
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.preparation.preparation import prepare
from noisy_student.training import losses
from noisy_student.training.training import train
from tpu_scripts import setting_flags, strategy_flags

_WORK_DIR = flags.DEFINE_string("work_dir", "runs/label_formats", "Where models go.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Students a format; 0: the first two tables.")
_DURATION = flags.DEFINE_string("duration", "256 epochs", "Of each training.")
_OUTPUT = flags.DEFINE_string("output", "", "Path without ending; empty: print only.")
strategy_flags.define()

PAGE = "docs/pseudo_labels.md"
STORED = ("float32", "float16", "top_1", "top_3", "top_10")
TRAINED = ("float32", "float16", "top_1", "top_3")
IMAGES = 2_000  # Of the made-up predictions.
PAPER_IMAGES = 300_000_000  # Unlabeled ones of JFT.
ID = "n01440764/n01440764_10026"


def main():
    strategy = strategy_flags.create_strategy()
    found = {"bytes": bytes_an_image(), "cross_entropy": cross_entropies()}
    if _SEEDS.value:
        found["students"] = students(strategy)
    markdown = as_markdown(found)
    print(markdown)
    if _OUTPUT.value:
        settings = results.settings(_SEEDS, _DURATION)
        results.write(f"{_OUTPUT.value}.json", settings, **found)
        tables.replace_marked(PAGE, markdown)


def bytes_an_image() -> dict:
    """By number of classes and format: of a prediction's record as written."""
    found = {}
    for classes in (10, 1_000):
        rows, _ = made_up(classes)
        found[str(classes)] = {
            name: float(np.mean([record_bytes(each) for each in encoded(rows, name)]))
            for name in STORED
        }
    return found


def record_bytes(soft_label: dict) -> int:
    rest = {records.ID: ID.encode(), records.LABEL: 500, records.CONFIDENCE: 0.5}
    return records.record_bytes({**rest, **soft_label})


def cross_entropies() -> dict:
    """By format: soft cross entropy of a student, its distance to that of float32."""
    rows, logits = made_up(1_000)
    exact = cross_entropy(rows, logits)
    best = -np.sort(-rows, axis=-1)
    found = {
        "confidence": float(best[:, 0].mean()),
        "ten_best": float(best[:, :10].sum(-1).mean()),
    }
    for name in STORED:
        terms = cross_entropy(read_back(rows, name), logits)
        found[name] = {
            "mean": float(terms.mean()),
            "mean_change": float((terms - exact).mean()),
            "mean_distance": float(np.abs(terms - exact).mean()),
            "largest_distance": float(np.abs(terms - exact).max()),
        }
    return found


def made_up(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a sure teacher, logits of a student that differs; `[N, C]`.

    The teacher's probability of its r-th class is a power of the rank, r^-s, with s
    from 1.5 to 4.5 by image; the student's logits are off by normal noise.
    """
    random = np.random.default_rng(0)
    powers = random.uniform(1.5, 4.5, [IMAGES, 1])
    logits = -powers * np.log(np.arange(1, classes + 1))
    logits = random.permuted(logits, axis=-1)
    rows = tf.nn.softmax(tf.constant(logits, tf.float32)).numpy()
    return rows, logits + random.normal(size=logits.shape)


def cross_entropy(rows, logits) -> np.ndarray:
    """-Σ q log softmax(logits) of each row, in float64."""
    logits = np.asarray(logits, np.float64)
    largest = logits.max(-1, keepdims=True)
    logits = logits - largest
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    rows = np.asarray(rows, np.float64)
    return -(rows / rows.sum(-1, keepdims=True) * logits).sum(-1)


def encoded(rows, name: str) -> list[dict]:
    return soft_labels.encode(rows, soft_labels.parse_format(name))


def read_back(rows, name: str) -> np.ndarray:
    """The probabilities as they come back from a shard."""
    label_format = soft_labels.parse_format(name)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "soft_labels.tfrecord")
        records.write_shard(path, encoded(rows, name))
        stored = [
            soft_labels.decode(example.features.feature, label_format, rows.shape[1])
            for example in records.read_shard(path)
        ]
    return np.stack(stored)


def students(strategy) -> dict:
    """By format: test top-1 and loss on the float32 labels, one value a seed."""
    config = _config()
    data = prepare(config.data, _path("data"), config.seed)
    teacher = _path("teacher")
    train(jobs.teacher_job(config, data), teacher, strategy, name="teacher")
    sets = {"test": data.test}
    found = {"teacher": evaluate(teacher, sets, strategy)["test"]["top_1"]}
    balanced = {name: _balanced(config, data, teacher, name, strategy) for name in TRAINED}
    for name in TRAINED:
        found[name] = {"top_1": [], "loss": []}
    for seed in range(_SEEDS.value):
        for name in TRAINED:
            job = jobs.student_job(config, data, 1, balanced[name])
            job = dataclasses.replace(job, seed=1000 + seed)
            student = _path(f"{name}_{seed}")
            train(job, student, strategy, name=f"student of {name}, seed {seed}")
            top_1 = evaluate(student, sets, strategy)["test"]["top_1"]
            loss = _loss(student, balanced["float32"], strategy)
            found[name]["top_1"].append(round(100 * top_1, 2))
            found[name]["loss"].append(round(loss, 5))
            print(f"{name}, seed {seed}: {100 * top_1:.1f} %, loss {loss:.4f}", flush=True)
    return found


def _config():
    config = recipes.load("digits")
    changes = {
        name: dataclasses.replace(getattr(config, name), duration=_DURATION.value)
        for name in ("teacher_training", "student_training")
    }
    return dataclasses.replace(config, **changes)


def _balanced(config, data, teacher: str, name: str, strategy):
    predictions = _path(f"predictions_{name}")
    options = labeling.LabelingOptions(label_format=name)
    labeling.label(teacher, data.unlabeled, predictions, strategy, options)
    directory = _path(f"balanced_{name}")
    selection = config.selection
    return balance(data.unlabeled, predictions, directory, selection, config.seed)


def _loss(student: str, examples, strategy) -> float:
    """Mean soft cross entropy of kept images without noise, against float32 labels."""
    network, info = model_files.load_model(student)
    soft = {
        example.features.feature[records.ID].bytes_list.value[0]: soft_labels.decode(
            example.features.feature, soft_labels.FLOAT32, examples.num_classes
        )
        for path in examples.files
        for example in records.read_shard(path)
    }
    stream = EvaluationInput(examples, info.image_size, info.crop)
    batches = evaluation_input.evaluation_batches(stream, 256)
    terms = []
    for batch in Predictor(network, strategy, 256).over(batches):
        targets = np.stack([soft[id_] for id_ in batch["id"]])
        logits = np.log(np.maximum(batch["probabilities"], 1e-30))
        terms.append(float(losses.soft_loss(targets, logits)) * len(targets))
    return sum(terms) / len(soft)


def _path(name: str) -> str:
    return os.path.join(_WORK_DIR.value, name)


def as_markdown(found: dict) -> str:
    found_tables = [_bytes_table(found["bytes"]), _entropy_table(found["cross_entropy"])]
    if "students" in found:
        found_tables.append(_student_table(found["students"]))
    return "\n\n".join(found_tables)


def _bytes_table(found: dict) -> str:
    header = ["format", "bytes an image, 10 classes", "1,000 classes", "of 300M images"]
    rows = []
    for name in STORED:
        few, many = found["10"][name], found["1000"][name]
        total = many * PAPER_IMAGES / 1e9
        rows.append([f"`{name}`", f"{few:.0f}", f"{many:,.0f}", f"{total:,.0f} GB"])
    return tables.markdown_table(header, rows)


def _entropy_table(found: dict) -> str:
    header = ["format", "cross entropy", "mean change", "mean distance"]
    rows = []
    for name in STORED:
        row = found[name]
        cells = [f"{row['mean']:.4f}", f"{row['mean_change']:+.1e}"]
        cells += [f"{row[key]:.1e}" for key in ("mean_distance", "largest_distance")]
        rows.append([f"`{name}`", *cells])
    return tables.markdown_table([*header, "largest distance"], rows)


def _student_table(found: dict) -> str:
    seeds = [f"seed {seed}" for seed in range(len(found["float32"]["top_1"]))]
    header = ["labels", "test top-1, %", *seeds, "loss on the float32 labels"]
    rows = []
    for name in TRAINED:
        values = found[name]["top_1"]
        cells = [tables.mean_and_spread(values, 1), *(f"{v:.1f}" for v in values)]
        loss = tables.mean_and_spread(found[name]["loss"], 3)
        rows.append([f"`{name}`", *cells, loss])
    return tables.markdown_table(header, rows)


if __name__ == "__main__":
    setting_flags.run(main)
