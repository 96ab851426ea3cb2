"""Published ImageNet weights on ImageNet photos: crop, padding, normalization and
conversion are right together, or these fail. Slow: they need PyTorch."""

import json
import os

import pytest

from tests import imagenet_photos
from tests.tpu_scripts.test_scripts import run_script

pytestmark = pytest.mark.slow
# Measured: 18 of 20; two of the photos are ambiguous.
RIGHT = 17


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folder of the photos by class, and they themselves."""
    folder = tmp_path_factory.mktemp("photos")
    found = imagenet_photos.labeled_photos()
    assert len(found) == 20
    for number, (encoded, label) in enumerate(found):
        os.makedirs(folder / str(label), exist_ok=True)
        (folder / str(label) / f"{number}.jpg").write_bytes(encoded)
    return folder, found


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """Directory of Lite0 as convert_checkpoint writes it."""
    folder = tmp_path_factory.mktemp("lite0")
    checkpoint = imagenet_photos.lite0_safetensors(folder / "lite0.safetensors")
    output = str(folder / "model")
    run_script(
        "convert_checkpoint",
        "--from=lite",
        f"--checkpoint={checkpoint}",
        "--variant=efficientnet-lite0",
        f"--output={output}",
    )
    return output


def test_lite0_recognizes_the_photos(lite0, photos, tmp_path):
    run_script(
        "evaluate",
        f"--model={lite0}",
        f"--data=folder:{photos[0]}",
        f"--output={tmp_path}/metrics.json",
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["images"] == 20
    assert metrics["top_1"] * 20 >= RIGHT
    assert metrics["top_5"] * 20 >= 19
