"""Runs a model over any number of images, on any strategy; without noise by default."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from efficientnet import freezing, noise
from noisy_student.strategy import check_one_process

Attack = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Predictor:
    """Class probabilities of images.

    Every call computes a full batch, the last one padded, so that a device
    compiles one program.

    Args:
        model: Images to logits; made anew within the strategy's scope.
        strategy: Where to compute.
        batch_size: Images a step over all replicas; rounded up to a multiple
            of the replicas.
        noise_seed: Turns dropout and stochastic depth on, drawn from it; batch norm
            keeps its moving statistics, so that no image depends on its neighbours.
        temperature: T of softmax(logits / T), see `calibration`.
        attack: Makes of the model what changes images, given their labels, before they
            are predicted, such as an `evaluation.attacks.Attack`.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        batch_size: int,
        noise_seed: int | None = None,
        temperature: float = 1.0,
        attack: Callable[[keras.Model], Attack] | None = None,
    ):
        check_one_process("labeling and evaluation", strategy)
        self._strategy = strategy
        replicas = strategy.num_replicas_in_sync
        self.batch_size = -(-batch_size // replicas) * replicas
        self._noise_seed, self._temperature = noise_seed, temperature
        with strategy.scope():
            self._model = keras.models.clone_model(model)
            self._model.set_weights(model.get_weights())
            if noise_seed is not None:
                freezing.freeze_statistics(self._model)
            # Within the scope too: it may have variables of its own.
            self._attack = attack(self._model) if attack else None

    def update(self, model: keras.Model) -> None:
        """Takes over the weights of another model of the same kind."""
        self._model.set_weights(model.get_weights())

    def __call__(
        self, images: np.ndarray, draw: int = 0, labels: np.ndarray | None = None
    ) -> np.ndarray:
        """Images `[N, S, S, 3]`, N up to `batch_size`, to float32 `[N, C]`.

        `draw` is the number of the noise: equal numbers draw the same. An attack needs
        labels, int32 `[N]`.
        """
        return self.start(images, draw, labels)()

    def start(
        self, images: np.ndarray, draw: int = 0, labels: np.ndarray | None = None
    ) -> Callable[[], np.ndarray]:
        """Like a call, but gives what waits for the probabilities and returns them.

        Until then an accelerator computes them; any thread may wait.
        """
        count = len(images)
        if not count:
            return lambda: np.zeros((0, self._model.output_shape[-1]), np.float32)
        outputs = self._strategy.experimental_local_results(
            self._predict(
                self._distributed(images),
                self._distributed(labels) if self._attack else None,
                tf.constant(draw, tf.int64),
            )
        )
        return lambda: np.concatenate([output.numpy() for output in outputs])[:count]

    def over(self, batches: tf.data.Dataset) -> Iterator[dict]:
        """`data.evaluation_input.evaluation_batches` with `probabilities` added."""
        for draw, batch in enumerate(batches.as_numpy_iterator()):
            found = self(batch.pop("image"), draw, batch["label"])
            yield {**batch, "probabilities": found}

    def _distributed(self, values):
        """Up to `batch_size` values, filled up with zeros, each replica's part its own."""
        padding = [(0, self.batch_size - len(values))] + [(0, 0)] * (values.ndim - 1)
        if padding[0][1]:
            values = np.pad(values, padding)
        parts = np.split(values, self._strategy.num_replicas_in_sync)
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    @tf.function
    def _predict(self, images, labels, draw):
        return self._strategy.run(self._probabilities, args=(images, labels, draw))

    def _probabilities(self, images, labels, draw):
        if self._attack:
            images = self._attack(images, labels)
        if self._noise_seed is None:
            logits = self._model(images, training=False)
        else:
            with noise.noise_key(self._noise_seed, draw):
                logits = self._model(images, training=True)
        return tf.nn.softmax(logits / self._temperature)  # x / 1 is x, bit for bit.
