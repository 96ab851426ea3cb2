"""Training from a model's weights: what is taken, what is refused, how it resumes."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from data.errors import InputError
from noisy_student import iterate
from noisy_student.iteration import jobs, places, run
from noisy_student.iteration.checks import check_run
from noisy_student.models import model_files, warm_start
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import training
from noisy_student.training.train_step import NoisyStudentTrainer
from noisy_student.training.training_loop import LoopOptions
from tests.tpu_scripts.test_scripts import NETWORK, run_script


@pytest.fixture(scope="module")
def teacher(finished_run):
    return os.path.join(finished_run[0], "generation_0/teacher")


@pytest.fixture
def job(tiny, prepared, teacher):
    """Four steps from the teacher's weights, with another seed than it had."""
    short = dataclasses.replace(
        tiny.teacher_training, duration="4 epochs", warmup="0 steps"
    )
    config = dataclasses.replace(tiny, teacher_training=short)
    return dataclasses.replace(
        jobs.teacher_job(config, prepared),
        seed=77,
        initial_weights=warm_start.initial_weights(teacher),
    )


def with_model(job, **changes):
    return dataclasses.replace(job, model=dataclasses.replace(job.model, **changes))


def test_network_averages_and_statistics_start_at_the_weights(job, cpu, teacher):
    trainer = NoisyStudentTrainer(job, cpu)
    saved, _ = model_files.load_model(teacher)
    named = [variable.path for variable in saved.variables]
    assert any("moving_variance" in path for path in named)
    for variable, ours, average in zip(
        saved.variables, trainer.model.variables, trainer.ema.values(), strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), variable.numpy())
        np.testing.assert_array_equal(average, variable.numpy())
    assert int(trainer.step.numpy()) == 0
    momenta = [v for v in trainer.optimizer.variables if "momentum" in v.path]
    assert momenta
    assert not any(v.numpy().any() for v in momenta)


@pytest.mark.slow
def test_killed_it_goes_on_from_its_checkpoint(job, cpu, tmp_path, assert_resumes, teacher):
    moved = str(shutil.copytree(teacher, tmp_path / "moved"))
    job = dataclasses.replace(job, initial_weights=warm_start.initial_weights(moved))
    resumed = assert_resumes(job, killed_before_loop=2)

    from_scratch = dataclasses.replace(job, initial_weights=None)
    with pytest.raises(InputError, match=r"initial_weights: {'weights_sha256.* -> None"):
        training.train(from_scratch, str(tmp_path / "killed"), cpu)
    shutil.rmtree(moved)  # A finished training needs it no more.
    assert training.train(job, str(tmp_path / "killed"), cpu) == resumed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"width": 1.0},
            r"first in layer stem/conv: kernel \(3, 3, 3, 8\) and kernel \(3, 3, 3, 32\), "
            r"there and here.*--width",
        ),
        ({"depth": 0.5}, r"first in layer block_\d/.*: .* and .*\(.*--depth"),
        ({"variant": "efficientnet-lite0"}, r"\(efficientnet-b0\) differs first in layer"),
    ],
)
def test_another_network_is_refused_by_its_first_layer(
    job, cpu, tmp_path, changes, message
):
    with pytest.raises(InputError, match=message):
        training.train(with_model(job, **changes), str(tmp_path / "t"), cpu)
    assert not (tmp_path / "t").exists()


def of_classes(job, names):
    return dataclasses.replace(
        job, labeled=dataclasses.replace(job.labeled, class_names=tuple(names))
    )


def test_other_classes_need_a_new_head(job, cpu, tmp_path, teacher):
    seven = of_classes(job, "0123456")
    with pytest.raises(InputError, match="the 7 classes .* one of 10.*--new_head"):
        training.train(seven, str(tmp_path), cpu)
    initial = dataclasses.replace(job.initial_weights, new_head=True)
    seven = dataclasses.replace(seven, initial_weights=initial)
    warm_start.check(initial, seven.model, seven.labeled.class_names)
    trainer = NoisyStudentTrainer(seven, cpu)
    saved, _ = model_files.load_model(teacher)
    random = seven.model.build(7, seed=seven.seed)
    for name in ("stem", "block_6", "head"):
        for theirs, ours in zip(
            saved.get_layer(name).variables,
            trainer.model.get_layer(name).variables,
            strict=True,
        ):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    new_head = trainer.model.get_layer("head_dense").kernel
    np.testing.assert_array_equal(new_head, random.get_layer("head_dense").kernel)
    assert new_head.shape[-1] == 7


def test_classes_of_other_names_are_refused_but_not_those_without(job, teacher, tmp_path):
    network, info = model_files.load_model(teacher)
    directory = str(tmp_path)
    model_files.save_model(
        network,
        directory,
        class_names=list("abcdefghij"),
        image_size=info.image_size,
        crop=info.crop,
        variant=info.variant,
    )
    named = warm_start.initial_weights(directory)
    with pytest.raises(InputError, match="class 0 is '0', in .* 'a'.*--new_head"):
        warm_start.check(named, job.model, job.labeled.class_names)
    # The teacher's are "0" to "9", as those of a model that was converted.
    warm_start.check(job.initial_weights, job.model, "abcdefghij")


