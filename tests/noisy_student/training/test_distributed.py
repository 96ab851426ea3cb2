"""The same global batches give the same training on any number of replicas."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.noisy_student.training import trajectory


def start(strategy, replicas, path, **environment):
    command = [sys.executable, "-m", "tests.noisy_student.training.trajectory", strategy]
    return subprocess.Popen(
        [*command, str(replicas), str(path)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process, path):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-2000:]
    with np.load(path) as found:
        return dict(found)


@pytest.fixture(scope="module")
def alone():
    """One device, in this process."""
    return trajectory.train(tf.distribute.OneDeviceStrategy("/cpu:0"))


def assert_same(found, expected):
    """To five digits of the losses; weights by the size of what training changed."""
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-4, err_msg=key)


def test_training_changes_far_more_than_is_tolerated(alone):
    first = trajectory.trainer_for(tf.distribute.get_strategy()).model.variables
    changed = [
        np.abs(alone[f"variable_{i}"] - variable.numpy()).max()
        for i, variable in enumerate(first)
    ]
    assert np.median(changed) > 0.005
    assert min(changed) > 0


@pytest.mark.parametrize("replicas", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_mirrored_replicas_train_like_one_device(alone, replicas, tmp_path):
    path = tmp_path / "found.npz"
    assert_same(result(start("mirrored", replicas, path), path), alone)


@pytest.mark.slow
def test_two_workers_train_like_one_device(alone, tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    paths = [tmp_path / f"{index}.npz" for index in range(2)]
    workers = [
        start(
            "multi_worker",
            2,
            path,
            TF_CONFIG=json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": index}}
            ),
        )
        for index, path in enumerate(paths)
    ]
    for worker, path in zip(workers, paths, strict=True):
        assert_same(result(worker, path), alone)
