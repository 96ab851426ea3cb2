"""Runs a model without noise over any number of images, on any strategy."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from noisy_student.strategy import check_one_process


class Predictor:
    """Class probabilities of images.

    Every call computes a full batch, the last one padded, so that a device
    compiles one program.

    Args:
        model: Images to logits; made anew within the strategy's scope.
        strategy: Where to compute.
        batch_size: Images a step over all replicas; rounded up to a multiple
            of the replicas.
    """

    def __init__(self, model: keras.Model, strategy, batch_size: int):
        check_one_process("labeling and evaluation", strategy)
        self._strategy = strategy
        replicas = strategy.num_replicas_in_sync
        self.batch_size = -(-batch_size // replicas) * replicas
        with strategy.scope():
            self._model = keras.models.clone_model(model)
            self._model.set_weights(model.get_weights())

    def update(self, model: keras.Model) -> None:
        """Takes over the weights of another model of the same kind."""
        self._model.set_weights(model.get_weights())

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 `[N, S, S, 3]`, N up to `batch_size`, to float32 `[N, C]`."""
        count = len(images)
        padding = [(0, self.batch_size - count)] + [(0, 0)] * 3
        images = np.pad(images, padding)
        parts = np.split(images, self._strategy.num_replicas_in_sync)
        inputs = self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )
        outputs = self._strategy.experimental_local_results(self._predict(inputs))
        return np.concatenate([output.numpy() for output in outputs])[:count]

    def over(self, batches: tf.data.Dataset) -> Iterator[dict]:
        """`data.pipeline.evaluation_batches` with `probabilities` added."""
        for batch in batches.as_numpy_iterator():
            yield {**batch, "probabilities": self(batch.pop("image"))}

    @tf.function
    def _predict(self, images):
        return self._strategy.run(
            lambda x: tf.nn.softmax(self._model(x, training=False)), args=(images,)
        )
