"""Selection is exact: the most confident K of each class, or copies up to K."""

import collections
import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from data import records
from data.errors import InputError
from data.images import encode_png
from data.records import Record, RecordSet
from noisy_student import balancing
from noisy_student.config import SelectionConfig
from noisy_student.manifest import Stage, read_manifest
from noisy_student.predictions import Index, read_index, write_index

CLASSES = ("cat", "dog", "owl")


class Pool:
    """Unlabeled shards and predictions for them, with made-up probabilities."""

    @staticmethod
    def truth(index, labels):
        """Of four images one is unknown and one labeled wrong."""
        return [-1, 2, int(labels[index]), int(labels[index])][index % 4]

    def __init__(self, directory, labels, confidences, shards=3):
        self.labels, self.confidences = labels, confidences
        self.images, self.predictions = str(directory / "u"), str(directory / "p")
        ids = [f"image{i}".encode() for i in range(len(labels))]
        names, paths, counts = [], [], []
        for shard, rows in enumerate(np.array_split(np.arange(len(labels)), shards)):
            name = records.shard_name("unlabeled", shard, shards)
            truth = [
                Record(ids[i].decode(), picture(i), self.truth(i, labels)) for i in rows
            ]
            path = os.path.join(self.images, name)
            records.write_shard(path, map(records.image_example, truth))
            names.append(name)
            paths.append(path)
            counts.append(len(rows))
        self.records = RecordSet(tuple(paths), tuple(counts), CLASSES)
        stage = Stage(
            self.predictions,
            "label",
            {
                "class_names": list(CLASSES),
                "unlabeled_data": self.records.fingerprint(),
            },
        )
        split = np.array_split(np.arange(len(labels)), shards)
        for name, rows in zip(names, split, strict=True):
            rows = rows[::-1]  # Another order than the images': they are joined by id.
            index = Index([ids[i] for i in rows], labels[rows], confidences[rows])
            write_index(stage.path(name), index)
            examples = (_prediction(ids[i], labels[i], confidences[i]) for i in rows)
            count = records.write_shard(stage.path(name), examples)
            stage.finish_shard(name, count)
        stage.finish(names, {"mean_confidence": float(confidences.mean())})


def picture(index):
    """A PNG that no other image has."""
    return encode_png(np.full([2, 2, 3], index, np.uint8))


def _prediction(id_, label, confidence):
    probabilities = np.full(len(CLASSES), (1 - confidence) / 2, np.float32)
    probabilities[label] = confidence
    return {
        records.ID: id_,
        records.LABEL: int(label),
        records.CONFIDENCE: float(confidence),
        records.PROBABILITIES: probabilities,
    }


@pytest.fixture
def pool(tmp_path):
    """90 cats, 9 dogs, no owl; a third of them below 0.5."""
    generator = np.random.default_rng(0)
    labels = np.array([0] * 90 + [1] * 9, np.int32)
    confidences = generator.uniform(0.34, 0.99, 99).astype(np.float32)
    confidences[:3] = 0.5  # Exactly the threshold: inclusive.
    order = generator.permutation(99)
    return Pool(tmp_path, labels[order], confidences[order])


def balance(pool, directory, **changes):
    settings = {"min_confidence": 0.5, "images_per_class": 20, **changes}
    return balancing.balance(
        pool.records, pool.predictions, str(directory), SelectionConfig(**settings), seed=1
    )


def read(record_set):
    return [
        example.features.feature
        for path in record_set.files
        for example in records.read_shard(path)
    ]


def test_every_class_with_images_has_exactly_the_wanted_number(pool, tmp_path):
    balanced = balance(pool, tmp_path / "b")
    totals = collections.Counter()
    for features in read(balanced):
        label = features["label"].int64_list.value[0]
        totals[label] += features["copies"].int64_list.value[0]
        assert features["prob"].float_list.value[0] >= 0.5
    assert totals == {0: 20, 1: 20}
    assert balanced.num_examples == 40
    results = read_manifest(str(tmp_path / "b"))["results"]
    assert results["classes_without_images"] == ["owl"]
    assert results["examples_per_class"] == [20, 20, 0]
    assert results["kept"] + results["dropped"] == 99


