"""Predictions are the EMA teacher's, by id, and survive interruption."""

import dataclasses
import glob
import os

import numpy as np
import pytest

from data import evaluation_input, records, soft_labels
from data.augmentation import PRESETS
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from data.records import RecordSet
from noisy_student.labeling import labeling
from noisy_student.labeling.predictions import index_path, read_index
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor
from noisy_student.stages.manifest import read_manifest
from noisy_student.stages.shards import shards_by_name


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
    stream = EvaluationInput(prepared.unlabeled, info.image_size, info.crop)
    second = prepared.unlabeled.files[1:2]
    batch = next(iter(evaluation_input.evaluation_batches(stream, 50, second)))
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
    labeling.label(teacher, part, str(tmp_path), cpu, labeling.LabelingOptions(batch_size))
    whole = read_predictions(os.path.join(finished_run[0], "generation_1/predictions"))
    for id_, row in read_predictions(str(tmp_path)).items():
        np.testing.assert_allclose(row, whole[id_], atol=1e-6)


def test_rerun_labels_only_missing_shards(teacher, prepared, cpu, tmp_path, monkeypatch):
    predictor, counts = labeling.Predictor, prepared.unlabeled.examples_per_file
    options = labeling.LabelingOptions(batch_size=64)

    class Dying(predictor):
        """Stops in the midst of the third shard."""

        def start(self, images, draw):
            if draw == 2 * 2**15 + 2:
                raise KeyboardInterrupt
            return super().start(images, draw)

    monkeypatch.setattr(labeling, "Predictor", Dying)
    with pytest.raises(KeyboardInterrupt):
        labeling.label(teacher, prepared.unlabeled, str(tmp_path), cpu, options)
    names = [os.path.basename(path) for path in prepared.unlabeled.files]
    # Whole shards are on record, with their index; of the third there is no trace.
    there = {*names[:2], *(index_path(name) for name in names[:2])}
    assert set(os.listdir(tmp_path)) == {*there, "manifest.json", "finished_shards"}
    notes = {f"{name}.json" for name in names[:2]}
    assert set(os.listdir(tmp_path / "finished_shards")) == notes
    # As if a kill had come between writing the second and the record of it.
    os.remove(tmp_path / "finished_shards" / f"{names[1]}.json")
    monkeypatch.setattr(labeling, "Predictor", predictor)
    before = os.stat(tmp_path / names[0])
    labeling.label(teacher, prepared.unlabeled, str(tmp_path), cpu, options)
    after = os.stat(tmp_path / names[0])
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert len(read_predictions(str(tmp_path))) == sum(counts)


def test_a_noised_teacher_draws_noise_of_seed_and_shard(teacher, prepared, cpu, tmp_path):
    augmentation = PRESETS["digits"]

    def labeled(name, files, seed=0):
        counts = [
            count
            for path, count in zip(
                prepared.unlabeled.files, prepared.unlabeled.examples_per_file, strict=True
            )
            if path in files
        ]
        part = dataclasses.replace(
            prepared.unlabeled, files=files, examples_per_file=tuple(counts)
        )
        directory = str(tmp_path / name)
        options = labeling.LabelingOptions(64, labeling.TeacherNoise(augmentation, seed))
        labeling.label(teacher, part, directory, cpu, options)
        return directory

    files = prepared.unlabeled.files
    whole = read_predictions(labeled("whole", files[:2]))
    again = read_predictions(labeled("again", files[:2]))
    other = read_predictions(labeled("other", files[:1], seed=1))
    clean = tmp_path / "clean"
    first = dataclasses.replace(
        prepared.unlabeled,
        files=files[:1],
        examples_per_file=prepared.unlabeled.examples_per_file[:1],
    )
    labeling.label(teacher, first, str(clean), cpu)
    clean = read_predictions(str(clean))
    assert all((again[id_] == row).all() for id_, row in whole.items())
    assert not any(np.allclose(other[id_], whole[id_], atol=1e-6) for id_ in other)
    distance = np.mean([np.abs(whole[id_] - row).sum() for id_, row in clean.items()])
    assert 0.01 < distance < 1.9  # Other predictions, not those of another model.
    agreeing = np.mean([whole[id_].argmax() == row.argmax() for id_, row in clean.items()])
    assert agreeing > 0.2
    with pytest.raises(InputError, match="teacher_noise"):
        labeling.label(teacher, first, str(tmp_path / "other"), cpu)


def test_dropout_without_input_noise_leaves_statistics_and_neighbours_alone(
    teacher, prepared, cpu
):
    # With its dropout and stochastic depth at 0, a noised teacher is the clean one:
    # batch norm neither uses a batch's statistics nor moves its own.
    model, info = model_files.load_model(teacher)
    stream = EvaluationInput(prepared.unlabeled, info.image_size, info.crop)
    first = prepared.unlabeled.files[:1]
    batches = evaluation_input.evaluation_batches(stream, 64, first)
    noised, clean = Predictor(model, cpu, 64, noise_seed=1), Predictor(model, cpu, 64)
    for layer in noised._model._flatten_layers():
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    before = [value.copy() for value in noised._model.get_weights()]
    for batch in batches.take(2).as_numpy_iterator():
        expected = clean(batch["image"])
        np.testing.assert_allclose(noised(batch["image"]), expected, atol=1e-6)
    for value, kept in zip(noised._model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def test_compact_labels_are_those_of_float32(
    teacher, prepared, finished_run, cpu, tmp_path
):
    part = dataclasses.replace(
        prepared.unlabeled, files=prepared.unlabeled.files[:1], examples_per_file=(327,)
    )
    options = labeling.LabelingOptions(label_format="top_3")
    labeling.label(teacher, part, str(tmp_path), cpu, options)
    whole = read_predictions(os.path.join(finished_run[0], "generation_1/predictions"))
    (path,) = glob.glob(f"{tmp_path}/*.tfrecord")
    top_3 = soft_labels.parse_format("top_3")
    assert soft_labels.format_of(path) == top_3
    for example in records.read_shard(path):
        feature = example.features.feature
        expected = whole[feature["image/id"].bytes_list.value[0]]
        found = soft_labels.decode(feature, top_3, 10)
        best = np.argsort(-expected)[:3]
        np.testing.assert_allclose(found[best], expected[best], rtol=2e-3)
        assert feature["label"].int64_list.value[0] == best[0]
    with pytest.raises(InputError, match="label_format: 'top_3' -> 'float32'"):
        labeling.label(teacher, part, str(tmp_path), cpu)
    options = labeling.LabelingOptions(label_format="top_11")
    with pytest.raises(InputError, match="at most 10"):
        labeling.label(teacher, part, str(tmp_path / "other"), cpu, options)


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
        shards_by_name(twice)


def test_directory_without_a_model_is_refused(tmp_path, prepared, cpu):
    with pytest.raises(InputError, match=r"model.*model\.keras"):
        labeling.label(str(tmp_path), prepared.unlabeled, str(tmp_path / "p"), cpu)
