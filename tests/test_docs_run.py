"""The documentation's commands are run as they stand there, one page after the other.

Networks are made small and trainings short by flags put behind each command's own;
photos are parts of scikit-learn's two pictures.
"""

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

from noisy_student.config import ModelConfig
from noisy_student.models import model_files
from tests.sample_photos import jpeg, pictures
from tests.shell_blocks import PAGES, run_blocks

ROOT = pathlib.Path(__file__).parents[1]
_NETWORK = ("width=0.1", "depth=0.1", "image_size=32", "batch_size=8")
_TRAINING = ("duration=2steps", "warmup=0steps")
_OF_RUN = tuple(
    f"{role}_{flag}" for role in ("teacher", "student") for flag in (*_NETWORK, *_TRAINING)
)
# By script: flags that make it small. Teachers of two steps are never sure.
SMALL = {
    "tpu_scripts.iterate": (*_OF_RUN, "min_confidence=0"),
    "tpu_scripts.balance": ("min_confidence=0",),
    "tpu_scripts.train": (*_NETWORK, *_TRAINING),
    "tpu_scripts.fixres": ("duration=1steps", "batch_size=8", "image_size=40"),
}
# By page, in place of these.
_WITHOUT_SIZE = [flag for flag in _OF_RUN if "width" not in flag and "depth" not in flag]
OTHERS = {
    "own_model.md": {"tpu_scripts.iterate": (*_WITHOUT_SIZE, "min_confidence=0")},
    # It keeps an earlier choice, which confidences do not change.
    "pseudo_labels.md": {"tpu_scripts.balance": ()},
}
# By page: those whose run it goes on with.
BEFORE = {"serving.md": [pathlib.Path("README.md")]}
MY_MODELS = '''
import keras


def resnet50(num_classes: int, image_size: int) -> keras.Model:
    """Stands in for the page's network: one layer."""
    inputs = keras.Input((image_size, image_size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs / 255)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(pooled))
'''
_PYTHON = """#!/bin/sh
if [ "$1" = -m ] && [ -f "$FLAGS/$2" ]; then exec {python} "$@" $(cat "$FLAGS/$2"); fi
exec {python} "$@"
"""
_pages = [page for page in PAGES if run_blocks(page)]


def write_photos(root):
    """Six labeled photos of each of two classes, as many unlabeled, some to test on."""
    for number, picture in enumerate(pictures()):
        name = ("cat", "dog")[number >= 12]
        place = ("labeled/" + name, "unlabeled", "test/" + name)[number % 4 % 3]
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(jpeg(picture, scale=0.5))


@pytest.fixture(scope="module")
def made_before(tmp_path_factory):
    """What pages take for given: photos, a run on digits, a converted checkpoint."""
    root = tmp_path_factory.mktemp("docs")
    write_photos(root / "photos")
    shutil.copytree(root / "photos/unlabeled", root / "web")
    shutil.copytree(root / "photos/test", root / "imagenet/val")
    (root / "my_models.py").write_text(MY_MODELS)
    network = ModelConfig(width=0.1, depth=0.1).build(1000, seed=0)
    model_files.save_model(
        network,
        str(root / "models/b0"),
        class_names=[str(label) for label in range(1000)],
        image_size=224,
        crop="inception",
        variant="efficientnet-b0",
    )
    run_script(
        root, "W=runs\npython -m tpu_scripts.iterate --recipe=digits --work_dir=runs/digits"
    )
    hand = run_blocks(pathlib.Path("docs/by_hand.md"))[0]
    run_script(root, hand.text)
    return root


def run_script(root, text, flags=None):
    """Runs shell commands in `root`, with a `python` that adds small networks' flags."""
    tools = root / ".tools"
    tools.mkdir(exist_ok=True)
    for script, values in (SMALL if flags is None else flags).items():
        (tools / script).write_text(" ".join(f"--{value}" for value in values))
    python = tools / "python"
    python.write_text(_PYTHON.format(python=sys.executable))
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "FLAGS": str(tools),
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.run(
        ["bash", "-ec", text],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, process.stdout[-4000:]
    return process.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", _pages, ids=str)
def test_commands_of_a_page_run(made_before, page, tmp_path):
    root = tmp_path / "user"
    shutil.copytree(made_before, root)
    flags = {**SMALL, **OTHERS.get(page.name, {})}
    pages = [*BEFORE.get(page.name, ()), page]
    commands = "\n".join(block.text for each in pages for block in run_blocks(each))
    commands = commands.replace(". .venv/bin/activate\n", "")
    print(run_script(root, f"W=runs/hand\n{commands}", flags))


def test_a_command_that_fails_fails_the_page(tmp_path):
    with pytest.raises(AssertionError, match="expected a directory"):
        run_script(
            tmp_path,
            "python -m tpu_scripts.show_augmentations --data=folder:x --output=a\ntrue",
        )
