"""A teacher that labels as the student trains gives the labels it would have stored."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from data import evaluation_input, pipeline, records
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from noisy_student.iteration import jobs
from noisy_student.models import model_files
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import training
from noisy_student.training.train_step import NoisyStudentTrainer


@pytest.fixture(scope="module")
def teacher(finished_run):
    return os.path.join(finished_run[0], "generation_0/teacher")


@pytest.fixture
def job(tiny, prepared, teacher):
    """Four steps of a student whose unlabeled images the teacher labels online."""
    settings = dataclasses.replace(tiny.student_training, duration="4 epochs")
    config = dataclasses.replace(tiny, student_training=settings)
    job = jobs.student_job(config, prepared, 1, prepared.unlabeled)
    return dataclasses.replace(job, online_teacher=teacher)


def stored_predictions(directory):
    """{id: probabilities} as labeling wrote them."""
    found = {}
    for path in records.glob_shards(directory):
        for example in records.read_shard(path):
            features = example.features.feature
            id_ = features[records.ID].bytes_list.value[0]
            found[id_] = np.array(features[records.PROBABILITIES].float_list.value)
    return found


def test_labels_are_those_that_labeling_stored(job, prepared, teacher, finished_run):
    stored = stored_predictions(os.path.join(finished_run[0], "generation_1/predictions"))
    info = model_files.load_info(teacher)
    id_of = {}
    stream = EvaluationInput(prepared.unlabeled, info.image_size, info.crop)
    for batch in evaluation_input.evaluation_batches(stream, 64).as_numpy_iterator():
        id_of.update(
            (x.tobytes(), i) for x, i in zip(batch["image"], batch["id"], strict=True)
        )
    trainer = NoisyStudentTrainer(job, tf.distribute.get_strategy())
    batches = pipeline.training_batches(
        trainer.data.stream(prepared.unlabeled, "unlabeled"), 40
    )
    batch = next(iter(batches))
    assert set(batch) == {"image", "teacher_image"}
    labeled = trainer._labeled_online(batch)
    for clean, label, found in zip(
        batch["teacher_image"].numpy(),
        labeled["label"].numpy(),
        labeled["probabilities"].numpy(),
        strict=True,
    ):
        expected = stored[id_of[clean.tobytes()]]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert label == expected.argmax()


def test_a_student_trains_and_the_teacher_stays_as_it_is(job, cpu, tmp_path, teacher):
    before = model_files.load_info(teacher).weights_sha256
    trainers = []

    class Kept(NoisyStudentTrainer):
        def __init__(self, *args):
            super().__init__(*args)
            trainers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "NoisyStudentTrainer", Kept)
        training.train(job, str(tmp_path), cpu)
    (trainer,) = trainers
    trained, _ = model_files.load_model(teacher)
    for one, other in zip(
        trainer._teacher.get_weights(), trained.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    manifest = read_manifest(str(tmp_path))
    assert manifest["identity"]["online_teacher"] == before
    assert 0 < training.read_history(str(tmp_path))[-1]["pseudo_labeled_loss"] < 20
    saved = tf.train.list_variables(tf.train.latest_checkpoint(f"{tmp_path}/checkpoints"))
    # Model, average, two optimizer slots: no fifth set of convolution kernels.
    kernels = [name for name, shape in saved if shape == list(_stem_shape(trainer))]
    assert len(kernels) == 4


def _stem_shape(trainer):
    return trainer.model.trainable_variables[0].shape


def test_a_teacher_of_other_classes_is_refused(job, cpu, tmp_path):
    other = dataclasses.replace(job.labeled, class_names=tuple("abcdefghij"))
    with pytest.raises(InputError, match=r"`online_teacher`: expected the classes.*a, b"):
        training.train(dataclasses.replace(job, labeled=other), str(tmp_path), cpu)
