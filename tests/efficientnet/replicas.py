"""Run by conftest.py in a process of its own: several replicas need several devices.

Writes what the layers do under a strategy of COUNT replicas to an `.npz` file:
`python -m tests.efficientnet.replicas COUNT PATH`.
"""

import sys
import tempfile

import numpy as np
import tensorflow as tf

DRAWS = {"first": (5, 0), "again": (5, 0), "next_step": (5, 1), "next_seed": (6, 0)}


def batch_norm(strategy, group_size):
    """One training step of batch norm, the replicas' inputs differing."""
    from efficientnet import normalization

    replicas = strategy.num_replicas_in_sync
    random = np.random.default_rng(0)
    inputs = random.normal(2.0, 3.0, (replicas, 4, 5, 5, 3)).astype(np.float32)
    inputs += np.arange(replicas, dtype=np.float32)[:, None, None, None, None]
    targets = random.normal(size=inputs.shape).astype(np.float32)
    with strategy.scope():
        layer = normalization.BatchNormalization(momentum=0.9, group_size=group_size)
        layer.build(inputs.shape[1:])

    @tf.function
    def step(inputs, targets):
        def replica(inputs, targets):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs, training=True)
                loss = tf.reduce_sum(outputs * targets)
            return outputs, *tape.gradient(loss, [inputs, layer.gamma.value])

        return strategy.run(replica, args=(inputs, targets))

    results = step(_distributed(strategy, inputs), _distributed(strategy, targets))
    names = ("outputs", "input_gradients", "gamma_gradients")
    found = {"inputs": inputs, "targets": targets}
    found.update(zip(names, (_stacked(strategy, value) for value in results), strict=True))
    for name in ("moving_mean", "moving_variance"):
        found[name] = _stacked(strategy, getattr(layer, name).value)
    found.update(_saved(layer))
    return {f"batch_norm_{group_size}_{key}": value for key, value in found.items()}


def _saved(layer):
    """The moving statistics as Keras and as a checkpoint of TensorFlow have them."""
    with tempfile.TemporaryDirectory() as directory:
        path = tf.train.Checkpoint(layer=layer).save(f"{directory}/checkpoint")
        reader = tf.train.load_checkpoint(path)
        names = reader.get_variable_to_shape_map()
        in_checkpoint = {
            part: reader.get_tensor(next(name for name in names if f"/{part}/" in name))
            for part in ("moving_mean", "moving_variance")
        }
    by_keras = dict(zip([w.name for w in layer.weights], layer.get_weights(), strict=True))
    return {
        f"saved_{name}": np.stack([in_checkpoint[name], by_keras[name]])
        for name in in_checkpoint
    }


def block(strategy, remat):
    """Gradients and statistics of a block with grouped statistics and noise."""
    from efficientnet import blocks, noise

    replicas = strategy.num_replicas_in_sync
    inputs = np.random.default_rng(0).normal(size=(replicas, 4, 5, 5, 8))
    with strategy.scope():
        layer = blocks.MBConv(
            8,
            3,
            stochastic_depth_rate=0.5,
            remat=remat,
            norm={"group_size": 2},
            seed=0,
            name="block",
        )
        layer.build((None, 5, 5, 8))

    @tf.function
    def step(inputs):
        def replica(inputs):
            with tf.GradientTape() as tape, noise.noise_key(1, 2):
                loss = tf.reduce_sum(layer(inputs, training=True) ** 2)
            return tape.gradient(loss, layer.trainable_variables)

        return strategy.run(replica, args=(inputs,))

    gradients = step(_distributed(strategy, inputs.astype(np.float32)))
    statistics = [_stacked(strategy, v.value) for v in layer.non_trainable_variables]
    return {
        f"block_{remat}_gradients": _joined([_stacked(strategy, g) for g in gradients]),
        f"block_{remat}_statistics": _joined(statistics),
    }


def noise_draws(strategy):
    """`[replica, layer, ...]` outputs for ones, by draw and kind of layer."""
    from efficientnet import noise

    kinds = {
        "dropout": (noise.Dropout, (4, 32)),
        "stochastic_depth": (noise.StochasticDepth, (64, 1, 1, 1)),
    }
    found = {}
    for kind, (make, shape) in kinds.items():
        with strategy.scope():
            pair = [make(0.5, name=f"{kind}_{name}") for name in "ab"]

        @tf.function
        def step(seed, step, pair=pair, shape=shape):
            def replica():
                with noise.noise_key(seed, step):
                    return tf.stack([x(tf.ones(shape), training=True) for x in pair])

            return strategy.run(replica)

        for name, key in DRAWS.items():
            results = step(*(tf.constant(value, tf.int64) for value in key))
            found[f"{kind}_{name}"] = _stacked(strategy, results)
    return found


def _distributed(strategy, values):
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[context.replica_id_in_sync_group])
    )


def _stacked(strategy, value):
    local = strategy.experimental_local_results(value)
    return np.stack([np.asarray(one) for one in local])


def _joined(arrays):
    """`[replica, …]` arrays as one `[replica, values]`."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], 1)


def main(count, path):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
    )
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
    assert strategy.num_replicas_in_sync == count
    found = noise_draws(strategy)
    for group_size in {1, 2, -1}:
        found.update(batch_norm(strategy, group_size))
    for remat in (False, True):
        found.update(block(strategy, remat))
    np.savez(path, **found)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
