"""Predictions are the EMA teacher's, by id, and survive interruption."""

import dataclasses
import os

import numpy as np
import pytest

from data import pipeline, records
from data.errors import InputError
from data.records import RecordSet
from noisy_student import labeling, model_files
from noisy_student.manifest import read_manifest
from noisy_student.predictions import read_index


@pytest.fixture
def teacher(finished_run):
    return os.path.join(finished_run[0], "generation_0/teacher")


def read_predictions(directory):
    """probabilities by id."""
    return {
        features["image/id"].bytes_list.value[0]: np.array(
            features["probabilities"].float_list.value, np.float32
        )
        for name in read_manifest(directory)["shards"]
        for example in records.read_shard(os.path.join(directory, name))
        for features in [example.features.feature]
    }


def test_probabilities_are_those_of_the_noiseless_model(teacher, finished_run, prepared):
    import tensorflow as tf

    predictions = read_predictions(
        os.path.join(finished_run[0], "generation_1/predictions")
    )
    model, info = model_files.load_model(teacher)
    batch = next(
        iter(
            pipeline.evaluation_batches(
                prepared.unlabeled.files[1:2], info.image_size, info.crop, 50
            )
        )
    )
    expected = tf.nn.softmax(model(batch["image"], training=False)).numpy()
    for id_, row in zip(batch["id"].numpy(), expected, strict=True):
        np.testing.assert_allclose(predictions[id_], row, atol=1e-5)
    assert len(predictions) == prepared.unlabeled.num_examples


def test_index_agrees_with_the_probabilities(finished_run):
    directory = os.path.join(finished_run[0], "generation_1/predictions")
    predictions = read_predictions(directory)
    seen = 0
    for name in read_manifest(directory)["shards"]:
        index = read_index(os.path.join(directory, name))
        for id_, label, confidence in zip(
            index.ids, index.labels, index.confidences, strict=True
        ):
            assert predictions[id_].argmax() == label
            assert predictions[id_].max() == confidence
            seen += 1
    assert seen == len(predictions)


@pytest.mark.parametrize("batch_size", [7, 256])
def test_batch_size_does_not_matter(
    teacher, prepared, finished_run, cpu, tmp_path, batch_size
):
    part = dataclasses.replace(
        prepared.unlabeled, files=prepared.unlabeled.files[:1], examples_per_file=(327,)
    )
    labeling.label(teacher, part, str(tmp_path), cpu, batch_size)
    whole = read_predictions(os.path.join(finished_run[0], "generation_1/predictions"))
    for id_, row in read_predictions(str(tmp_path)).items():
        np.testing.assert_allclose(row, whole[id_], atol=1e-6)


def test_rerun_labels_only_missing_shards(teacher, prepared, cpu, tmp_path, monkeypatch):
    labeled, whole = [], labeling._predict_shard

    def dying(predictor, path, *rest):
        if len(labeled) == 2:
            raise KeyboardInterrupt
        labeled.append(os.path.basename(path))
        return whole(predictor, path, *rest)

    monkeypatch.setattr(labeling, "_predict_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        labeling.label(teacher, prepared.unlabeled, str(tmp_path), cpu)
    # As if a kill had come between writing the second and the record of it.
    os.remove(tmp_path / "finished_shards" / f"{labeled.pop()}.json")
    monkeypatch.setattr(labeling, "_predict_shard", whole)
    before = {name: os.stat(tmp_path / name).st_mtime_ns for name in labeled}
    labeling.label(teacher, prepared.unlabeled, str(tmp_path), cpu)
    assert {name: os.stat(tmp_path / name).st_mtime_ns for name in labeled} == before
    assert len(read_predictions(str(tmp_path))) == prepared.unlabeled.num_examples


def test_other_teacher_in_an_old_directory_is_refused(finished_run, prepared, cpu):
    work_dir, _ = finished_run
    with pytest.raises(InputError, match="teacher_sha256"):
        labeling.label(
            os.path.join(work_dir, "generation_1/student"),
            prepared.unlabeled,
            os.path.join(work_dir, "generation_1/predictions"),
            cpu,
        )


def test_equal_file_names_are_refused():
    twice = RecordSet(("a/x.tfrecord", "b/x.tfrecord"), (1, 1), ())
    with pytest.raises(InputError, match="different names"):
        labeling.shards_by_name(twice)


def test_directory_without_a_model_is_refused(tmp_path, prepared, cpu):
    with pytest.raises(InputError, match=r"model.*model\.keras"):
        labeling.label(str(tmp_path), prepared.unlabeled, str(tmp_path / "p"), cpu)
