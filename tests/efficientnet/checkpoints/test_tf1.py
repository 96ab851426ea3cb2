"""TF1 checkpoints of the published code: the same logits, and back again."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from efficientnet import build_efficientnet
from efficientnet.checkpoints import tf1

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
# The recorded inputs are normalized already.
UNNORMALIZED = {"mean": [0.0] * 3, "std": [1 / 255] * 3}
NETWORKS = {
    "tf1_tiny32": {
        "variant": "efficientnet-b1",
        "num_classes": 10,
        "width": 0.1,
        "depth": 1.1,
        "small_image": True,
    },
    "tf1_tiny64": {
        "variant": "efficientnet-b2",
        "num_classes": 7,
        "width": 0.1,
        "depth": 0.5,
    },
}


def network(name, **changes):
    return build_efficientnet(**{**UNNORMALIZED, **NETWORKS[name], **changes})


def path_of(name):
    return str(GOLDEN / name / "model.ckpt")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ema", [True, False])
def test_logits_equal_the_published_code(name, ema):
    recorded = np.load(GOLDEN / name / "logits.npz")
    model = tf1.load_tf1_checkpoint(network(name), path_of(name), ema=ema)
    logits = model(recorded["input"], training=False).numpy()
    expected = recorded["ema_logits" if ema else "raw_logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_name_is_used(name):
    published = tf.train.load_checkpoint(path_of(name)).get_variable_to_shape_map()
    scope = NETWORKS[name]["variant"]
    averaged = {key for key in published if key.endswith(tf1.EMA_SUFFIX)}
    ours = tf1.tf1_variables(network(name))
    assert {f"{scope}/{key}{tf1.EMA_SUFFIX}" for key in ours} == averaged


def test_written_checkpoint_has_the_published_names_and_values(tmp_path):
    model = tf1.load_tf1_checkpoint(network("tf1_tiny32"), path_of("tf1_tiny32"), ema=False)
    written = str(tmp_path / "model.ckpt")
    tf1.save_tf1_checkpoint(model, written, "efficientnet-b1")
    ours, published = map(tf.train.load_checkpoint, (written, path_of("tf1_tiny32")))
    for name in ours.get_variable_to_shape_map():
        if name != "global_step":
            raw = name.removesuffix(tf1.EMA_SUFFIX)
            np.testing.assert_array_equal(ours.get_tensor(name), published.get_tensor(raw))


def test_file_with_averages_alone_loads(tmp_path):
    """As the published L2 files are."""
    reader = tf.train.load_checkpoint(path_of("tf1_tiny64"))
    names = [
        name for name in reader.get_variable_to_shape_map() if name.endswith(tf1.EMA_SUFFIX)
    ]
    path = str(tmp_path / "model.ckpt")
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(reader.get_tensor(name)) for name in names],
    )
    first = tf1.load_tf1_checkpoint(network("tf1_tiny64"), path)
    whole = tf1.load_tf1_checkpoint(network("tf1_tiny64"), path_of("tf1_tiny64"))
    for a, b in zip(first.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ValueError, match="averaged weights"):
        tf1.load_tf1_checkpoint(network("tf1_tiny64"), path, ema=False)


def test_other_number_of_classes_fits_without_the_head():
    model = network("tf1_tiny64", num_classes=3, seed=1)
    before = model.get_layer("head_dense").kernel.numpy()
    tf1.load_tf1_checkpoint(model, path_of("tf1_tiny64"), head=False)
    np.testing.assert_array_equal(model.get_layer("head_dense").kernel.numpy(), before)
    with pytest.raises(ValueError, match=r"head/dense.*\(\d+, 3\).*\(\d+, 7\)"):
        tf1.load_tf1_checkpoint(model, path_of("tf1_tiny64"))


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_checkpoint_is_refused_by_name(tmp_path, part, damage):
    path = str(tmp_path / "model.ckpt")
    tf1.save_tf1_checkpoint(network("tf1_tiny64"), path, "efficientnet-b2")
    content = bytearray((tmp_path / f"model.ckpt{part}").read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    changed = content[:middle] if damage == "cut" else content
    (tmp_path / f"model.ckpt{part}").write_bytes(bytes(changed))
    model = network("tf1_tiny64")
    with pytest.raises(ValueError, match="`path`: expected .*model.ckpt"):
        tf1.load_tf1_checkpoint(model, path)


def test_other_variant_is_refused_with_the_first_shapes():
    with pytest.raises(ValueError, match=r"efficientnet-b2/\S+ of shape .*another variant"):
        tf1.load_tf1_checkpoint(network("tf1_tiny64", width=0.5), path_of("tf1_tiny64"))
    with pytest.raises(ValueError, match="weights of the model; .* not there"):
        tf1.load_tf1_checkpoint(network("tf1_tiny64", depth=2.0), path_of("tf1_tiny64"))


def test_deeper_checkpoint_is_refused(tmp_path):
    """The shallower network's names are all there; the rest would be lost."""
    path = str(tmp_path / "model.ckpt")
    lite = {"variant": "efficientnet-lite0", "num_classes": 2, "width": 0.1}
    tf1.save_tf1_checkpoint(build_efficientnet(**lite), path, "efficientnet-lite0")
    again = build_efficientnet(**lite, seed=3)
    tf1.load_tf1_checkpoint(again, path)  # Itself it fits.
    shallow = build_efficientnet(**lite, depth=0.5)
    with pytest.raises(ValueError, match="another variant"):
        tf1.load_tf1_checkpoint(shallow, path)


def test_number_of_classes_is_read_from_the_file(tmp_path):
    assert tf1.tf1_num_classes(path_of("tf1_tiny64")) == 7
    with pytest.raises(ValueError, match="prefix of a TF1 checkpoint"):
        tf1.tf1_num_classes(str(tmp_path))


def test_path_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="prefix of a TF1 checkpoint"):
        tf1.load_tf1_checkpoint(network("tf1_tiny64"), str(tmp_path))
