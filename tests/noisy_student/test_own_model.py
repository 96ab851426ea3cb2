"""The loop with a Keras model of the user's own, and models it refuses."""

import dataclasses
import os
import random
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.errors import InputError
from noisy_student import config, iterate
from noisy_student.config import ModelConfig
from noisy_student.iteration import jobs
from noisy_student.models import model_files
from noisy_student.models.warm_start import initial_weights
from noisy_student.preparation.preparation import prepare
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import losses, training
from noisy_student.training.train_step import NoisyStudentTrainer
from tests.conftest import tiny_config

HERE = "tests.noisy_student.own_networks"


def own(name, **changes) -> ModelConfig:
    return ModelConfig(model_fn=f"{HERE}:{name}", image_size=16, **changes)


@pytest.fixture(scope="module")
def own_run(tmp_path_factory, cpu):
    """work_dir and summary of the whole loop with an own model."""
    settings = tiny_config(teacher=own("small"), student=own("small"), control=False)
    work_dir = str(tmp_path_factory.mktemp("own_run"))
    return work_dir, iterate.iterate(settings, work_dir, cpu)


def test_the_whole_loop_runs_and_exports(own_run):
    work_dir, summary = own_run
    assert [row["role"] for row in summary["generations"]] == ["teacher", "student"]
    student = os.path.join(work_dir, "generation_1/student")
    model, info = model_files.load_model(student)
    assert info.variant == f"{HERE}:small"
    assert info.parameters == 3 * 3 * 3 * 6 + 2 * 6 + 6 * 10 + 10
    exported = tf.saved_model.load(os.path.join(work_dir, "export/saved_model"))
    images = np.random.default_rng(0).integers(0, 255, [3, 16, 16, 3], dtype=np.uint8)
    answer = exported.signatures["images"](images=tf.constant(images))
    expected = tf.nn.softmax(model(images.astype(np.float32), training=False))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    assert np.ptp(expected.numpy()) > 1e-3


