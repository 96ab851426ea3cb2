"""The model that benchmarks are run on, loaded once one of them needs it."""

import functools

import keras
import tensorflow as tf

from noisy_student.evaluation.attacks import Attack
from noisy_student.models import model_files
from noisy_student.models.inference import Predictor


class EvaluatedModel:
    """A trained model and what predicts with it.

    Args:
        directory: Of the model.
        strategy: Where to compute.
        batch_size: Images a step, over all replicas.

    Raises:
        InputError: The directory holds no model.
    """

    def __init__(self, directory: str, strategy: tf.distribute.Strategy, batch_size: int):
        self.directory = directory
        self.info = model_files.load_info(directory)
        self._strategy, self._batch_size = strategy, batch_size
        self._attacked: dict[int, tuple[Predictor, Attack]] = {}  # By number of steps.

    @functools.cached_property
    def _network(self) -> keras.Model:
        return model_files.load_model(self.directory)[0]

    @functools.cached_property
    def predictor(self) -> Predictor:
        return Predictor(self._network, self._strategy, self._batch_size)

    def attacked(self, epsilon: float, steps: int) -> Predictor:
        """Predicts images once an `attacks.Attack` has changed them."""
        if steps not in self._attacked:
            attacks: list[Attack] = []

            def attack(network):
                attacks.append(Attack(network, epsilon, steps))
                return attacks[-1]

            predictor = Predictor(
                self._network, self._strategy, self._batch_size, attack=attack
            )
            self._attacked[steps] = predictor, attacks[-1]
        predictor, used = self._attacked[steps]
        used.set_epsilon(epsilon)
        return predictor
