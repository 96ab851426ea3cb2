"""SVHN's recipe: its numbers (published scripts), and a run on files of SVHN's layout.

The files are generated: digits of scikit-learn in colour, enlarged to 32 pixels.
"""

import dataclasses
import os
import pathlib
import shutil

import numpy as np
import pytest
import scipy.io
import sklearn.datasets

from data import sources
from data.errors import InputError
from data.sources import svhn as svhn_source
from noisy_student import iterate, recipes
from noisy_student.config import DataConfig
from noisy_student.preparation import splits
from noisy_student.stages.manifest import read_manifest
from noisy_student.training import optimizer
from tests.noisy_student.recipes.test_recipes import cell, tables  # noqa: F401


def value(tables, name):  # noqa: F811
    return cell(tables, f"svhn_settings/{name}/value")


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_settings_steps_and_rates_are_published_ones(tables, role):  # noqa: F811
    """docs/paper_tables.json, svhn_settings: reference scripts, run and computed."""
    recipe = recipes.find("svhn")
    training = getattr(recipe.config, f"{role}_training")
    images = recipe.labeled_images
    assert images == value(tables, "train_images")
    assert training.batch_size == value(tables, "batch_size")
    assert training.base_learning_rate == value(tables, "base_learning_rate_per_256")
    assert training.final_base_learning_rate == value(tables, "final_base_learning_rate")
    assert training.weight_decay == value(tables, "weight_decay")
    assert training.total_steps(images) == value(tables, "steps")
    assert images / training.batch_size == pytest.approx(
        value(tables, "steps_per_epoch"), abs=0.005
    )
    schedule = optimizer.schedule_for(training, images)
    assert schedule.initial == value(tables, "initial_learning_rate")
    assert schedule.warmup_steps == value(tables, "warmup_steps")
    assert schedule.decay_steps == pytest.approx(value(tables, "decay_steps"), abs=0.005)
    # The checklist's rate just after the warm-up, and the last one.
    assert float(schedule(2705)) == pytest.approx(0.007301384, rel=1e-6)
    last = float(schedule(training.total_steps(images) - 1))
    assert last == pytest.approx(value(tables, "last_learning_rate"), rel=1e-3)
    assert last == pytest.approx(0.008 * 0.97**147, rel=1e-5)


def test_the_rest_of_the_published_recipe(tables):  # noqa: F811
    config = recipes.load("svhn")
    assert config.online_teacher
    assert config.student_training.unlabeled_ratio == value(tables, "unlabeled_ratio")
    assert config.student_training.pseudo_batch_size == 640
    assert config.student_training.soft_labels
    assert config.student_training.softmax_temperature == 1
    augmentation = config.augmentation
    assert augmentation.magnitude == value(tables, "randaugment_magnitude")
    assert augmentation.num_ops == 2
    assert augmentation.cutout
    assert augmentation.crop == "pad"
    assert not augmentation.horizontal_flip
    assert augmentation.randaugment_mode == "reference"
    for network in (config.teacher, config.student):
        assert network.variant == "efficientnet-b0"
        assert network.small_image
        assert network.resolution == 32
        assert network.dropout_rate == -1  # The variant's: 0.2.
        assert network.stochastic_depth_rate == 0.2
        assert network.batch_norm_momentum == 0.99
        layer = network.build(10, seed=0).get_layer("normalization")
        assert layer.mean == [0.4376821, 0.4437697, 0.47280442]
        assert layer.std == [0.19803012, 0.20101562, 0.19703614]
    stored = recipes.load("svhn-stored").selection
    assert stored.min_confidence == value(tables, "min_confidence")
    assert stored.images_per_class == value(tables, "images_per_class")


def write_svhn(directory, count=60, train=svhn_source.DEV_IMAGES + 80):
    """The three files as SVHN has them: X of 32x32x3xN, y of Nx1, 10 for a zero."""
    digits = sklearn.datasets.load_digits()
    os.makedirs(directory, exist_ok=True)
    for name, number in (("train", train), ("extra", count), ("test", count)):
        rows = np.resize(np.arange(len(digits.images)), number)
        grey = np.kron(digits.images[rows], np.ones((1, 4, 4))) * (255 / 16)
        pixels = np.stack([grey, grey, 255 - grey], -1).astype(np.uint8)
        labels = digits.target[rows]
        content = {
            "X": pixels.transpose(1, 2, 3, 0),
            "y": np.where(labels == 0, 10, labels).astype(np.uint8)[:, None],
        }
        scipy.io.savemat(os.path.join(directory, f"{name}_32x32.mat"), content)
    return digits


def test_splits_of_its_files(tmp_path):
    digits = write_svhn(tmp_path)
    found = {
        split: sources.open_source(f"svhn:{tmp_path}:{split}")
        for split in svhn_source.SPLITS
    }
    sizes = {split: len(source) for split, source in found.items()}
    assert sizes == {"train": 80, "dev": 4_000, "test": 60, "extra": 60}
    assert found["test"].labels.tolist() == digits.target[:60].tolist()  # 10 is zero.
    record = next(found["extra"].read([7]))
    pixels = svhn_source.tf.io.decode_png(record.image).numpy()
    grey = np.kron(digits.images[7], np.ones((4, 4))) * (255 / 16)
    np.testing.assert_array_equal(pixels[..., 0], grey.astype(np.uint8))
    again = sources.open_source(f"svhn:{tmp_path}:dev")
    np.testing.assert_array_equal(again.labels, found["dev"].labels)


