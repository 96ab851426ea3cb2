"""SIGKILL at any moment loses nothing that was finished (slow).

Real processes, the scripts as a user runs them: a whole chain of stages without
a kill, and the same chain killed at random moments. KILL_SEED=… draws the same
ones again. Moments that concern `iterate` alone are few, and listed.
"""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from data import records
from noisy_student.labeling.predictions import index_path
from noisy_student.models import model_files
from noisy_student.preparation.preparation import prepare
from noisy_student.training import checkpoints
from noisy_student.training.history import read_history
from tests.conftest import tiny_config
from tests.noisy_student.stage_processes import (
    STAGES,
    Found,
    StageProcess,
    finished_pieces,
    is_complete,
    listed,
    read_any_manifest,
)

KILLS_PER_STAGE = 2


@dataclasses.dataclass(frozen=True)
class Lengths:
    """CPU seconds of a stage's work in a run that nothing happened to.

    Attributes:
        start: Until the first checkpoint or shard; a rerun needs them again.
        whole: Until the end.
    """

    start: float
    whole: float


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Record sets of twelve shards, for a kill between any two of them."""
    directory = str(tmp_path_factory.mktemp("kill") / "data")
    settings = dataclasses.replace(tiny_config().data, num_shards=12)
    prepare(settings, directory, seed=0)
    return directory


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A chain without a kill: its directory, and by stage the `Lengths`."""
    chain = str(tmp_path_factory.mktemp("unbroken"))
    return chain, {name: run_unbroken(name, data, chain) for name in STAGES}


def run_unbroken(name, data, chain) -> Lengths:
    process, start = StageProcess(name, data, chain), None
    while process.is_alive() and not is_complete(process.directory):
        if start is None and finished_pieces(process.directory):
            start = process.worked()
        time.sleep(0.01)
    whole = process.worked()
    process.finish()
    return Lengths(whole if start is None else start, whole)


def run_with_kills(name, data, chain, lengths: Lengths, draw) -> list[Found]:
    """Runs a stage to its end; returns what was found after each kill of its work."""
    killed, left = [], lengths.whole
    for _ in range(KILLS_PER_STAGE):
        moment = draw.uniform(0, left)
        process = StageProcess(name, data, chain)
        while process.is_alive() and process.worked() < moment:
            time.sleep(0.002)
        alive = process.kill()
        if killed:
            killed[-1].assert_continued()
        found = Found(process.directory)
        met = alive and not is_complete(process.directory)
        print(f"{name}: {moment:.2f} of {left:.2f} s, {found}{'' if met else ', too late'}")
        if met:
            killed.append(found)
            # What came before the first piece, a rerun does again.
            left -= max(0, moment - lengths.start)
        elif not killed:  # Done before any kill: made anew, for the next one to meet.
            shutil.rmtree(process.directory)
    process = StageProcess(name, data, chain)
    process.finish()
    if killed:
        killed[-1].assert_continued()
    return killed


def assert_same_stage(ours: str, unbroken: str) -> None:
    """Manifests but for times and code; shards byte for byte, of models every weight."""
    found, expected = read_any_manifest(ours), read_any_manifest(unbroken)
    for free in ("created", "timing", "code_version"):
        del found[free], expected[free]
    assert found == expected
    assert_same_shards(ours, unbroken, list(expected["shards"]))
    if expected["stage"] == "train":
        assert_same_model(ours, unbroken)


def assert_same_shards(ours: str, unbroken: str, names: list[str]) -> None:
    shards = [os.path.basename(path) for path in records.glob_shards(ours)]
    assert shards == names
    indices = [os.path.basename(index_path(name)) for name in names]
    for name in (*names, *(n for n in indices if n in listed(unbroken))):
        with open(f"{ours}/{name}", "rb") as one, open(f"{unbroken}/{name}", "rb") as other:
            assert one.read() == other.read(), name
    assert "finished_shards" not in listed(ours)


def assert_same_model(ours: str, unbroken: str) -> None:
    """Every weight bit for bit, and the loss of every loop."""
    model, info = model_files.load_model(ours)
    expected, expected_info = model_files.load_model(unbroken)
    assert info.weights_sha256 == expected_info.weights_sha256
    for found, wanted in zip(model.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy(), found.path)
    assert curve(ours) == curve(unbroken)
    saved = listed(f"{ours}/{checkpoints.CHECKPOINTS}")
    assert not [name for name in saved if "_temp" in name]


def curve(directory: str) -> list[dict]:
    return [{**row, "timing": None} for row in read_history(directory)]


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(data, unbroken, tmp_path):
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nKILL_SEED={seed}")
    draw, killed = random.Random(seed), []
    for name, lengths in unbroken[1].items():
        killed += run_with_kills(name, data, str(tmp_path), lengths, draw)
        assert_same_stage(f"{tmp_path}/{name}", f"{unbroken[0]}/{name}")
    deep = sum(bool(found.pieces) for found in killed)
    print(f"{len(killed)} kills in the midst of a stage, {deep} after its first piece")
    assert len(killed) >= 0.8 * KILLS_PER_STAGE * len(STAGES)


@pytest.mark.slow
def test_fixres_goes_on_from_its_own_checkpoint(data, unbroken, tmp_path):
    os.symlink(f"{unbroken[0]}/student", tmp_path / "student")
    process = StageProcess("fixres", data, str(tmp_path))
    while process.is_alive() and not finished_pieces(process.directory):
        time.sleep(0.002)
    assert process.kill()
    found = Found(process.directory)
    assert found.step > 0
    StageProcess("fixres", data, str(tmp_path)).finish()
    found.assert_continued()
    assert_same_stage(process.directory, f"{unbroken[0]}/fixres")


ITERATE = textwrap.dedent(
    """
    import sys
    from tests.conftest import tiny_config
    from noisy_student import iterate, strategy
    from noisy_student.training.training_loop import LoopOptions
    options = LoopOptions(steps_per_loop=1, checkpoint_interval="1 step")
    cpu = strategy.create_strategy("cpu")
    iterate.iterate(tiny_config(), sys.argv[1], cpu, options)
    """
)
# A file that appears in the midst of what `iterate` does beyond the stages above, or
# between two writes of a stage, where a random moment hardly falls.
MOMENTS = (
    "data/unlabeled/finished_shards/unlabeled-00001-of-00003.tfrecord.json",
    "generation_0/teacher/model.keras",
    "generation_1/balanced/selection.json",
    "generation_1/student/metrics.json",
    "generation_1/control/checkpoints/ckpt-2.index",
    "export/manifest.json",
    "report/accuracy.png",
)


@pytest.mark.slow
def test_kills_at_listed_moments_of_iterate_change_nothing(tmp_path, finished_run):
    work_dir, kills = str(tmp_path / "killed"), 0
    for moment in MOMENTS:
        process = start_iterate(work_dir)
        while process.poll() is None and not os.path.exists(f"{work_dir}/{moment}"):
            time.sleep(0.002)
        kills += process.poll() is None
        process.kill()
        assert process.wait() <= 0, moment
    assert start_iterate(work_dir).wait() == 0
    print(f"{kills} kills at {len(MOMENTS)} moments")
    assert kills >= len(MOMENTS) - 2
    with open(os.path.join(work_dir, "summary.json")) as file:
        summary = json.load(file)
    assert {**summary, "timing": None} == {**finished_run[1], "timing": None}


def start_iterate(work_dir):
    return subprocess.Popen(
        [sys.executable, "-c", ITERATE, work_dir], stdout=subprocess.DEVNULL
    )
