"""The layers under 2 and 4 replicas, run once a session."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _run(count, folder):
    path = folder / "found.npz"
    subprocess.run(
        [sys.executable, "-m", "tests.efficientnet.replicas", str(count), str(path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        check=True,
    )
    with np.load(path) as found:
        return dict(found)


@pytest.fixture(scope="session")
def two_replicas(tmp_path_factory):
    """What replicas.py found with two."""
    return _run(2, tmp_path_factory.mktemp("two_replicas"))


@pytest.fixture(scope="session")
def four_replicas(tmp_path_factory):
    """What replicas.py found with four."""
    return _run(4, tmp_path_factory.mktemp("four_replicas"))


@pytest.fixture(params=[2, 4], ids=["2 replicas", "4 replicas"])
def replicas(request):
    """What replicas.py found, for each number of them."""
    return request.getfixturevalue({2: "two_replicas", 4: "four_replicas"}[request.param])


@pytest.fixture
def random_inputs():
    """float32 `[4, 5, 6, 3]`, neither centered nor of unit variance."""
    return np.random.default_rng(0).normal(1.5, 2.0, (4, 5, 6, 3)).astype(np.float32)
