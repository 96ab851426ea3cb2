"""Gradients, weightings and switches of one training step, on a tiny network."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data.augmentation import Augmentation
from data.records import RecordSet
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.training import accumulation, losses
from noisy_student.training.job import TrainingJob
from noisy_student.training.train_step import NoisyStudentTrainer

CLASSES, SIZE, LABELED, RATIO = 10, 16, 4, 2
TINY = dict(width=0.1, depth=0.1, image_size=SIZE)
QUIET = dict(dropout_rate=0.0, stochastic_depth_rate=0.0)


@pytest.fixture(scope="module")
def make_trainer():
    """A trainer; equal seeds give equal weights."""

    def make(model=None, **training):
        model = QUIET if model is None else model
        examples = RecordSet((), (100,), tuple("abcdefghij"))
        job = TrainingJob(
            labeled=examples,
            pseudo_labeled=examples,
            model=ModelConfig(**{**TINY, **model}),
            training=TrainingConfig(batch_size=LABELED, unlabeled_ratio=RATIO, **training),
            augmentation=Augmentation(),
            seed=3,
        )
        return NoisyStudentTrainer(job, tf.distribute.get_strategy())

    return make


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)

    def images(count):
        return rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)

    pseudo = RATIO * LABELED
    rows = {
        "labeled": {"image": images(LABELED), "label": rng.integers(0, CLASSES, LABELED)},
        "pseudo_labeled": {
            "image": images(pseudo),
            "label": rng.integers(0, CLASSES, pseudo),
            "probabilities": rng.dirichlet(np.ones(CLASSES), pseudo).astype(np.float32),
        },
    }
    return _converted(rows)


def _converted(rows):
    return tf.nest.map_structure(
        lambda x: tf.constant(x, tf.int32 if x.dtype == np.int64 else x.dtype), rows
    )


@pytest.fixture(scope="module")
def whole(make_trainer, batch):
    """Gradients and metrics of the step as published."""
    return make_trainer()._gradients(batch)


def _assert_close(found, expected, scale=1.0):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, scale * np.asarray(other), atol=1e-4, rtol=1e-3)


def test_parts_of_equal_halves_give_the_gradients_of_the_whole(make_trainer, batch):
    # Equal halves, so that batch norm sees the same statistics in both.
    twice = tf.nest.map_structure(lambda x: tf.concat([x, x], 0), batch)
    whole, metrics = make_trainer()._gradients(twice)
    parts, in_parts = make_trainer(accumulation_steps=2)._gradients(twice)
    _assert_close(parts, whole)
    assert set(in_parts) == set(metrics)
    for name, value in metrics.items():
        assert float(in_parts[name]) == pytest.approx(float(value), rel=1e-4)


def test_parts_are_different_rows_and_have_noise_of_their_own(make_trainer, batch):
    trainer = make_trainer({}, accumulation_steps=2)
    seen = []
    original = trainer._gradients_of_part

    def watched(part, number):
        seen.append((number, part["labeled"]["label"].numpy().tolist()))
        return original(part, number)

    trainer._gradients_of_part = watched
    trainer._gradients(batch)
    labels = batch["labeled"]["label"].numpy().tolist()
    assert seen == [(0, labels[:2]), (1, labels[2:])]
    half = tf.nest.map_structure(lambda x: x[: len(x) // 2], batch)
    first, again = (original(half, number)[1]["loss"] for number in (0, 1))
    assert float(first) != float(again)  # Other dropout, other dropped blocks.


def test_a_part_waits_for_the_gradients_before_it_by_its_values():
    """XLA heeds no other order: all parts' activations would be in memory at once."""

    @tf.function
    def wait(image, gradient):
        return accumulation.after({"image": image}, [gradient])["image"]

    image = tf.constant([[0, 7, 255]], tf.uint8)
    np.testing.assert_array_equal(wait(image, tf.constant([-3.0])), image)
    graph = wait.get_concrete_function(image, tf.constant([-3.0])).graph
    before, seen = [graph.outputs[0].op], set()
    while before:
        op = before.pop()
        seen.add(op.name)
        before += [x.op for x in op.inputs]
    assert {"image", "gradient"} <= seen