def test_kept_images_are_the_most_confident(pool, tmp_path):
    balance(pool, tmp_path / "b")
    index = [
        read_index(os.path.join(pool.predictions, os.path.basename(path)))
        for path in pool.records.files
    ]
    labels = np.concatenate([part.labels for part in index])
    confidences = np.concatenate([part.confidences for part in index])
    expected = np.sort(confidences[labels == 0])[-20:]
    kept = [
        features["prob"].float_list.value[0]
        for features in read(balancing.load_balanced(str(tmp_path / "b")))
        if features["label"].int64_list.value[0] == 0
    ]
    np.testing.assert_array_equal(np.sort(kept).astype(np.float32), expected)


def test_threshold_is_inclusive(pool, tmp_path):
    balance(pool, tmp_path / "b", images_per_class=1000)
    balanced = balancing.load_balanced(str(tmp_path / "b"))
    kept = [features["prob"].float_list.value[0] for features in read(balanced)]
    assert kept.count(0.5) == 3


def test_probabilities_are_joined_by_id(pool, tmp_path):
    for features in read(balance(pool, tmp_path / "b")):
        label = features["label"].int64_list.value[0]
        probabilities = features["probabilities"].float_list.value
        index = int(features["image/id"].bytes_list.value[0].removeprefix(b"image"))
        assert features["image/encoded"].bytes_list.value[0] == picture(index)
        assert label == pool.labels[index]
        assert probabilities[label] == pool.confidences[index]


def test_accuracy_counts_images_whose_truth_is_known(pool, tmp_path):
    balance(pool, tmp_path / "b", images_per_class=1000)
    kept = np.flatnonzero(pool.confidences >= 0.5)
    truth = np.array([pool.truth(i, pool.labels) for i in kept])
    right = (truth == pool.labels[kept])[truth >= 0].mean()
    assert 0.5 < right < 0.8
    assert read_manifest(str(tmp_path / "b"))["results"]["accuracy"] == right


def test_labels_of_other_classes_are_no_truth(pool, tmp_path):
    pool.records = dataclasses.replace(pool.records, truth_known=False)
    balance(pool, tmp_path / "b")
    assert read_manifest(str(tmp_path / "b"))["results"]["accuracy"] is None


def snapshot(paths):
    """Time of writing and content by path."""
    return {path: (os.stat(path).st_mtime_ns, open(path, "rb").read()) for path in paths}


def test_rerun_makes_only_what_is_missing_and_the_same(pool, tmp_path):
    first = balance(pool, tmp_path / "b")
    before = snapshot(first.files)
    os.remove(first.files[1])
    again = balance(pool, tmp_path / "b")
    assert again == first
    after = snapshot(first.files)
    assert after[first.files[1]][1] == before[first.files[1]][1]
    assert after[first.files[0]] == before[first.files[0]]


def test_default_number_is_the_mean_of_the_pool(pool, tmp_path):
    balanced = balance(pool, tmp_path / "b", images_per_class=0)
    assert balanced.num_examples == 2 * 33  # 99 images, 3 classes, one empty.


def test_no_confident_image_is_an_error_with_a_remedy(pool, tmp_path):
    with pytest.raises(InputError, match=r"min_confidence.*there are none.*lower"):
        balance(pool, tmp_path / "b", min_confidence=0.999)


def test_predictions_of_other_images_are_refused(pool, tmp_path):
    other = tmp_path / "other" / "unlabeled-00000-of-00001.tfrecord"
    records.write_shard(str(other), [{"image/id": b"x"}])
    pool.records = RecordSet((str(other),), (1,), CLASSES)
    with pytest.raises(InputError, match="for these unlabeled images"):
        balance(pool, tmp_path / "b")


def test_truncated_predictions_name_the_file(pool, tmp_path):
    path = os.path.join(pool.predictions, os.path.basename(pool.records.files[0]))
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:-5])
    with pytest.raises((InputError, RuntimeError), match="unlabeled-00000"):
        balance(pool, tmp_path / "b")


def test_balanced_records_train(pool, tmp_path):
    """What balancing writes is what the training pipeline reads."""
    from data import augmentation, pipeline

    stream = pipeline.TrainingInput(
        balance(pool, tmp_path / "b"),
        image_size=8,
        augmentation=augmentation.Augmentation(crop="pad", num_ops=0),
        seed=0,
        kind="pseudo_labeled",
    )
    batch = next(iter(pipeline.training_batches(stream, 40)))
    assert batch["image"].shape == (40, 8, 8, 3)
    counts = np.bincount(batch["label"].numpy(), minlength=3)
    assert counts.tolist() == [20, 20, 0]
    tf.debugging.assert_near(tf.reduce_sum(batch["probabilities"], -1), tf.ones(40))