@pytest.mark.parametrize(
    ("split", "damage", "message"),
    [
        ("valid", None, "expected svhn:DIR:SPLIT.*train, dev, test, extra.*'valid'"),
        ("extra", "missing", "extra_32x32.mat: expected SVHN's file.*housenumbers"),
        ("extra", "truncated", "extra_32x32.mat: expected a whole MATLAB file"),
        ("extra", "compressed", "extra_32x32.mat: expected a whole MATLAB file"),
        ("extra", "labels", "y of 1 to 10; received X of uint8 and y of 1 to 11"),
        ("extra", "other", "expected X of 32x32x3xN and y of N.*received digits of .1, 3"),
        ("train", "small", "more than the 4,000 images.*received 60"),
    ],
)
def test_what_is_no_svhn_is_refused(tmp_path, split, damage, message):
    write_svhn(tmp_path, train=60 if damage == "small" else svhn_source.DEV_IMAGES + 80)
    path = tmp_path / "extra_32x32.mat"
    if damage == "missing":
        path.unlink()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    if damage == "compressed":
        scipy.io.savemat(path, scipy.io.loadmat(path), do_compression=True)
        content = path.read_bytes()
        path.write_bytes(content[:400] + bytes(len(content) - 400))
    if damage == "labels":
        content = scipy.io.loadmat(path)
        scipy.io.savemat(
            path, {"X": content["X"], "y": content["y"] + (content["y"] == 10)}
        )
    if damage == "other":
        scipy.io.savemat(path, {"digits": np.zeros(3)})
    with pytest.raises(InputError, match=f"(?s){message}"):
        sources.open_source(f"svhn:{tmp_path}:{split}")


@pytest.mark.slow
def test_a_run_on_its_files(tmp_path, cpu):
    """The whole recipe but for its length and the size of its network."""
    write_svhn(tmp_path / "svhn")
    config = recipes.load("svhn")
    network = dataclasses.replace(config.student, width=0.1, depth=0.1)
    training = {
        f"{role}_training": dataclasses.replace(
            getattr(config, f"{role}_training"), batch_size=8, duration="3 steps"
        )
        for role in ("teacher", "student")
    }
    data = {
        name: text.replace("svhn:svhn:", f"svhn:{tmp_path}/svhn:")
        for name, text in vars(config.data).items()
        if isinstance(text, str) and name != "validation_data"
    }
    config = dataclasses.replace(
        config,
        # Without dev: 4,000 images, which other tests open.
        data=dataclasses.replace(config.data, **data, validation_data=""),
        teacher=network,
        student=network,
        control=False,
        **training,
    )
    summary = iterate.iterate(config, str(tmp_path / "run"), cpu)
    images = {"labeled": 80, "unlabeled": 60, "test": 60}
    assert summary["images"] == images
    identity = read_manifest(str(tmp_path / "run/generation_1/student"))["identity"]
    assert identity["online_teacher"]
    assert identity["model"]["pixel_statistics"] == "svhn"


def test_the_same_by_tensorflow_datasets():
    """`svhn_cropped`, as the recipe's docstring names its parts."""
    import tensorflow_datasets as tfds

    data = DataConfig(
        labeled_data="tfds:svhn_cropped:train[40:]",
        unlabeled_data="tfds:svhn_cropped:extra",
        validation_data="tfds:svhn_cropped:train[:40]",
        test_data="tfds:svhn_cropped:test",
    )
    with tfds.testing.mock_data(num_examples=100):
        parts = splits.split(data, seed=0)
    sizes = {name: len(part.indices) for name, part in parts.items()}
    # A mocked set has the same size whatever part of it is asked for.
    assert sizes == dict.fromkeys(("test", "validation", "unlabeled", "labeled"), 100)
    assert parts["labeled"].source.class_names == tuple("0123456789")


def test_a_file_that_crashes_the_reader_of_scipy_is_refused(tmp_path, monkeypatch):
    """Found by `benchmarks.torture.guided`: a segmentation fault in `read_var_array`."""
    damaged = pathlib.Path(__file__).parent / "crashes_scipy.mat"
    shutil.copy(damaged, tmp_path / "extra_32x32.mat")
    with pytest.raises(InputError, match="extra_32x32.mat: expected a whole MATLAB file"):
        sources.open_source(f"svhn:{tmp_path}:extra")
    write_svhn(tmp_path)
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"  # As that one does.
    monkeypatch.setattr(svhn_source, "_LOAD", dies)
    with pytest.raises(InputError, match="scipy's reader crashed: SIGSEGV"):
        sources.open_source(f"svhn:{tmp_path}:extra")
