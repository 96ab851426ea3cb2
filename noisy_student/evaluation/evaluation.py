"""Top-1 and top-5 accuracy of a trained model on a record set."""

import functools
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from data import bad_records, evaluation_input, files, json_form
from data.evaluation_input import EvaluationInput
from data.records import RecordSet
from data.storage_errors import StorageErrors
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.models.model_files import ModelInfo
from noisy_student.stages.progress import Progress

METRICS = "metrics.json"
BATCH_SIZE = 256


def evaluate(
    model: str,
    sets: dict[str, RecordSet],
    strategy: tf.distribute.Strategy,
    name: str = "evaluation",
) -> dict:
    """Evaluates once and keeps the result in the model's `metrics.json`.

    Args:
        model: Directory of a trained model.
        sets: Record sets by name, such as `validation` and `test`.
        strategy: Where to compute.
        name: For the progress line.

    Returns:
        By set: `top_1`, `top_5`, `cross_entropy`, `images`, `skipped_records`, and
        `per_class_accuracy` (None for a class without images).
    """
    info = model_files.load_info(model)
    path = os.path.join(model, METRICS)
    identity = {
        "weights_sha256": info.weights_sha256,
        "sets": {
            key: [value.fingerprint(), value.label_offset] for key, value in sets.items()
        },
    }
    if tf.io.gfile.exists(path):
        stored = read_metrics(path)
        if stored["identity"] == identity:
            return stored["metrics"]
    network, _ = model_files.load_model(model)
    predictor = Predictor(network, strategy, BATCH_SIZE)
    metrics = {}
    for key, records in sets.items():
        line = f"{name} on {key}"
        work = functools.partial(accuracy_on, predictor, records, info, line)
        metrics[key] = StorageErrors(line).retry(work)
    files.write_json(path, {"identity": identity, "metrics": metrics})
    return metrics


def read_metrics(path: str) -> dict:
    """`identity` of what was measured, and its `metrics` by name of set.

    Raises:
        InputError: The file is damaged.
    """
    form = {
        "identity": {"weights_sha256": str},
        "metrics": {str: {"images": int, "top_1": float, "top_5": float}},
    }
    return json_form.read(path, form, "what a model was measured at")


def accuracy_on(
    predictor: Predictor, examples: RecordSet, info: model_files.ModelInfo, name: str
) -> dict:
    """Accuracy of a network on the images of a set, each counted once.

    Args:
        predictor: An `inference.Predictor` of the network.
        examples: Records with true labels.
        info: The network's image size, crop and classes.
        name: For the progress line.

    Returns:
        `images`, `top_1`, `top_5` (0 to 1; of equal probabilities the label's comes
        first), `cross_entropy` (mean, in nats), `per_class_accuracy` (None for a
        class without images) and `skipped_records`.

    Raises:
        InputError: A record is bad.
    """
    classes = len(info.class_names)
    right, seen = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    in_top_5, cross_entropy = 0, 0.0
    progress = Progress(name, examples.num_examples)
    for batch in labeled_predictions(predictor, examples, info, progress):
        labels, probabilities = batch["label"], batch["probabilities"]
        of_label = probabilities[np.arange(len(labels)), labels]
        # Rank by how many classes are more probable: ties count for the label.
        rank = (probabilities > of_label[:, None]).sum(-1)
        np.add.at(seen, labels, 1)
        np.add.at(right, labels[probabilities.argmax(-1) == labels], 1)
        in_top_5 += int((rank < 5).sum())
        cross_entropy -= float(np.log(np.maximum(of_label, 1e-12)).sum())
    count = int(seen.sum())
    result = {
        "images": count,
        "top_1": right.sum() / count,
        "top_5": in_top_5 / count,
        "cross_entropy": cross_entropy / count,
        "per_class_accuracy": [
            r / s if s else None for r, s in zip(right.tolist(), seen.tolist(), strict=True)
        ],
        "skipped_records": bad_records.report(examples.skipped),
    }
    progress.finish(f"top-1 {result['top_1']:.4f}")
    bad_records.print_note(result["skipped_records"])
    return result


def labeled_predictions(
    predictor: Predictor, examples: RecordSet, info: ModelInfo, progress: Progress
) -> Iterator[dict]:
    """Batches of a labeled set, each image once, with the network's `probabilities`.

    Args:
        predictor: The network.
        examples: Records with true labels.
        info: The network's image size, crop and classes.
        progress: Told of every batch, once it has been used.

    Yields:
        See `data.evaluation_input.evaluation_batches`.

    Raises:
        InputError: A record is bad.
    """
    stream = EvaluationInput(examples, info.image_size, info.crop, "labeled")
    batches = evaluation_input.evaluation_batches(stream, predictor.batch_size)
    done = 0
    with evaluation_input.explained_evaluation(stream):
        for batch in predictor.over(batches):
            yield batch
            done += len(batch["label"])
            progress.update(done)
