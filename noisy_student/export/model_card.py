"""`MODEL.md`: what an exported model is, for those who are handed the files."""

import os
import re

import jinja2
import tensorflow as tf

from data import files
from data.printable import printable
from noisy_student.export import tflite
from noisy_student.models import model_files
from noisy_student.models.model_files import ModelInfo
from noisy_student.stages.layout import SAVED_MODEL
from noisy_student.tables import count, percent

CARD = "MODEL.md"
SHOWN_CLASSES = 20
_FORMAT_NOTES = {
    "float32": "TFLite, weights and arithmetic float32",
    "float16": "TFLite, weights float16",
    "dynamic_range": "TFLite, weights int8, inputs and outputs float32",
    "int8": "TFLite, weights and arithmetic int8, inputs and outputs uint8",
}
# Settings worth a line in the card; all of them are in manifest.json.
_SETTINGS = {
    "model": ("width", "depth", "small_image", "dropout_rate", "stochastic_depth_rate"),
    "augmentation": ("crop", "horizontal_flip", "num_ops", "magnitude", "cutout"),
    "training": (
        "batch_size",
        "unlabeled_ratio",
        "duration",
        "base_learning_rate",
        "weight_decay",
        "label_smoothing",
        "ema_decay",
        "soft_labels",
    ),
}


def write_card(directory: str, info: ModelInfo, record: dict, shards: dict) -> None:
    """Writes the card of an export, if it is not there already.

    Args:
        directory: Of the export, its other files written.
        info: Of the model.
        record: `provenance.provenance` of the model; may be empty.
        shards: Facts by file name of the TFLite files, as in the manifest.
    """
    path, text = os.path.join(directory, CARD), card(directory, info, record, shards)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path, "r") as file:
            if file.read() == text:
                return
    with files.atomic_open(path) as file:
        file.write(text)


def card(directory: str, info: ModelInfo, record: dict, shards: dict) -> str:
    """The card's Markdown. What `record` does not hold has no line in it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("noisy_student.export", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = _cell
    tflite_names = [n for n in tflite.FORMATS if tflite.file_name(n) in shards]
    return environment.get_template("model_card.md").render(
        info=info,
        record=record,
        classes=[_cell(name) for name in info.class_names[:SHOWN_CLASSES]],
        left_out=max(0, len(info.class_names) - SHOWN_CLASSES),
        settings=_settings(record),
        sets=_sets(record),
        lineage=_lineage(record),
        files=_files(directory, tflite_names),
        tflite_file=tflite.file_name(tflite_names[0]) if tflite_names else None,
        int8=shards.get(tflite.file_name(tflite.INT8)),
    )


def _settings(record: dict) -> list[tuple[str, str]]:
    """Names and values; those that leave the variant as it is are no news."""
    rows = []
    for part, names in _SETTINGS.items():
        values = record.get("settings", {}).get(part, {})
        rows += [(name, values[name]) for name in names if name in values]
    untouched = {("width", 0.0), ("depth", 0.0), ("small_image", False)}
    rows = [row for row in rows if row not in untouched]
    rows += [(name, record[name]) for name in ("steps", "seed") if name in record]
    return [row for row in rows if row[0] != "dropout_rate" or row[1] >= 0]


def _sets(record: dict) -> list[tuple[str, ...]]:
    """Name, images, data set, top-1, top-5 of every set on record."""
    data, metrics = record.get("data", {}), record.get("metrics", {})
    rows = []
    for name in dict.fromkeys([*data, *metrics]):
        facts = {**data.get(name, {}), **metrics.get(name, {})}
        dataset = f"`{_cell(facts['dataset'])}`" if "dataset" in facts else ""
        accuracies = (percent(facts.get(key)) for key in ("top_1", "top_5"))
        rows.append((name, count(facts.get("images")), dataset, *accuracies))
    return rows


def _lineage(record: dict) -> list[tuple[str, ...]]:
    """Model, pseudo-labeled examples, their accuracy and digest of each ancestor."""
    return [
        (
            _cell(link.get("model", "")),
            count(link.get("pseudo_labeled")),
            percent(link.get("pseudo_label_accuracy")),
            f"`{link['weights_sha256'][:16]}`",
        )
        for link in record.get("lineage", [])
    ]


def _files(directory: str, tflite_names: list[str]) -> list[tuple[str, str, str]]:
    """Name, size and content of every file of the export but the card."""
    notes = {
        f"{SAVED_MODEL}/": "SavedModel: image files in, class names out; TensorFlow alone",
        model_files.MODEL: "Keras model: cropped images in, logits out",
        model_files.INFO: "class names, image size, crop",
        **{tflite.file_name(n): _FORMAT_NOTES[n] for n in tflite_names},
    }
    return [
        (name, _megabytes(_bytes(os.path.join(directory, name))), note)
        for name, note in notes.items()
    ]


def _bytes(path: str) -> int:
    if not tf.io.gfile.isdir(path):
        return tf.io.gfile.stat(path).length
    return sum(
        tf.io.gfile.stat(os.path.join(root, name)).length
        for root, _, names in tf.io.gfile.walk(path)
        for name in names
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _cell(value: object) -> str:
    """Text that stays within one cell of a Markdown table, and is no HTML or link."""
    text = printable(re.sub(r"[\r\n\t]", " ", str(value)))
    text = re.sub(r"([\\|\[\]`])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")
