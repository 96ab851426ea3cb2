"""The whole loop on a tree of JPEG and PNG files, as a user would have it (slow).

Needs Debian's package dataset-fashion-mnist.
"""

import io
import os

import numpy as np
import pytest
from PIL import Image

from data import sources

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
NAMES = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
]


def save(folder, record, number):
    """Alternately as PNG and as JPEG."""
    os.makedirs(folder, exist_ok=True)
    pixels = Image.open(io.BytesIO(record.image))
    pixels.save(os.path.join(folder, f"{number:05d}.{'png' if number % 2 else 'jpg'}"))


def write_tree(root):
    """20 labeled images a class, 10,000 unlabeled, 2,000 for the test."""
    train = sources.open_source(f"idx:{FASHION_MNIST}:train")
    order = np.random.default_rng(0).permutation(len(train))
    labeled = np.concatenate([order[train.labels[order] == c][:20] for c in range(10)])
    unlabeled = np.setdiff1d(order[:12_000], labeled)[:10_000]
    for number, record in enumerate(train.read(labeled)):
        save(root / "labeled" / NAMES[record.label], record, number)
    for number, record in enumerate(train.read(unlabeled)):
        save(root / "unlabeled", record, number)
    test = sources.open_source(f"idx:{FASHION_MNIST}:test")
    for number, record in enumerate(test.read(range(2000))):
        save(root / "test" / NAMES[record.label], record, number)
    (root / "unlabeled" / "broken.jpg").write_bytes(b"\xff\xd8 not much of a JPEG")


@pytest.mark.slow
def test_a_tree_of_fashion_images(tmp_path):
    from tests.tpu_scripts.test_scripts import run_script

    if not os.path.isdir(FASHION_MNIST):
        pytest.fail("Install Debian's package dataset-fashion-mnist to run this test.")
    write_tree(tmp_path)
    settings = [
        f"--{role}_{setting}"
        for role in ("teacher", "student")
        for setting in ("image_size=28", "duration=64epochs", "warmup=5epochs")
    ]
    printed = run_script(
        "iterate",
        "--recipe=digits",
        f"--work_dir={tmp_path}/run",
        f"--labeled_data=folder:{tmp_path}/labeled",
        f"--unlabeled_data=folder:{tmp_path}/unlabeled",
        f"--test_data=folder:{tmp_path}/test",
        "--validation_data=",
        "--labels_per_class=0",
        "--num_shards=0",
        "--horizontal_flip",
        "--generations=1",
        *settings,
    )
    print(printed)
    assert "1 unreadable image(s) skipped" in printed
    rows = [line.split() for line in printed.splitlines() if line[:3] in ("0 (", "1 (")]
    teacher, student = (float(row[2]) for row in rows)
    assert min(teacher, student) > 50  # Chance is 10.
    run_script(
        "predict",
        f"--model={tmp_path}/run/export/saved_model",
        f"--images={tmp_path}/unlabeled",
        f"--output={tmp_path}/predictions.csv",
    )
    with open(tmp_path / "predictions.csv") as file:
        lines = file.read().splitlines()
    assert len(lines) == 1 + 10_001
    assert lines[1].split(",")[1] in NAMES
