"""ImageNet-C and -P from small trees in their authors' layouts, and by TFDS."""

import os
import shutil

import cv2
import numpy as np
import pytest

from data.errors import InputError
from noisy_student.evaluation import alexnet
from noisy_student.evaluation_suite import imagenet_c, imagenet_p, registry, suite
from noisy_student.evaluation_suite.imagenet_classes import wordnet_ids
from noisy_student.evaluation_suite.registry import BenchmarkOptions

from .conftest import color_of, write_image, write_tree

PARTIAL = BenchmarkOptions(allow_partial=True)
SEVERITIES = (1, 2, 3, 4, 5)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Three corruptions and perturbations, and trees of four images count as whole.

    What all of them amount to is proven by published numbers: `test_corruption_error`,
    `test_flip_rate`.
    """
    monkeypatch.setattr(imagenet_c, "VALIDATION_IMAGES", 4)
    monkeypatch.setattr(imagenet_p, "NUM_CLASSES", 2)
    for table in ("ERRORS", "FLIPS"):
        few = list(getattr(alexnet, table).items())[:3]
        monkeypatch.setattr(alexnet, table, dict(few))


def write_c(directory, corruptions=(), severities=SEVERITIES):
    """Four images each; as many are wrong as the corruption's place, modulo 5, says."""
    for place, corruption in enumerate(corruptions or alexnet.ERRORS):
        for severity in severities:
            wrong = place % 5
            shown = [(k, 500 if k < wrong else k) for k in range(4)]
            write_tree(os.path.join(directory, corruption, str(severity)), shown)
    return f"folder:{directory}"


def run(name, dataset, evaluated, directory, options=PARTIAL):
    benchmark = registry.open_imagenet(name, dataset, options, evaluated.info)
    return suite.run(benchmark, evaluated, str(directory), ["command"])


def test_errors_are_normalized_by_alexnets(evaluated, tmp_path):
    dataset = write_c(tmp_path / "c")
    found = run("imagenet_c", dataset, evaluated, tmp_path / "r", BenchmarkOptions())
    errors = {c: min(place % 5, 4) / 4 for place, c in enumerate(alexnet.ERRORS)}
    results = found["results"]
    assert results["errors"] == {c: [error] * 5 for c, error in errors.items()}
    expected = np.mean([errors[c] / alexnet.ERRORS[c] for c in errors])
    assert results["mce"] == pytest.approx(100 * expected)
    assert results["top_1"] == pytest.approx(1 - np.mean(list(errors.values())))
    assert results["images"] == 3 * 5 * 4
    assert results["extra_ce"] == {}
    assert "relative_mce" not in results  # Not before ImageNet itself was measured.
    low, high = found["intervals"]["mce"]
    assert low < results["mce"] < high
    assert found["missing"] == []


def test_the_relative_error_takes_the_clean_one_of_the_same_weights(
    evaluated, tmp_path, monkeypatch
):
    from noisy_student.evaluation_suite import labeled

    monkeypatch.setitem(labeled.IMAGES, "imagenet", 4)
    clean = write_tree(tmp_path / "val", [(0, 0), (1, 1), (2, 2), (3, 9)])
    out = tmp_path / "r"
    run("imagenet", clean, evaluated, out, BenchmarkOptions())
    found = run("imagenet_c", write_c(tmp_path / "c"), evaluated, out, BenchmarkOptions())
    errors = [min(place % 5, 4) / 4 for place in range(3)]
    rises = [
        (error - 0.25) / (of_alexnet - alexnet.CLEAN_ERROR)
        for error, of_alexnet in zip(errors, alexnet.ERRORS.values(), strict=True)
    ]
    assert found["results"]["relative_mce"] == pytest.approx(100 * np.mean(rises))


def test_extra_corruptions_stand_apart(evaluated, tmp_path):
    write_c(tmp_path / "c")
    dataset = write_c(tmp_path / "c", ["saturate"])
    found = run("imagenet_c", dataset, evaluated, tmp_path / "r", BenchmarkOptions())
    assert found["results"]["extra_ce"] == {"saturate": 0}
    assert "saturate" not in found["results"]["ce"]


