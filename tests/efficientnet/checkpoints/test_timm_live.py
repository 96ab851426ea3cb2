"""Against timm itself: names and shapes of all variants, logits both ways. Slow."""

import numpy as np
import pytest

from efficientnet import VARIANTS, build_efficientnet, checkpoints, without_values
from efficientnet.checkpoints import state_dict

pytestmark = pytest.mark.slow
# Of neither exists a timm model.
MISSING = {"efficientnet-l0", "efficientnet-l1"}


@pytest.fixture(scope="module")
def timm():
    from benchmarks import without_torchvision

    without_torchvision.install()
    return pytest.importorskip("timm")


def _timm_name(variant):
    return "tf_" + variant.replace("-", "_")


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - MISSING))
def test_names_and_shapes_are_timms(timm, variant):
    import torch

    with torch.device("meta"):  # L2 has 480 million parameters.
        theirs = timm.create_model(_timm_name(variant)).state_dict()
    with without_values():
        ours = build_efficientnet(variant, num_classes=1000)
        named = state_dict._named(ours, "timm")
    shapes = {
        name: tuple(
            np.array(variable.shape)[
                list(state_dict._axes(len(variable.shape), place, True))
            ]
        )
        for place, (name, variable) in named.items()
    }
    counters = {name for name in theirs if name.endswith("num_batches_tracked")}
    assert shapes == {
        name: tuple(value.shape) for name, value in theirs.items() if name not in counters
    }


@pytest.mark.parametrize("variant", ["efficientnet-b0", "efficientnet-lite0"])
def test_logits_are_equal_both_ways(timm, variant, tmp_path):
    import safetensors.torch
    import torch

    size = VARIANTS[variant].resolution
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    family = VARIANTS[variant].family
    normalized = (pixels / 255 - np.array(family.mean)) / np.array(family.std)
    channels_first = torch.tensor(normalized.transpose(0, 3, 1, 2), dtype=torch.float32)

    def timm_logits(model):
        with torch.no_grad():
            return model.eval()(channels_first).numpy()

    torch.manual_seed(0)
    theirs = timm.create_model(_timm_name(variant))
    theirs.train()(channels_first)  # Moves the moving statistics.
    path = str(tmp_path / "theirs.safetensors")
    safetensors.torch.save_file(theirs.state_dict(), path)
    ours = build_efficientnet(variant, num_classes=1000)
    checkpoints.load_state_dict(ours, path)
    expected = timm_logits(theirs)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(ours(pixels), expected, atol=tolerance)

    ours = build_efficientnet(variant, num_classes=1000, seed=5)
    ours(pixels, training=True)
    path = str(tmp_path / "ours.safetensors")
    checkpoints.save_state_dict(ours, path)
    fresh = timm.create_model(_timm_name(variant))
    fresh.load_state_dict(safetensors.torch.load_file(path))
    expected = ours(pixels).numpy()
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(timm_logits(fresh), expected, atol=tolerance)
