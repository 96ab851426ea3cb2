"""Attacks against what is known of a linear model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.errors import InputError
from efficientnet import build_efficientnet
from noisy_student.evaluation.attacks import Attack


@pytest.fixture(scope="module")
def linear():
    """Logits of two classes that are linear in 4 x 4 pixels, all weights different."""
    images = keras.Input((4, 4, 3))
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    model = keras.Model(images, logits)
    # Small, or float32 would have no gradient left: the loss of a sure model is flat.
    weights = np.random.default_rng(0).normal(0, 1e-3, (48, 2)).astype(np.float32)
    model.set_weights([weights, np.zeros(2, np.float32)])
    return model, weights


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, (5, 4, 4, 3)).astype(np.float32)


LABELS = np.array([0, 1, 0, 1, 1], np.int32)


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("epsilon", [2.0, 16.0])
def test_of_a_linear_model_every_pixel_goes_all_the_way_against_the_label(
    linear, images, epsilon, steps
):
    # The loss falls with z = logit of the label - the other: each pixel moves by ε
    # against the sign of its weight in z, wherever it was.
    model, weights = linear
    found = Attack(model, epsilon, steps)(images, LABELS).numpy()
    for image, label, adversarial in zip(images, LABELS, found, strict=True):
        slope = (weights[:, label] - weights[:, 1 - label]).reshape(4, 4, 3)
        expected = np.clip(image - epsilon * np.sign(slope), 0, 255)
        np.testing.assert_allclose(adversarial, expected, atol=1e-4)


def test_no_epsilon_leaves_images_but_for_values_outside(linear, images):
    outside = images.copy()
    outside[0, 0, 0] = -7.0, 130.0, 261.0
    found = Attack(linear[0], 0.0)(outside, LABELS).numpy()
    np.testing.assert_array_equal(found, np.clip(outside, 0, 255))


@pytest.fixture(scope="module")
def network():
    model = build_efficientnet(
        "efficientnet-b0", num_classes=10, width=0.2, depth=0.2, seed=0
    )
    return model


def loss_of(model, images, labels):
    logits = model(images, training=False)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()


def test_attacks_on_a_network_raise_the_loss_within_epsilon(network):
    generator = np.random.default_rng(2)
    images = generator.uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
    labels = generator.integers(0, 10, 6).astype(np.int32)
    before = loss_of(network, images, labels)
    fgsm = Attack(network, 4.0)(images, labels).numpy()
    pgd = Attack(network, 4.0, 10)(images, labels).numpy()
    for found in (fgsm, pgd):
        assert np.abs(found - images).max() <= 4.0 + 1e-4
        assert found.min() >= 0
        assert found.max() <= 255
        assert (loss_of(network, found, labels) > before).all()
    stronger = loss_of(network, pgd, labels) > loss_of(network, fgsm, labels)
    assert stronger.mean() > 0.5
    # Alone, without its neighbours, an image has the same attack.
    one = Attack(network, 4.0)(images[:1], labels[:1]).numpy()
    assert np.mean(np.abs(one[0] - fgsm[0]) < 1e-3) > 0.99


@pytest.mark.parametrize("steps", [1, 10])
def test_attacks_are_compiled_by_xla_once_for_all_epsilons(linear, images, steps):
    attack = Attack(linear[0], 2.0, steps)
    compiled = tf.function(attack, jit_compile=True)
    for epsilon in (2.0, 9.0):
        attack.set_epsilon(epsilon)
        expected = attack(images, LABELS)
        np.testing.assert_allclose(compiled(images, LABELS), expected, atol=1e-4)
    assert compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [((-1.0,), "`epsilon`: expected 0 to 255"), ((4.0, 0), "`steps`: expected 1 or more")],
)
def test_settings_outside_are_refused(linear, settings, message):
    with pytest.raises(InputError, match=message):
        Attack(linear[0], *settings)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 10])
def test_attacks_are_those_of_foolbox(network, steps):
    import foolbox

    generator = np.random.default_rng(2)
    images = generator.uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
    labels = generator.integers(0, 10, 6).astype(np.int32)
    theirs = foolbox.attacks.FGSM()
    if steps > 1:
        theirs = foolbox.attacks.LinfPGD(
            steps=steps, abs_stepsize=2.5 * 4.0 / steps, random_start=False
        )
    model = foolbox.TensorFlowModel(
        lambda x: network(x, training=False), bounds=(0, 255), device="/CPU:0"
    )
    given = tf.constant(images), tf.constant(labels, tf.int64)
    (expected,), _, _ = theirs(model, *given, epsilons=[4.0])
    found = Attack(network, 4.0, steps)(images, labels)
    np.testing.assert_allclose(found, expected, atol=1e-3)