def test_the_whole_image_is_resized_and_not_cropped_again(evaluated, tmp_path):
    from PIL import Image

    # The middle is class 0, the whole with its border is class 111 on average.
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[:] = 255
    pixels[32:192, 32:192] = color_of(0)
    mean = pixels.mean((0, 1))
    label = int(sum(np.floor(mean / 25) * [100, 10, 1]))
    folder = tmp_path / "c/shot_noise/1" / wordnet_ids()[label]
    os.makedirs(folder)
    Image.fromarray(pixels).save(folder / "ILSVRC2012_val_1.JPEG", quality=95)
    found = run("imagenet_c", f"folder:{tmp_path}/c", evaluated, tmp_path / "r")
    assert found["results"]["errors"] == {"shot_noise": [0.0, None, None, None, None]}


def test_what_is_missing_is_named_and_a_part_gives_no_mce(evaluated, tmp_path):
    dataset = write_c(tmp_path / "c", ["shot_noise", "impulse_noise"])
    shutil.rmtree(tmp_path / "c/shot_noise/3")
    shutil.rmtree(tmp_path / "c/impulse_noise/2" / wordnet_ids()[0])
    with pytest.raises(InputError) as caught:
        run("imagenet_c", dataset, evaluated, tmp_path / "r", BenchmarkOptions())
    for name in ("gaussian_noise/1", "gaussian_noise/5", "allow_partial", "and 2 more"):
        assert name in str(caught.value)
    found = run("imagenet_c", dataset, evaluated, tmp_path / "r")
    assert "shot_noise/3" in found["missing"]
    assert "images of impulse_noise/2: 3 of 4" in found["missing"]
    assert "mce" not in found["results"]
    assert "mce" not in found["intervals"]
    assert found["results"]["errors"]["shot_noise"][2] is None


def test_extra_corruptions_alone_have_their_errors(evaluated, tmp_path):
    dataset = write_c(tmp_path / "c", ["saturate"])
    found = run("imagenet_c", dataset, evaluated, tmp_path / "r")
    assert found["results"]["errors"] == {"saturate": [0.0] * 5}
    assert set(found["intervals"]) == {"saturate"}


def test_the_same_names_at_another_size_are_other_images(evaluated, tmp_path):
    shown = [(k, k) for k in range(4)]
    for name, size in (("224", (32, 32)), ("299", (40, 40))):
        for label, color in shown:
            file = f"ILSVRC2012_val_{label:08d}.JPEG"
            path = tmp_path / name / "shot_noise/1" / wordnet_ids()[label] / file
            write_image(str(path), color_of(color), size)
    run("imagenet_c", f"folder:{tmp_path}/224", evaluated, tmp_path / "r")
    with pytest.raises(InputError, match="data_fingerprint"):
        run("imagenet_c", f"folder:{tmp_path}/299", evaluated, tmp_path / "r")


def test_recomputed_corruptions_are_another_benchmark(evaluated, tmp_path):
    with pytest.raises(InputError, match="--on=imagenet_c_recomputed"):
        run("imagenet_c", "tfds:imagenet2012_corrupted", evaluated, tmp_path)
    with pytest.raises(InputError, match="`imagenet_c_recomputed`: expected tfds:"):
        run("imagenet_c_recomputed", "folder:c", evaluated, tmp_path)
    with pytest.raises(InputError, match="folder:DIR with the files of its authors"):
        run("imagenet_c", "", evaluated, tmp_path)
    with pytest.raises(InputError, match="gaussian_noise/3.*found none"):
        run("imagenet_c", f"folder:{tmp_path}", evaluated, tmp_path)