def test_model_loads_in_another_process_by_the_module_on_record(own_run):
    directory = os.path.join(own_run[0], "generation_1/student")
    code = (
        "import sys; from noisy_student.models import model_files\n"
        "print(model_files.load_model(sys.argv[1])[1].parameters)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, directory], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split()[-1] == "244"


@pytest.fixture
def job(tiny, prepared_by_own_run):
    short = dataclasses.replace(tiny.teacher_training, duration="6 epochs")
    settings = dataclasses.replace(tiny, teacher=own("small"), teacher_training=short)
    return jobs.teacher_job(settings, prepared_by_own_run)


@pytest.fixture(scope="module")
def prepared_by_own_run(own_run):
    return prepare(tiny_config().data, os.path.join(own_run[0], "data"), seed=0)


@pytest.mark.slow
def test_resumed_training_equals_an_unbroken_one(job, tmp_path, assert_resumes):
    assert_resumes(job, killed_before_loop=2)
    model, _ = model_files.load_model(str(tmp_path / "killed"))
    state = [v for v in model.variables if "seed_generator" in v.path]
    assert len(state) == 1  # Of Keras' own dropout: part of the checkpoint.


def test_it_starts_from_weights_and_a_new_head(job, cpu, own_run):
    teacher = os.path.join(own_run[0], "generation_0/teacher")
    initial = initial_weights(teacher)
    started = dataclasses.replace(job, initial_weights=initial)
    saved, _ = model_files.load_model(teacher)
    trainer = NoisyStudentTrainer(started, cpu)
    for theirs, ours in zip(saved.weights, trainer.model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    initial = dataclasses.replace(initial, new_head=True)
    trainer = NoisyStudentTrainer(
        dataclasses.replace(started, initial_weights=initial), cpu
    )
    same = [
        np.array_equal(ours.numpy(), theirs.numpy())
        for theirs, ours in zip(saved.weights, trainer.model.weights, strict=True)
    ]
    assert same == [True] * 5 + [False] * 2  # Convolution, 4 of batch norm, classifier.


def test_bfloat16_has_a_finite_float32_loss_and_saves_float32(job, cpu, tmp_path):
    half = dataclasses.replace(job, model=own("small", precision="mixed_bfloat16"))
    half = dataclasses.replace(
        half, training=dataclasses.replace(job.training, duration="1 epoch")
    )
    training.train(half, str(tmp_path), cpu)
    model, _ = model_files.load_model(str(tmp_path))
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    assert read_manifest(str(tmp_path))["results"]["steps"] == 1


def test_weight_decay_leaves_batch_norm_out():
    decayed = {
        v.path.split("/")[-2][:5] for v in losses.decayed_variables(own("small").build(10))
    }
    assert decayed == {"conv2", "dense"}


@pytest.mark.parametrize("name", ["small", "sequential", "random_constant"])
def test_seed_decides_the_weights_and_leaves_other_generators_alone(name):
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.uniform()
    random.seed(5)
    np.random.seed(5)
    first, again, other = (
        model_files.weights_digest(own(name).build(4, seed=seed), "own:model")
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert (random.random(), np.random.uniform()) == expected


def test_sequential_and_nested_models_load_as_they_were_saved(tmp_path):
    model = own("sequential").build(4, seed=1)
    model_files.save_model(
        model,
        str(tmp_path),
        class_names=list("abcd"),
        image_size=16,
        crop="pad",
        variant=f"{HERE}:sequential",
    )
    loaded, info = model_files.load_model(str(tmp_path))
    assert info.parameters == 3 * 3 * 3 * 4 + 4 + 2 * 4 + 4 * 4 * 4 * 4 + 4
    images = tf.random.uniform([2, 16, 16, 3], maxval=255, seed=1)
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)


@pytest.mark.parametrize(
    ("model_fn", "message"),
    [
        ("small", "expected module:function, such as .*received 'small'"),
        ("no_such_module:small", "ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{HERE}:smal", "a function smal in .*own_networks.py; there is none.*mean small"),
        (f"{HERE}:not_a_function", "it is a int"),
        (f"{HERE}:nothing", "sequential keras.Model .*received builtins.NoneType"),
        (f"{HERE}:positional", "TypeError: .*num_classes"),
        (f"{HERE}:failing", r"RuntimeError: no such weights \(own_networks.py, line \d+\)"),
        (f"{HERE}:without_input", "begins with keras.Input"),
        (f"{HERE}:subclass", "the subclass .*_Subclass"),
        (f"{HERE}:always_32", r"input shape \(None, 16, 16, 3\).*received \(None, 32, 32"),
        (f"{HERE}:with_softmax", "expected logits; .* softmax in .*activation=None"),
        (f"{HERE}:with_softmax_operation", "expected logits; .* softmax"),
        (f"{HERE}:with_inner_sigmoid", "expected logits; .* sigmoid"),
        (f"{HERE}:unnamed_noise", "a name of its own .*'dropout.*', which Keras made"),
        (f"{HERE}:noise_of_one_name", "a name of its own .*received 'noise' twice"),
    ],
)
def test_functions_of_no_use_are_refused(model_fn, message):
    model = dataclasses.replace(own("small"), model_fn=model_fn)
    with pytest.raises(InputError, match=f"`model_fn`.*{message}"):
        config.check_model(model)


def test_settings_around_it_are_checked(tiny):
    with pytest.raises(
        InputError, match=r"output shape \(None, 7\).*received \(None, 10\)"
    ):
        own("always_10").build(7)
    with pytest.raises(InputError, match="`student_image_size`.*student_model_fn"):
        config.check_model(dataclasses.replace(own("small"), image_size=0), "student_")
    with pytest.raises(InputError, match="`remat`.*model_fn"):
        config.check_model(own("small", remat=True))
    smaller = dataclasses.replace(tiny, teacher=own("sequential"), student=own("small"))
    with pytest.raises(InputError, match=r"teacher's [\d,]+ par.*own_networks:small"):
        config.check(smaller)
    config.check_model(own("own_efficientnet"))  # Free sides are as good.


def test_a_model_whose_layers_are_unknown_says_so(own_run, tmp_path):
    """As where the module cannot be imported: in a process that is elsewhere."""
    directory = os.path.join(own_run[0], "generation_1/student")
    code = (
        "import sys, shutil, json; from noisy_student.models import model_files\n"
        "shutil.copytree(sys.argv[1], sys.argv[2]); path = sys.argv[2] + '/model.json'\n"
        "info = json.load(open(path)); info['variant'] = 'lost:small'\n"
        "json.dump(info, open(path, 'w'))\n"
        "try: model_files.load_model(sys.argv[2])\n"
        "except model_files.InputError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, directory, str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "expected the layers of lost:small to be known to Keras" in run.stdout, (
        run.stderr
    )
    assert "register_keras_serializable" in run.stdout


@pytest.mark.slow
def test_resnet50_of_keras_applications(tiny, prepared_by_own_run, cpu, tmp_path):
    short = dataclasses.replace(tiny.teacher_training, duration="3 epochs")
    model = dataclasses.replace(own("resnet50"), image_size=32)
    settings = dataclasses.replace(tiny, teacher=model, teacher_training=short)
    job = jobs.teacher_job(settings, prepared_by_own_run)
    info = training.train(job, str(tmp_path), cpu)
    assert info.parameters == 23_555_082
    assert config.parameter_count(model, 10) == info.parameters
    loaded, _ = model_files.load_model(str(tmp_path))
    images = tf.random.uniform([2, 32, 32, 3], maxval=255, seed=1)
    assert loaded(images, training=False).shape == (2, 10)
