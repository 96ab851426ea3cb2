"""Run by test_layers.py in its own process: two replicas need two devices.

Writes what the layers do under a two-replica strategy to the `.npz` file given.
"""

import sys

import numpy as np
import tensorflow as tf

DRAWS = {"first": (5, 0), "again": (5, 0), "next_step": (5, 1), "next_seed": (6, 0)}


def statistics(strategy):
    """One training step of batch norm, the replicas' inputs differing."""
    from efficientnet import layers

    inputs = np.random.default_rng(0).normal(2.0, 3.0, (2, 4, 5, 5, 3)).astype(np.float32)
    with strategy.scope():
        layer = layers.BatchNormalization(momentum=0.9)
        layer.build(inputs.shape[1:])

    @tf.function
    def step(values):
        def replica(inputs):
            return layer(inputs, training=True)

        return strategy.run(replica, args=(values,))

    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(inputs[context.replica_id_in_sync_group])
    )
    step(values)
    found = {"batch_norm_inputs": inputs}
    for name in ("moving_mean", "moving_variance"):
        local = strategy.experimental_local_results(getattr(layer, name).value)
        found[name] = np.stack([value.numpy() for value in local])
    return found


def noise(strategy):
    """`[replica, layer, ...]` outputs for ones, by draw and kind of layer."""
    from efficientnet import layers

    kinds = {
        "dropout": (layers.Dropout, (4, 32)),
        "stochastic_depth": (layers.StochasticDepth, (64, 1, 1, 1)),
    }
    found = {}
    for kind, (make, shape) in kinds.items():
        with strategy.scope():
            pair = [make(0.5, name=f"{kind}_{name}") for name in "ab"]

        @tf.function
        def step(seed, step, pair=pair, shape=shape):
            def replica():
                with layers.noise_key(seed, step):
                    return tf.stack([x(tf.ones(shape), training=True) for x in pair])

            return strategy.run(replica)

        for name, key in DRAWS.items():
            results = step(*(tf.constant(value, tf.int64) for value in key))
            local = strategy.experimental_local_results(results)
            found[f"{kind}_{name}"] = np.stack([value.numpy() for value in local])
    return found


def main(path):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    np.savez(path, **statistics(strategy), **noise(strategy))


if __name__ == "__main__":
    main(sys.argv[1])
