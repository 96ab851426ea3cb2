"""What replicas do together and alone, on eight virtual devices. Slow."""

import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data import files
from noisy_student.evaluation import evaluation
from noisy_student.models import model_files
from noisy_student.training import training
from noisy_student.training.history import read_history
from noisy_student.training.objective import Objective
from noisy_student.training.training_data import TrainingData
from tests.noisy_student.training import eight_replicas

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(finished_run, tmp_path_factory):
    """What the process with eight replicas wrote."""
    directory = str(tmp_path_factory.mktemp("eight"))
    module = "tests.noisy_student.training.eight_replicas"
    run = subprocess.run(
        [sys.executable, "-m", module, finished_run[0], directory],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return directory


@pytest.fixture(scope="module")
def found(out):
    return files.read_json(os.path.join(out, "found.json"))


def test_a_training_goes_on_with_another_number_of_replicas(
    out, finished_run, cpu, tmp_path
):
    job, _ = eight_replicas.student(finished_run[0], **eight_replicas.TOGETHER)
    assert job.training.batch_size == eight_replicas.REPLICAS  # An image on each.
    resumed = os.path.join(out, "resumed")
    of_eight = read_history(resumed)
    assert [row["step"] for row in of_eight] == [2, eight_replicas.KILLED_AT]
    training.train(job, resumed, cpu, eight_replicas.options())
    training.train(job, str(tmp_path), cpu, eight_replicas.options())
    rows, unbroken = read_history(resumed), read_history(str(tmp_path))
    assert [row["step"] for row in rows] == [2, 4, eight_replicas.STEPS]
    for row, expected in zip(rows, unbroken, strict=True):
        for name in ("loss", "labeled_loss", "learning_rate", "epoch"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4), name
    weights, expected = (
        model_files.load_model(directory)[0].get_weights()
        for directory in (resumed, str(tmp_path))
    )
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_batch_norm_takes_the_images_of_each_group_of_four(found, finished_run, cpu):
    job, _ = eight_replicas.student(finished_run[0], **eight_replicas.IN_GROUPS)
    batch = next(iter(TrainingData(job, cpu).batches(0)))
    alone = dataclasses.replace(job.model, batch_norm_group_size=1)
    model = alone.build(job.labeled.num_classes, seed=job.seed)
    objective = Objective(job.training, model, True)

    def loss_of(groups):
        losses = []
        for index in range(groups):
            part = tf.nest.map_structure(lambda x, i=index: tf.split(x, groups)[i], batch)
            labeled, pseudo = part["labeled"], part["pseudo_labeled"]
            images = tf.concat([labeled["image"], pseudo["image"]], 0)
            logits = model(images, training=True)
            losses.append(float(objective(labeled, pseudo, logits)[0]))
        return np.mean(losses)

    assert found["loss_in_groups"] == pytest.approx(loss_of(2), rel=1e-5)
    for groups in (1, 4, 8):
        assert found["loss_in_groups"] != pytest.approx(loss_of(groups), rel=1e-4)


def test_every_replica_has_noise_of_its_own_which_a_repeated_step_has_again(out):
    logits = np.load(os.path.join(out, "noisy_logits.npz"))
    assert len(logits["first"]) == eight_replicas.REPLICAS
    np.testing.assert_array_equal(logits["first"], logits["again"])
    drawn = [*logits["first"], *logits["next"]]
    for one, other in itertools.combinations(drawn, 2):
        assert np.abs(one - other).max() > 1e-3


def test_every_image_counts_once_whatever_the_last_batch(found, finished_run, cpu):
    _, data = eight_replicas.student(finished_run[0])
    sets = data.evaluation_sets()
    assert any(records.num_examples % eight_replicas.REPLICAS for records in sets.values())
    model = os.path.join(finished_run[0], "generation_1/student")
    for name, expected in evaluation.evaluate(model, sets, cpu).items():
        metrics = found["metrics"][name]
        for key in ("images", "top_1", "top_5", "per_class_accuracy"):
            assert metrics[key] == expected[key]
        assert metrics["cross_entropy"] == pytest.approx(expected["cross_entropy"])