def test_concatenated_weighting_divides_the_data_term(make_trainer, batch, whole):
    _, reference = whole
    _, found = make_trainer(loss_weighting="concatenated")._gradients(batch)
    labeled, pseudo = (float(reference[f"{x}_loss"]) for x in ("labeled", "pseudo_labeled"))
    decay = float(reference["loss"]) - (labeled + RATIO * pseudo)
    assert decay > 0
    mean = (LABELED * labeled + RATIO * LABELED * pseudo) / (LABELED * (1 + RATIO))
    assert float(found["loss"]) == pytest.approx(mean + decay, rel=1e-5)


def test_hard_labels_are_smoothed_like_true_ones(make_trainer, batch):
    trainer = make_trainer(soft_labels=False)
    _, metrics = trainer._gradients(batch)
    images = tf.concat([batch[x]["image"] for x in ("labeled", "pseudo_labeled")], 0)
    logits = trainer.model(images, training=True)[LABELED:]
    expected = losses.hard_loss(batch["pseudo_labeled"]["label"], logits, 0.1)
    assert float(metrics["pseudo_labeled_loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_clipped_gradients_have_the_norm_and_the_direction(make_trainer, batch, whole):
    gradients, _ = whole
    norm = float(tf.linalg.global_norm(gradients))
    clipped = make_trainer(clip_gradient_norm=norm / 4)._clipped(gradients)
    assert float(tf.linalg.global_norm(clipped)) == pytest.approx(norm / 4, rel=1e-5)
    _assert_close(clipped, gradients, 0.25)
    _assert_close(make_trainer(clip_gradient_norm=norm * 2)._clipped(gradients), gradients)


def test_labeled_images_count_with_the_probability_and_the_sum_over_all(make_trainer):
    trainer = make_trainer(labeled_sample_probability=0.5)
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(size=(4000, CLASSES)).astype(np.float32))
    labels = tf.constant(rng.integers(0, CLASSES, 4000), tf.int32)
    from efficientnet import noise

    with noise.noise_key(3, 7):
        kept = trainer._objective.drawn(4000)
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert 0.45 < float(tf.reduce_mean(kept)) < 0.55
    all_, some = (float(losses.hard_loss(labels, logits, 0.1, x)) for x in (None, kept))
    assert some == pytest.approx(0.5 * all_, rel=0.1)
    assert make_trainer()._objective.drawn(4) is None
    # As published: half as many pseudo-labeled ones, half the rate, twice the steps.
    settings = TrainingConfig(
        batch_size=8, unlabeled_ratio=3, labeled_sample_probability=0.5, duration="2 epochs"
    )
    assert (settings.pseudo_batch_size, settings.total_steps(100)) == (12, 50)
    assert trainer.schedule.initial == pytest.approx(0.016 * 2 / 256)


@pytest.mark.parametrize("kind", ["dropout", "stochastic_depth"])
def test_noise_can_be_off_for_pseudo_labeled_rows(make_trainer, batch, kind):
    # Deep enough for blocks that can be dropped.
    shape = dict(depth=0.5, batch_norm_momentum=0.0)
    quiet = make_trainer({**QUIET, **shape})
    quiet.model(batch["pseudo_labeled"]["image"], training=True)  # Sets the statistics.

    def metrics(trainer):
        trainer.model.set_weights(quiet.model.get_weights())
        # In inference mode, so that rows do not touch each other.
        for layer in trainer.model._flatten_layers():
            if "BatchNormalization" in type(layer).__name__:
                layer.trainable = False
        found = trainer._gradients_of_part(batch, 0)[1]
        return {name: float(value) for name, value in found.items()}

    rates = {**QUIET, **shape, f"{kind}_rate": 0.5}
    on = metrics(make_trainer(rates))
    off = metrics(make_trainer(rates, **{f"pseudo_labeled_{kind}": False}))
    expected = metrics(quiet)
    clean = expected["pseudo_labeled_loss"]
    assert off["pseudo_labeled_loss"] == pytest.approx(clean, rel=1e-6)
    assert on["pseudo_labeled_loss"] != pytest.approx(clean, rel=1e-4)
    assert on["labeled_loss"] == off["labeled_loss"]
    assert on["labeled_loss"] != pytest.approx(expected["labeled_loss"], rel=1e-4)


def test_augmentation_can_be_off_for_pseudo_labeled_images(make_trainer):
    trainer = make_trainer(pseudo_labeled_augmentation=False)
    examples = trainer._job.labeled
    quiet = dataclasses.replace(Augmentation(), num_ops=0, cutout=False)
    assert trainer.data.stream(examples, "pseudo_labeled").augmentation == quiet
    assert trainer.data.stream(examples, "labeled").augmentation == Augmentation()
    assert (
        make_trainer().data.stream(examples, "pseudo_labeled").augmentation
        == Augmentation()
    )


def test_crop_and_mirror_can_be_off_for_pseudo_labeled_images(make_trainer):
    trainer = make_trainer(pseudo_labeled_random_crop=False)
    examples = trainer._job.labeled
    fixed = Augmentation(random_crop=False, horizontal_flip=False)
    assert trainer.data.stream(examples, "pseudo_labeled").augmentation == fixed
    assert trainer.data.stream(examples, "labeled").augmentation == Augmentation()


def test_images_without_any_noise_go_with_augmented_ones(make_trainer, batch, whole):
    """Table 6's left column: pseudo-labeled images are float32 then, the others uint8."""
    pseudo = batch["pseudo_labeled"]
    clean = {**pseudo, "image": tf.cast(pseudo["image"], tf.float32)}
    gradients, _ = make_trainer()._gradients({**batch, "pseudo_labeled": clean})
    _assert_close(gradients, whole[0])


def test_pre_training_learns_nothing_from_labels(make_trainer, batch, whole):
    trainer = make_trainer(labeled_loss_weight=0.0)
    gradients, metrics = trainer._gradients(batch)
    _, expected = whole
    difference = float(expected["loss"]) - float(metrics["loss"])
    assert difference == pytest.approx(float(expected["labeled_loss"]), rel=1e-4)
    other = {**batch["labeled"], "label": (batch["labeled"]["label"] + 1) % CLASSES}
    again, _ = trainer._gradients({**batch, "labeled": other})
    _assert_close(again, gradients)


@pytest.mark.slow
def test_the_step_compiles_with_xla_and_computes_the_same(make_trainer, batch):
    """Static shapes and two updates: what a TPU would be given."""
    found = {}
    for compiled in (False, True):
        trainer = make_trainer(warmup="0 steps", base_learning_rate=1.0)
        step = tf.function(trainer._train_step, jit_compile=compiled)
        for _ in range(2):
            step(batch)
        found[compiled] = trainer.ema.values(), trainer._sums.take()
    (plain, metrics), (compiled, in_xla) = found[False], found[True]
    for name, value in metrics.items():
        assert in_xla[name] == pytest.approx(value, rel=1e-4), name
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
def test_the_step_with_all_noise_and_parts_compiles_with_xla(make_trainer, batch):
    """XLA draws other numbers: only the size of the loss can be compared."""
    found = []
    for compiled in (False, True):
        trainer = make_trainer({}, accumulation_steps=2, clip_gradient_norm=1.0)
        step = tf.function(trainer._train_step, jit_compile=compiled)
        for _ in range(2):
            step(batch)
        found.append(trainer._sums.take()["loss"])
    assert found[1] == pytest.approx(found[0], rel=0.3)
