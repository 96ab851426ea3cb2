"""FixRes: larger clean images, frozen layers that keep the model's values."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from data import augmentation, evaluation_input, pipeline, streams
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.export import model_card
from noisy_student.lineage import provenance
from noisy_student.models import model_files
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import fixres, optimizer, training
from noisy_student.training.train_step import NoisyStudentTrainer
from tests.tpu_scripts.test_scripts import run_script


@pytest.fixture(scope="module")
def student(finished_run):
    return os.path.join(finished_run[0], "generation_1/student")


@pytest.fixture
def job(student, prepared):
    """Four steps at 24 instead of 16 pixels, with much weight decay."""
    network, settings = fixres.default_settings(student)
    network = dataclasses.replace(network, image_size=24)
    settings = dataclasses.replace(settings, duration="4 epochs", weight_decay=0.1)
    return fixres.fixres_job(student, prepared.labeled, network, settings, seed=3)


def changed_layers(before, after) -> set[str]:
    return {
        theirs.path.split("/")[0]
        for theirs, ours in zip(before.variables, after.variables, strict=True)
        if theirs.numpy().tobytes() != ours.numpy().tobytes()
    }


@pytest.mark.slow
def test_frozen_layers_keep_the_models_values_through_training_and_a_kill(
    job, student, cpu, tmp_path, assert_resumes
):
    saved, _ = model_files.load_model(student)
    assert job.training.frozen_blocks == 3  # Of 7 blocks.
    trainer = NoisyStudentTrainer(job, cpu)
    assert changed_layers(saved, trainer.model) == set()

    assert_resumes(job, killed_before_loop=2)
    tuned, info = model_files.load_model(str(tmp_path / "unbroken"))
    assert info.image_size == 24
    deep = {"block_3", "block_4", "block_5", "block_6", "head", "head_dense"}
    assert changed_layers(saved, tuned) == deep
    newest = tf.train.latest_checkpoint(str(tmp_path / "unbroken/checkpoints"))
    trainer.checkpoint().restore(newest).assert_existing_objects_matched()
    assert changed_layers(saved, trainer.model) == deep


def test_it_trains_on_the_evaluation_crop_of_the_larger_size(job):
    stream = streams.TrainingInput(job.labeled, 24, job.augmentation, job.seed)
    batch = next(iter(pipeline.training_batches(stream, 20)))
    evaluation = EvaluationInput(job.labeled, 24, "pad")
    clean = next(iter(evaluation_input.evaluation_batches(evaluation, 20)))
    assert batch["image"].dtype == tf.float32
    order = {image.tobytes() for image in clean["image"].numpy()}
    assert {image.tobytes() for image in batch["image"].numpy()} == order
    assert batch["image"].shape[1:] == (24, 24, 3)


def test_photos_without_noise_are_their_evaluation_crops_not_clipped():
    photo = np.random.default_rng(0).integers(0, 2, [50, 70, 3], dtype=np.uint8) * 255
    encoded = tf.io.encode_png(photo)
    settings = augmentation.without_noise("inception")
    image = augmentation.augmented(encoded, 40, settings, tf.constant([1, 2], tf.int64))
    np.testing.assert_array_equal(image, augmentation.clean(encoded, 40, "inception"))
    assert image.numpy().max() > 255
    with_flip = dataclasses.replace(settings, horizontal_flip=True)
    seen = set()
    for seed in range(8):
        key = tf.constant([seed, 2], tf.int64)
        seen.add(augmentation.augmented(encoded, 40, with_flip, key).numpy().tobytes())
    clipped = np.clip(image, 0, 255).astype(np.uint8)
    assert seen == {clipped.tobytes(), clipped[:, ::-1].tobytes()}


def test_settings_go_on_where_the_models_training_ended(student, tiny, tmp_path, job):
    network, settings = fixres.default_settings(student)
    assert network == tiny.student
    own = tiny.student_training
    end = float(optimizer.schedule_for(own, 20)(own.total_steps(20) - 1))
    start = optimizer.schedule_for(settings, 20)
    assert float(start(0)) == pytest.approx(end, rel=1e-4)
    assert (settings.duration, settings.unlabeled_ratio) == ("1.5 epochs", 0)
    assert (settings.batch_size, settings.ema_decay) == (20, own.ema_decay)

    converted = str(tmp_path)
    saved, info = model_files.load_model(student)
    model_files.save_model(
        saved,
        converted,
        class_names=info.class_names,
        image_size=16,
        crop="pad",
        variant=info.variant,
    )
    network, settings = fixres.default_settings(converted)
    assert network == ModelConfig(variant="efficientnet-b0", small_image=True)
    published = TrainingConfig(batch_size=2048, duration="350 epochs")
    schedule = optimizer.schedule_for(published, 1_281_167)
    for step in (0, settings.total_steps(1_281_167) - 1):
        rate = optimizer.schedule_for(settings, 1_281_167)(step)
        assert float(rate) == pytest.approx(float(schedule(218_948)), rel=1e-4)


def test_bad_settings_are_refused(job, student, prepared, cpu, tmp_path):
    small = dataclasses.replace(job.model, image_size=12)
    with pytest.raises(InputError, match=r"image_size.*16 pixels .* or more.*received 12"):
        fixres.fixres_job(student, prepared.labeled, small, job.training, 0)
    many = dataclasses.replace(job.training, frozen_blocks=8)
    with pytest.raises(InputError, match="frozen_blocks.*7 blocks; received 8"):
        training.train(dataclasses.replace(job, training=many), str(tmp_path / "t"), cpu)
    random = dataclasses.replace(job, initial_weights=None)
    with pytest.raises(InputError, match="frozen_blocks.*random weights.*--init_from"):
        training.train(random, str(tmp_path / "t"), cpu)
    assert not (tmp_path / "t").exists()


@pytest.mark.slow
def test_the_script_tunes_and_measures(finished_run, student, tmp_path):
    data, output = f"{finished_run[0]}/data", str(tmp_path / "fixres")
    command = (
        f"--model={student}",
        f"--labeled_data=tfrecord:{data}/labeled",
        f"--test_data=tfrecord:{data}/test",
        f"--output_dir={output}",
    )
    printed = run_script("fixres", *command, expect=1)
    assert "Error: `image_size`: expected the side" in printed
    assert "trained at 16" in printed
    printed = run_script("fixres", *command, "--image_size=20", "--frozen_blocks=0")
    assert "20 pixels; stem and 0 blocks frozen" in printed
    assert "top-1 0." in printed
    manifest = read_manifest(output)
    assert manifest["results"]["steps"] == 2  # 1.5 epochs of one step, rounded.
    assert manifest["identity"]["model"]["image_size"] == 20
    saved, info = model_files.load_model(student)
    assert manifest["identity"]["initial_weights"]["weights_sha256"] == info.weights_sha256
    tuned, own_info = model_files.load_model(output)
    os.mkdir(f"{output}/saved_model")  # The card gives the sizes of an export's files.
    card = model_card.card(output, own_info, provenance.provenance(output, own_info), {})
    assert f"started from the weights | `{info.weights_sha256}` |" in card
    changed = changed_layers(saved, tuned)
    assert "stem" not in changed
    assert {"block_0", "head_dense"} <= changed
