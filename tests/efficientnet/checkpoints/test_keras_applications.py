"""keras.applications both ways: equal logits, whatever its normalization holds."""

import keras
import numpy as np
import pytest

from efficientnet import build_efficientnet, checkpoints, without_values

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)


def _randomized(model):
    """Weights, statistics and all, that differ everywhere from the initial ones."""
    random = np.random.default_rng(1)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    return model


def _application(mean=None, variance=None):
    model = _randomized(
        keras.applications.EfficientNetB0(
            weights=None,
            classes=7,
            classifier_activation=None,
            input_shape=(64, 64, 3),
        )
    )
    if mean:
        layer = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
        layer.adapt_mean.assign(mean)
        layer.adapt_variance.assign(variance)
        layer.finalize_state()
    return model


def _assert_same_logits(ours, theirs, images):
    expected = theirs(images, training=False).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(
        ours(images, training=False), expected, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    ("mean", "variance"),
    [(None, None), (MEAN, np.square(STD))],
    ids=["untrained", "true variance"],
)
def test_from_keras_applications(images, mean, variance):
    source = _application(mean, variance)
    ours = checkpoints.from_keras_applications(source, "efficientnet-b0")
    _assert_same_logits(ours, source, images)


def test_published_weight_files_hold_std_for_variance(images):
    """With weights="imagenet" a Rescaling by 1/sqrt(std) follows; a file has none."""
    without = _application(MEAN, STD)
    ours = checkpoints.from_keras_applications(without, "efficientnet-b0")
    normalization = ours.get_layer("normalization")
    np.testing.assert_allclose(normalization.mean, MEAN, rtol=1e-6)
    np.testing.assert_allclose(normalization.std, STD, rtol=1e-6)

    x = without.layers[2](without.layers[1](without.input))
    assert isinstance(without.layers[2], keras.layers.Normalization)
    x = keras.layers.Rescaling([1 / s**0.5 for s in STD])(x)
    rest = keras.Model(without.layers[2].output, without.output)
    as_published = keras.Model(without.input, rest(x))
    _assert_same_logits(ours, as_published, images)


def test_to_keras_applications_and_back(images):
    ours = _randomized(build_efficientnet("efficientnet-b0", num_classes=7))
    theirs = checkpoints.to_keras_applications(ours, "efficientnet-b0", 64)
    _assert_same_logits(ours, theirs, images)
    again = checkpoints.from_keras_applications(theirs, "efficientnet-b0")
    for one, two in zip(ours.variables, again.variables, strict=True):
        assert one.path == two.path
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("number", [0, 2, 5, 7])
def test_every_variant_has_the_same_weights(number):
    with without_values():
        ours = build_efficientnet(f"efficientnet-b{number}", num_classes=1000)
        theirs = getattr(keras.applications, f"EfficientNetB{number}")(weights=None)
    shapes = [
        sorted(tuple(v.shape) for v in model.trainable_variables)
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_other_variants_are_refused():
    with pytest.raises(ValueError, match="another variant"):
        checkpoints.from_keras_applications(_application(), "efficientnet-b1")
    ours = build_efficientnet("efficientnet-b8", num_classes=2, width=0.1, depth=0.1)
    with pytest.raises(ValueError, match="efficientnet-b0 to efficientnet-b7"):
        checkpoints.to_keras_applications(ours, "efficientnet-b8")
    top = keras.applications.EfficientNetB0(weights=None, include_top=False)
    with pytest.raises(ValueError, match="include_top=True.*'predictions'"):
        checkpoints.from_keras_applications(top, "efficientnet-b0")
