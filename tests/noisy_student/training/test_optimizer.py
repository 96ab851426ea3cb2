"""RMSProp and the schedule against the published code's recurrences."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from noisy_student.config import TrainingConfig
from noisy_student.training.optimizer import (
    CosineSchedule,
    PublishedSchedule,
    RMSProp,
    schedule_for,
)


def test_rmsprop_reproduces_tf1_on_a_parabola():
    # w0 = 1, loss w²/2, learning rate 0.1: values seen from TF1.
    weight = keras.Variable(1.0)
    optimizer = RMSProp(0.1)
    seen = []
    for _ in range(3):
        optimizer.apply_gradients([(tf.convert_to_tensor(weight), weight)])
        seen.append(float(weight.value))
    np.testing.assert_allclose(seen, [0.9000500, 0.7192692, 0.4822070], atol=2e-7)


def test_rmsprop_slots_start_at_one_and_zero():
    optimizer = RMSProp(0.1)
    optimizer.build([keras.Variable([1.0, 2.0])])
    slots = {v.name: v.numpy().tolist() for v in optimizer.variables}
    squares = [value for name, value in slots.items() if "mean_square" in name]
    momenta = [value for name, value in slots.items() if "momentum" in name]
    assert squares == [[1.0, 1.0]]
    assert momenta == [[0.0, 0.0]]


def test_learning_rate_multiplies_before_the_momentum():
    # Halving the rate later must not scale the momentum gathered before.
    weight = keras.Variable(0.0)
    optimizer = RMSProp(keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.0]))
    optimizer.apply_gradients([(tf.constant(1.0), weight)])
    first = float(weight.value)
    optimizer.apply_gradients([(tf.constant(1.0), weight)])
    assert float(weight.value) == pytest.approx(first + 0.9 * first, rel=1e-6)


@pytest.fixture
def svhn_schedule():
    """The published SVHN recipe: 69,257 images, batch 128, 109,474 steps."""
    images, batch, steps = 69_257, 128, 109_474
    training = TrainingConfig(
        batch_size=batch,
        duration=f"{steps} steps",
        final_base_learning_rate=2e-4,
    )
    return schedule_for(training, images)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (1352, 0.004 - 0.004 / 2704), (2705, 0.007301384), (109_473, 9.089e-5)],
)
def test_schedule_gives_the_rates_of_the_svhn_recipe(svhn_schedule, step, rate):
    assert float(svhn_schedule(step)) == pytest.approx(rate, rel=1e-3, abs=1e-9)


def test_staircase_counts_from_step_zero():
    schedule = PublishedSchedule(1.0, warmup_steps=50, decay_steps=24)
    assert float(schedule(49)) == pytest.approx(0.98)
    assert float(schedule(50)) == pytest.approx(0.97**2)
    assert float(schedule(72)) == pytest.approx(0.97**3)


_STEPS = st.integers(0, 2**20)


@given(st.floats(1e-4, 10), st.integers(0, 10_000), st.integers(1, 10_000), _STEPS)
def test_published_schedule_is_its_formula_at_any_step(initial, warmup, decay, step):
    found = float(PublishedSchedule(initial, warmup, decay)(step))
    expected = initial * 0.97 ** (step // decay)
    if step < warmup:
        expected = initial * step / warmup
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-30)


@given(st.floats(1e-4, 10), st.floats(0, 1), st.integers(0, 9_999), st.data())
def test_cosine_schedule_is_its_formula_at_any_step(initial, share, warmup, data):
    total = data.draw(st.integers(warmup + 1, 20_000))
    step = data.draw(st.integers(0, total))
    end = share * initial
    schedule = CosineSchedule(initial, end, warmup, total)
    expected = initial * step / max(warmup, 1)
    if step >= warmup:
        done = (step - warmup) / (total - warmup)
        expected = end + (initial - end) * (1 + math.cos(math.pi * done)) / 2
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-6 * initial)
    assert float(schedule(warmup)) == pytest.approx(initial, rel=1e-6)
    assert float(schedule(total)) == pytest.approx(end, rel=1e-5, abs=1e-6 * initial)


@given(st.integers(1, 500), st.floats(1e-5, 0.9), st.integers(1, 512))
def test_a_final_rate_is_reached_within_a_stair_of_it(epochs, share, batch_size):
    training = TrainingConfig(
        batch_size=batch_size,
        duration=f"{epochs} epochs",
        warmup="0 epochs",
        base_learning_rate=0.1,
        final_base_learning_rate=0.1 * share,
    )
    schedule = schedule_for(training, 512)
    scale = batch_size / 256
    assert float(schedule(0)) == pytest.approx(0.1 * scale)
    last = float(schedule(training.steps_of("duration", 512))) / (0.1 * scale)
    assert share * 0.969 < last < share / 0.969


def test_no_warmup_starts_at_the_full_rate():
    schedule = PublishedSchedule(0.5, warmup_steps=0, decay_steps=24)
    assert float(schedule(0)) == 0.5


def test_cosine_falls_from_the_warm_up_to_the_end():
    training = TrainingConfig(
        batch_size=64,
        duration="20 epochs",
        warmup="4 epochs",
        base_learning_rate=1.0,
        final_base_learning_rate=0.1,
        schedule="cosine",
    )
    schedule = schedule_for(training, 640)  # 10 steps an epoch, 200 in all.
    rates = [float(schedule(step)) for step in (0, 20, 40, 120, 200, 250)]
    half = 0.25 * (0.1 + 0.9 * 0.5)
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, half, 0.025, 0.025], rtol=1e-5)


def test_train_ratio_multiplies_duration_and_decay():
    plain = TrainingConfig(batch_size=64, duration="20 epochs")
    twice = dataclasses.replace(plain, train_ratio=2.0)
    assert twice.total_steps(640) == 2 * plain.total_steps(640) == 400
    assert schedule_for(twice, 640).decay_steps == 48
    # Where the last rate is given, the staircase spans all steps after the warm-up.
    ending = dataclasses.replace(twice, final_base_learning_rate=0.016 * 0.97**7)
    assert schedule_for(ending, 640).decay_steps == pytest.approx(350 / 7)
