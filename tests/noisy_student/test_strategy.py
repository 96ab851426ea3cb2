"""Strategies by name."""

import pytest
import tensorflow as tf

from data.errors import InputError
from noisy_student.strategy import check_reachable, create_strategy


def test_cpu_and_mirrored_have_a_replica_for_each_device():
    assert isinstance(create_strategy("cpu"), tf.distribute.OneDeviceStrategy)
    mirrored = create_strategy("mirrored")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    assert mirrored.num_replicas_in_sync == len(devices)


def test_unknown_strategy_lists_the_known_ones():
    with pytest.raises(InputError, match="auto, cpu, mirrored.*'gpu'"):
        create_strategy("gpu")


def test_a_tpu_is_not_left_idle(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    with pytest.raises(InputError, match="`strategy`: expected tpu, or cpu"):
        create_strategy()
    assert create_strategy("cpu").num_replicas_in_sync == 1


def test_a_tpu_elsewhere_reads_no_local_files():
    paths = {"output_dir": "gs://bucket/run", "labeled_data": "tfrecord:data/x*"}
    message = r"`labeled_data`: expected a bucket.*--tpu=far.*received 'tfrecord:data/x\*'"
    with pytest.raises(InputError, match=message):
        check_reachable("tpu", "far", paths)
    check_reachable("tpu", "far", {"output_dir": "gs://bucket/run", "test_data": ""})
    check_reachable("tpu", "local", paths)
    check_reachable("mirrored", "far", paths)
