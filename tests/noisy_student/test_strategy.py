"""Strategies by name."""

import pytest
import tensorflow as tf

from data.errors import InputError
from noisy_student.strategy import create_strategy


def test_cpu_and_mirrored_have_a_replica_for_each_device():
    assert isinstance(create_strategy("cpu"), tf.distribute.OneDeviceStrategy)
    mirrored = create_strategy("mirrored")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    assert mirrored.num_replicas_in_sync == len(devices)


def test_unknown_strategy_lists_the_known_ones():
    with pytest.raises(InputError, match="auto, cpu, mirrored.*'gpu'"):
        create_strategy("gpu")
