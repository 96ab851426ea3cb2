"""Accuracy on labeled images: a user's own, and ImageNet with its variants."""

from collections.abc import Mapping, Sequence

import numpy as np

from data import encoded_images, streams
from data.errors import InputError
from data.records import RecordSet
from noisy_student.evaluation_suite import outcomes, worst_images
from noisy_student.evaluation_suite.benchmark import (
    Benchmark,
    BenchmarkData,
    Finished,
    means,
)
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.imagenet_classes import imagenet_a_classes
from noisy_student.evaluation_suite.imagenet_data import (
    IMAGES,
    V2_IMAGES,
    V2_VARIANTS,
    Part,
    checked,
    open_labeled,
    open_real,
    open_v2,
    too_few,
)
from noisy_student.evaluation_suite.outcomes import Table
from noisy_student.stages.progress import Progress

_CONFUSIONS = 20  # Pairs that a result names.
_R_CLASSES = 200


class LabeledBenchmark(Benchmark):
    """Top-1 and top-5 of one or several labeled sets.

    Args:
        name: Such as `imagenet_v2`.
        data: What it is run on.
        sets: By part.
        classes: The labels among which the most probable one counts; None: all.
        whole_image: Resize the whole image, where images are cropped already; otherwise
            take the model's own evaluation crop.
        settings: See `Benchmark`.
    """

    def __init__(
        self,
        name: str,
        data: BenchmarkData,
        sets: Mapping[str, Part],
        classes: np.ndarray | None = None,
        whole_image: bool = False,
        settings: dict | None = None,
    ):
        self.name, self.data, self.parts = name, data, tuple(sets)
        self.settings = settings or {}
        self._sets, self._classes, self._whole_image = sets, classes, whole_image

    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        found = self._sets[part]
        images = found.open()
        batches = encoded_images.cropped_batches(
            images,
            model.info.image_size,
            "pad" if self._whole_image else model.info.crop,
            model.predictor.batch_size,
        )
        progress = Progress(title, found.count)
        with images.explained():
            table = outcomes.collect(
                model.predictor, batches, found.count, progress, self._classes
            )
        progress.finish(f"top-1 {np.mean(is_right(table)):.4f}")
        return table

    def scores(self, tables: Mapping[str, Table]) -> Table:
        columns = {}
        for part, table in tables.items():
            prefix = f"{part}/" if len(tables) > 1 else ""
            ids = np.array([f"{prefix}{id_}" for id_ in table["id"]])
            columns[f"{prefix}top_1"] = ids, is_right(table)
            columns[f"{prefix}top_5"] = ids, table["rank"] < 5
        return outcomes.by_id(columns)

    def results(self, done: Finished) -> dict:
        table = outcomes.joined(list(done.tables.values()))
        of_class = np.bincount(table["label"])
        right = np.bincount(table["label"], is_right(table))
        return {
            **means(done.scores),
            "images": len(table["id"]),
            "per_class_accuracy": {
                done.class_names[label]: right[label] / of_class[label]
                for label in np.flatnonzero(of_class).tolist()
            },
            "confusions": confusions(table, done.class_names),
        }

    def draw(self, done: Finished, path: str) -> None:
        part, table = next(iter(done.tables.items()))
        images, wrong = self._sets[part].open(), ~is_right(table)
        worst_images.draw(images, table, wrong, done.class_names, path)


