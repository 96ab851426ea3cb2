"""PyTorch state dicts: timm's recorded logits, names and shapes, refusals."""

import pathlib

import numpy as np
import pytest
import safetensors.numpy

from efficientnet import build_efficientnet
from efficientnet.checkpoints import places, state_dict

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
RECORDED = str(GOLDEN / "timm_tiny.safetensors")
# The recorded inputs are normalized already.
UNNORMALIZED = {"mean": [0.0] * 3, "std": [1 / 255] * 3}


def network(**changes):
    """The network of record_timm.py."""
    options = {"width": 0.1, "depth": 1.1, "num_classes": 5, **UNNORMALIZED, **changes}
    return build_efficientnet("efficientnet-b1", **options)


def test_logits_equal_timm():
    recorded = np.load(GOLDEN / "timm_tiny.npz")
    model = state_dict.load_state_dict(network(), RECORDED)
    logits = model(recorded["input"], training=False).numpy()
    assert np.abs(logits).max() > 0.1
    np.testing.assert_allclose(logits, recorded["logits"], atol=1e-5, rtol=1e-5)


def test_written_state_dict_is_the_one_that_was_read(tmp_path):
    path = str(tmp_path / "model.safetensors")
    state_dict.save_state_dict(state_dict.load_state_dict(network(), RECORDED), path)
    ours, timms = map(safetensors.numpy.load_file, (path, RECORDED))
    assert set(ours) == set(timms)
    for name, value in timms.items():
        assert ours[name].dtype == value.dtype
        assert ours[name].shape == value.shape
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(ours[name], value)


def test_half_precision_file_loads(tmp_path):
    path = str(tmp_path / "half.safetensors")
    tensors = safetensors.numpy.load_file(RECORDED)
    safetensors.numpy.save_file(
        {name: value.astype(np.float16) for name, value in tensors.items()}, path
    )
    half = state_dict.load_state_dict(network(), path)
    whole = state_dict.load_state_dict(network(), RECORDED)
    for one, two in zip(half.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(one, two.numpy().astype(np.float16))


def test_other_number_of_classes_fits_without_the_head():
    model = network(num_classes=3)
    before = model.get_layer("head_dense").kernel.numpy()
    state_dict.load_state_dict(model, RECORDED, head=False)
    np.testing.assert_array_equal(model.get_layer("head_dense").kernel, before)
    tensors = safetensors.numpy.load_file(RECORDED)
    stem = tensors["conv_stem.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("stem").conv.kernel, stem)
    with pytest.raises(ValueError, match=r"classifier.weight of shape.*3\).*5\)"):
        state_dict.load_state_dict(model, RECORDED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.5}, r"conv_stem.weight of shape .*16\).*8\).*another variant"),
        ({"depth": 2.2}, r"not there, such as blocks\."),
        ({"depth": 0.5}, r"received \d+ others too, such as blocks\..*another variant"),
    ],
)
def test_other_variants_are_refused_and_change_nothing(changes, message):
    model = network(**changes)
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(ValueError, match=message):
        state_dict.load_state_dict(model, RECORDED)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable)


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for content in (b"", b"\x80\x04pickle", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="`path`: expected a safetensors file"):
            state_dict.load_state_dict(network(), str(path))
    with pytest.raises(ValueError, match="`path`: expected a safetensors file"):
        state_dict.load_state_dict(network(), str(tmp_path / "missing.safetensors"))
    with pytest.raises(ValueError, match="`naming`: expected one of timm, lite"):
        state_dict.load_state_dict(network(), RECORDED, naming="torch")


@pytest.mark.parametrize("variant", ["efficientnet-b0", "efficientnet-lite0"])
def test_stages_and_repeats_are_those_of_the_table(variant):
    model = build_efficientnet(variant, num_classes=2, width=0.1)
    blocks = places.blocks_of(model)
    repeats = [sum(block.stage == stage for block in blocks) for stage in range(7)]
    assert repeats == [1, 2, 2, 3, 3, 4, 1]
    assert [block.repeat for block in blocks[5:8]] == [0, 1, 2]
    small = build_efficientnet(variant, num_classes=2, width=0.1, small_image=True)
    assert places.blocks_of(small) == blocks