def test_a_converted_models_own_pixel_scaling_is_kept(job, cpu, tmp_path):
    model = job.model
    network = efficientnet.build_efficientnet(
        model.variant,
        num_classes=10,
        width=model.width,
        depth=model.depth,
        small_image=model.small_image,
        mean=(0.5, 0.25, 0.125),
        std=(0.5, 0.25, 0.75),
    )
    model_files.save_model(
        network,
        str(tmp_path),
        class_names=[str(digit) for digit in range(10)],
        image_size=16,
        crop="pad",
        variant=model.variant,
    )
    initial = warm_start.initial_weights(str(tmp_path))
    trainer = NoisyStudentTrainer(dataclasses.replace(job, initial_weights=initial), cpu)
    images = tf.random.uniform([2, 16, 16, 3], maxval=255, seed=1)
    expected = network(images)
    for ours in (trainer.model, trainer.averaged_model()):
        np.testing.assert_allclose(ours(images), expected, atol=1e-5)


def test_weights_that_changed_meanwhile_are_refused(job):
    stale = dataclasses.replace(job.initial_weights, weights_sha256="0" * 64)
    with pytest.raises(InputError, match="expected the weights that were there.*0000"):
        warm_start.check(stale, job.model, job.labeled.class_names)
    with pytest.raises(InputError, match=r"`init_from`: expected a directory.*nowhere"):
        warm_start.initial_weights("nowhere")


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, by name: jobs that are not."""
    jobs = {}

    def train(job, directory, strategy, options, name, validation):
        jobs[name] = job

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "read_manifest", lambda _: {"timing": {}})
    return jobs


def test_students_start_from_their_teacher_where_asked(
    tiny, finished_run, cpu, teacher, trained
):
    student = os.path.join(finished_run[0], "generation_1/student")
    for asked in (False, True):
        config = dataclasses.replace(tiny, student_init_from_teacher=asked)
        stages = run.Run(config, places.WorkDir(finished_run[0]), cpu, LoopOptions())
        stages.prepare()
        stages.train_teacher()
        stages.train_student(1, None, teacher)
        stages.train_control(teacher)
        stages.train_student(2, None, student)
        found = {name: job.initial_weights for name, job in trained.items()}
        from_teacher = warm_start.initial_weights(teacher) if asked else None
        assert found == {
            "generation_0/teacher": None,
            "generation_1/student": from_teacher,
            "generation_1/control": from_teacher,
            "generation_2/student": warm_start.initial_weights(student) if asked else None,
        }


def test_all_trainings_of_a_run_start_from_a_model_where_asked(
    tiny, finished_run, cpu, teacher, trained
):
    for students_from_teacher in (False, True):
        config = dataclasses.replace(
            tiny, init_from=teacher, student_init_from_teacher=students_from_teacher
        )
        check_run(config, cpu, LoopOptions())
        stages = run.Run(config, places.WorkDir(finished_run[0]), cpu, LoopOptions())
        stages.prepare()
        stages.train_teacher()
        stages.train_student(1, None, teacher)
        stages.train_control(teacher)
        start = warm_start.initial_weights(teacher, new_head=True)
        student = warm_start.initial_weights(teacher) if students_from_teacher else start
        assert {name: job.initial_weights for name, job in trained.items()} == {
            "generation_0/teacher": start,
            "generation_1/student": student,
            "generation_1/control": student,
        }


def test_networks_unlike_the_model_to_start_from_are_refused(tiny, cpu, tmp_path, teacher):
    wider = dataclasses.replace(tiny.student, width=0.5)
    config = dataclasses.replace(tiny, student=wider, init_from=teacher)
    with pytest.raises(InputError, match="`init_from`: expected a model with the layers"):
        iterate.iterate(config, str(tmp_path / "run"), cpu)
    config = dataclasses.replace(tiny, init_from=str(tmp_path))
    with pytest.raises(InputError, match="`init_from`: expected a directory"):
        iterate.iterate(config, str(tmp_path / "run"), cpu)
    assert not (tmp_path / "run").exists()


def test_a_student_of_other_layers_is_refused_before_any_training(tiny, cpu, tmp_path):
    wider = dataclasses.replace(tiny.student, width=0.5)
    config = dataclasses.replace(tiny, student=wider, student_init_from_teacher=True)
    expected = r"student_init_from_teacher.*layer stem/conv: kernel \(3, 3, 3, 8\) and ker"
    with pytest.raises(InputError, match=expected):
        iterate.iterate(config, str(tmp_path / "run"), cpu)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_pre_trained_student_is_tuned_on_labels_alone(finished_run, tmp_path):
    """The paper's comparison to joint training, by the script; one tiny step."""
    student = os.path.join(finished_run[0], "generation_1/student")
    data = f"--labeled_data=tfrecord:{finished_run[0]}/data/labeled"
    tuned = str(tmp_path / "tuned")
    rates = (
        "--duration=1epochs",
        "--warmup=0steps",
        "--base_learning_rate=1e-7",
        "--final_base_learning_rate=0",
    )
    run_script(
        "train",
        "--role=teacher",
        f"--init_from={student}",
        data,
        f"--output_dir={tuned}",
        *NETWORK,
        *rates,
    )
    identity = read_manifest(tuned)["identity"]
    before, info = model_files.load_model(student)
    after, _ = model_files.load_model(tuned)
    assert identity["pseudo_labeled_data"] is None
    assert identity["initial_weights"]["weights_sha256"] == info.weights_sha256
    largest = 0.0
    for theirs, ours in zip(
        before.trainable_variables, after.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)
        largest = max(largest, np.abs(ours.numpy() - theirs.numpy()).max())
    assert largest > 0
    output = f"--output_dir={tmp_path}/x"
    printed = run_script("train", data, "--new_head", output, expect=1)
    assert "Error: `new_head`: expected --init_from" in printed
