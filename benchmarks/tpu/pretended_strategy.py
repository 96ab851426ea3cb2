"""A `TPUStrategy` without a TPU: it traces programs and cannot run any.

TensorFlow's own class, with a resolver that says there were TPU cores and a device
assignment that puts each core's variables on a virtual CPU device. So variables,
reductions, optimizer updates and `strategy.run` take the very Python path that they
take on a TPU.
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.tpu import tpu_system_metadata

_CORES_PER_CHIP = 2


def strategy(replicas: int) -> tf.distribute.TPUStrategy:
    """A strategy over `replicas` cores.

    Args:
        replicas: 1, or an even number, and then before any other use of TensorFlow.
    """
    if replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        virtual = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(cpu, virtual)
    topology = _topology(replicas)
    cores = topology.device_coordinates.reshape(replicas, 1, 4)
    assignment = _OnCPUs(topology, cores)
    pretended = tf.distribute.TPUStrategy(_Resolver(topology, replicas), assignment)
    # A handle for each replica: one for all does not tell the variable's shape.
    pretended._enable_packed_variable_in_eager_mode = False
    return pretended


def _topology(cores: int) -> tf.tpu.experimental.Topology:
    per_chip = min(cores, _CORES_PER_CHIP)
    mesh = (cores // per_chip, 1, 1, per_chip)  # x, y, z, core of a chip
    coordinates = np.stack(np.unravel_index(np.arange(cores), mesh), -1)
    return tf.tpu.experimental.Topology(
        mesh_shape=mesh, device_coordinates=coordinates[None]
    )


class _OnCPUs(tf.tpu.experimental.DeviceAssignment):
    def tpu_device(self, replica, **_):
        return f"/job:localhost/replica:0/task:0/device:CPU:{replica}"

    def host_device(self, *_, **__):
        return "/job:localhost/replica:0/task:0/device:CPU:0"


class _Resolver(tf.distribute.cluster_resolver.ClusterResolver):
    def __init__(self, topology, cores: int):
        super().__init__()
        self._topology, self._cores = topology, cores

    def get_tpu_system_metadata(self):
        devices = [
            tf.config.LogicalDevice(
                f"/job:localhost/replica:0/task:0/device:TPU:{i}", "TPU"
            )
            for i in range(self._cores)
        ]
        return tpu_system_metadata.TPUSystemMetadata(
            self._cores, 1, self._cores, self._topology, devices
        )

    def cluster_spec(self):
        return tf.train.ClusterSpec({})

    def master(self, **_):
        return ""