def test_recomputed_corruptions_come_from_tfds(evaluated, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(alexnet, "ERRORS", {"fog": 0.8})
    monkeypatch.setattr(alexnet, "EXTRA_ERRORS", {})
    with tfds.testing.mock_data(num_examples=3):
        found = run(
            "imagenet_c_recomputed", "tfds:imagenet2012_corrupted", evaluated, tmp_path
        )
    assert found["benchmark"] == "imagenet_c_recomputed"
    assert set(found["results"]["errors"]) == {"fog"}
    assert found["results"]["images"] == 5 * 3


# ImageNet-P.


def write_video(path, labels, size=32):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    video = cv2.VideoWriter(str(path), codec, 30, (size, size))
    assert video.isOpened()
    for label in labels:
        red, green, blue = color_of(label)
        video.write(np.full((size, size, 3), (blue, green, red), np.uint8))
    video.release()


def write_p(directory, clips):
    """Videos by perturbation: label and the classes that its frames show."""
    for perturbation, of in clips.items():
        for number, (label, frames) in enumerate(of):
            folder = os.path.join(directory, perturbation, wordnet_ids()[label])
            write_video(os.path.join(folder, f"ILSVRC2012_val_{number:08d}.mp4"), frames)
    return f"folder:{directory}"


CLIPS = [(7, [7, 7, 8, 7, 7, 7]), (400, [400, 300, 300, 300])]


def test_flips_are_counted_by_video(evaluated, tmp_path):
    dataset = write_p(tmp_path / "p", dict.fromkeys(alexnet.FLIPS, CLIPS))
    found = run("imagenet_p", dataset, evaluated, tmp_path / "r", BenchmarkOptions())
    flips = found["results"]["flip_probability"]
    ordered, noise = (2 / 5 + 1 / 3) / 2, (1 / 5 + 3 / 3) / 2
    assert set(flips) == set(alexnet.FLIPS)
    for name, share in flips.items():
        assert share == pytest.approx(noise if name.endswith("noise") else ordered)
    expected = np.mean([flips[name] / of for name, of in alexnet.FLIPS.items()])
    assert found["results"]["mfr"] == pytest.approx(100 * expected)
    low, high = found["intervals"]["mfr"]
    assert low < found["results"]["mfr"] < high
    assert found["results"]["top_1"] == pytest.approx(6 / 10)
    assert found["results"]["frames"] == 3 * 10
    assert found["results"]["videos"] == 6
    assert 0 < found["results"]["top_5_distance"]["motion_blur"] < 15


def test_perturbations_that_are_missing_are_named(evaluated, tmp_path):
    dataset = write_p(tmp_path / "p", {"shot_noise": CLIPS, "motion_blur": CLIPS[:1]})
    with pytest.raises(InputError, match="missing: gaussian_noise; classes of motion_blur"):
        run("imagenet_p", dataset, evaluated, tmp_path / "r", BenchmarkOptions())
    found = run("imagenet_p", dataset, evaluated, tmp_path / "r")
    assert "videos of motion_blur: 1 of 2" in found["missing"]
    assert "classes of motion_blur: 1 of 2" in found["missing"]
    assert "mfr" not in found["intervals"]
    assert "mfr" not in found["results"]


def test_videos_that_cannot_be_read_are_named(evaluated, tmp_path):
    dataset = write_p(tmp_path / "p", {"shot_noise": CLIPS})
    bad = tmp_path / "p/shot_noise" / wordnet_ids()[8] / "x.mp4"
    os.makedirs(bad.parent)
    bad.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"shot_noise/n\d+/x.mp4 0 of 0 could"):
        run("imagenet_p", dataset, evaluated, tmp_path / "r")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("tfds:imagenet_p", "expected folder:DIR with gaussian_noise/n01440764"),
        ("folder:gs://bucket/p", "a folder of this machine"),
        ("folder:/nowhere", "found none"),
    ],
)
def test_other_data_is_refused(dataset, message, evaluated, tmp_path):
    with pytest.raises(InputError, match=message):
        run("imagenet_p", dataset, evaluated, tmp_path)