class RealBenchmark(LabeledBenchmark):
    """ReaL: right is each of the classes that people saw (Beyer et al., 2006.07159).

    Images in which they saw none of the 1,000 do not count.
    """

    def __init__(
        self, data: BenchmarkData, part: Part, classes_of_image: Sequence[np.ndarray]
    ):
        super().__init__("imagenet_real", data, {"real": part})
        self._classes_of_image = classes_of_image

    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        table = super().run(part, model, f"{title} (by the one label of ImageNet)")
        pairs = zip(table["predicted"], self._classes_of_image, strict=True)
        right = [
            predicted in classes if len(classes) else -1 for predicted, classes in pairs
        ]
        return {**table, "right": np.array(right, np.int32)}

    def scores(self, tables: Mapping[str, Table]) -> Table:
        (table,) = tables.values()
        counts = table["right"] >= 0
        return {"id": table["id"][counts], "top_1": table["right"][counts].astype(float)}

    def results(self, done: Finished) -> dict:
        return {**means(done.scores), "images": len(done.scores["id"])}

    def draw(self, done: Finished, path: str) -> None:
        wrong = done.tables["real"]["right"] == 0
        worst_images.draw(
            self._sets["real"].open(), done.tables["real"], wrong, done.class_names, path
        )


def own_part(examples: RecordSet, sample: int = 0, seed: int = 0) -> Part:
    """A user's labeled set, or a sample of it, see `encoded_images.sampled`."""
    streams.check_not_empty(examples, "data")
    images = encoded_images.sampled(encoded_images.of_records(examples), sample, seed)
    return Part(images.count, images.fingerprint, lambda: images)


def open_benchmark(
    name: str, dataset: str, allow_partial: bool, real_labels: str = ""
) -> LabeledBenchmark:
    """One of ImageNet and its labeled variants.

    Args:
        name: `imagenet`, `imagenet_real`, `imagenet_v2`, `imagenet_sketch`,
            `imagenet_a` or `imagenet_r`.
        dataset: Where its images are.
        allow_partial: Take what is there, and mark the result.
        real_labels: Path of `real.json`, for `imagenet_real` in a folder.

    Raises:
        InputError: Something is missing, or it holds other classes.
    """
    if name == "imagenet_v2":
        parts = open_v2(dataset)
        missing = [part for part in V2_VARIANTS if part not in parts]
        for part, found in parts.items():
            missing += too_few(found.count, V2_IMAGES, f"images of {part}")
        if not parts:
            raise InputError(
                f"`imagenet_v2`: expected folders such as imagenetv2-matched-frequency-"
                f"format-val below {dataset}; found none."
            )
        digest = "-".join(found.fingerprint for found in parts.values())
        data = checked(name, dataset, digest, missing, allow_partial)
        return LabeledBenchmark(name, data, parts)
    if name == "imagenet_real":
        part, classes_of_image = open_real(dataset, real_labels)
        missing = too_few(part.count, IMAGES[name])
        data = checked(name, dataset, part.fingerprint, missing, allow_partial)
        return RealBenchmark(data, part, classes_of_image)
    source, part = open_labeled(name, dataset)
    missing, classes = too_few(part.count, IMAGES[name]), None
    present = np.unique(source.labels)
    if name == "imagenet_a":
        classes = imagenet_a_classes()
        unknown = np.setdiff1d(present, classes)
        if len(unknown):
            raise InputError(
                f"`imagenet_a`: expected the 200 classes of ImageNet-A; received images of "
                f"others in {dataset}, such as label {unknown[0]}. Is it another data set?"
            )
    elif name == "imagenet_r":
        classes = present
        missing += too_few(len(present), _R_CLASSES, "classes")
    data = checked(name, dataset, part.fingerprint, missing, allow_partial)
    return LabeledBenchmark(name, data, {name: part}, classes)


def is_right(table: Table) -> np.ndarray:
    return table["predicted"] == table["label"]


def confusions(table: Table, class_names: Sequence[str]) -> list[dict]:
    """Pairs of a label and another class predicted for it, the most frequent first."""
    wrong = ~is_right(table)
    pairs, counts = np.unique(
        np.stack([table["label"][wrong], table["predicted"][wrong]], -1),
        axis=0,
        return_counts=True,
    )
    order = np.argsort(-counts, kind="stable")[:_CONFUSIONS]
    return [
        {
            "label": class_names[label],
            "predicted": class_names[predicted],
            "images": int(count),
        }
        for (label, predicted), count in zip(pairs[order], counts[order], strict=True)
    ]
