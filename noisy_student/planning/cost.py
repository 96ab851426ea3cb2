"""What a network costs, read off its graph: arithmetic and memory, nothing is run.

The graph of one forward and backward pass is made over placeholders, so that a
network of any size can be looked at before memory for it is there.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf

from efficientnet import freezing, fused, noise
from noisy_student.config import ModelConfig

# Outputs that are their input's memory.
_ALIASES = {"Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "StopGradient"}
_NOT_COUNTED = {"Placeholder", "Const"}
_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """Of one network, trained on a number of images at a time.

    Attributes:
        parameters: Trainable ones.
        multiply_adds: Of a forward pass over one image, what the paper and timm call
            FLOPs; a training step takes about three times as many.
        state_bytes: Weights, moving statistics, their averages and the optimizer's two
            slots, all float32.
        step_bytes: Largest sum of the activations and gradients that live at one time
            in a pass forward and backward, in the order in which TensorFlow makes the
            operations. Left out: workspace of kernels, and what an allocator leaves
            unused. A compiler that fuses operations, as on TPUs, needs less.
    """

    parameters: int
    multiply_adds: float
    state_bytes: int
    step_bytes: int


@functools.lru_cache(maxsize=16)
def network_cost(
    model: ModelConfig, num_classes: int, rows: int, frozen_blocks: int = -1
) -> NetworkCost:
    """The cost of training a network on `rows` images at a time.

    Args:
        model: The network.
        num_classes: Size of the logits.
        rows: Images that are in memory together, on one replica.
        frozen_blocks: As in `TrainingConfig`.
    """
    network = model.outline(num_classes)
    if frozen_blocks >= 0:
        freezing.freeze(network, frozen_blocks)
    trainable = sum(v.shape.num_elements() for v in _specs(network.trainable_variables))
    frozen = sum(v.shape.num_elements() for v in _specs(network.non_trainable_variables))
    return NetworkCost(
        parameters=trainable,
        multiply_adds=multiply_adds(network, model.resolution),
        # Twice for the averages; slots for what the optimizer changes.
        state_bytes=_FLOAT_BYTES * (4 * trainable + 2 * frozen),
        step_bytes=_peak_bytes(_training_graph(network, rows, model.resolution)),
    )


@functools.lru_cache(maxsize=64)
def forward_cost(model: ModelConfig, num_classes: int) -> tuple[int, float]:
    """Trainable parameters, and multiply-adds of a forward pass over one image."""
    network = model.outline(num_classes)
    trainable = sum(v.shape.num_elements() for v in _specs(network.trainable_variables))
    return trainable, multiply_adds(network, model.resolution)


def _training_graph(network: keras.Model, rows: int, size: int) -> tf.Graph:
    trainable = {id(variable) for variable in network.trainable_variables}

    def gradients(values, images):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            watched = [
                value
                for variable, value in zip(network.variables, values, strict=True)
                if id(variable) in trainable
            ]
            tape.watch(watched)
            with noise.noise_key(0, tf.constant(0, tf.int64)):
                logits = _applied(network, values, images, training=True)
            loss = tf.reduce_mean(tf.reduce_logsumexp(tf.cast(logits, tf.float32), -1))
        return tape.gradient(loss, watched)

    return _graph(gradients, network, rows, size)


def multiply_adds(network: keras.Model, size: int) -> float:
    """Of a forward pass over one image of `size` pixels; see `NetworkCost`."""

    def logits(values, images):
        return _applied(network, values, images, training=False)

    graph = _graph(logits, network, 1, size)
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    with _quiet():
        profile = profiler.profile(graph, options={**options, "output": "none"})
    return profile.total_float_ops / 2


def _applied(
    network: keras.Model, values: Sequence[tf.Tensor], images: tf.Tensor, training: bool
) -> tf.Tensor:
    """The network's logits with tensors in place of its variables."""
    state = list(zip(network.variables, values, strict=True))
    with keras.StatelessScope(state_mapping=state, initialize_variables=False):
        return network(images, training=training)


def _graph(function: Callable, network: keras.Model, rows: int, size: int) -> tf.Graph:
    images = tf.TensorSpec([rows, size, size, 3], tf.uint8)
    with fused.unfused():  # A compiled chain would hide what is in it.
        traced = tf.function(function, autograph=False)
        return traced.get_concrete_function(_specs(network.variables), images).graph


def _specs(variables: Iterable[keras.Variable]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]


def _peak_bytes(graph: tf.Graph) -> int:
    """The largest sum of tensors between their making and their last use."""
    operations = graph.get_operations()
    owner: dict = {}
    size: dict = {}
    last_use: dict = {}
    for number, operation in enumerate(operations):
        inputs = [owner[tensor.ref()] for tensor in operation.inputs]
        for index, tensor in enumerate(operation.outputs):
            if operation.type in _ALIASES and inputs:
                owner[tensor.ref()] = inputs[index if operation.type == "IdentityN" else 0]
                continue
            owner[tensor.ref()] = tensor.ref()
            counted = operation.type not in _NOT_COUNTED
            size[tensor.ref()] = _bytes_of(tensor) if counted else 0
            last_use[tensor.ref()] = number
        last_use.update(dict.fromkeys(inputs, number))
    last_use.update((owner[tensor.ref()], len(operations)) for tensor in graph.outputs)
    ending: dict[int, list] = {}
    for tensor, number in last_use.items():
        ending.setdefault(number, []).append(tensor)
    live = peak = 0
    for number, operation in enumerate(operations):
        live += sum(size.get(tensor.ref(), 0) for tensor in operation.outputs)
        peak = max(peak, live)
        live -= sum(size[tensor] for tensor in ending.get(number, ()))
    return peak


def _bytes_of(tensor: tf.Tensor) -> int:
    return (tensor.shape.num_elements() or 0) * max(tensor.dtype.size or 0, 0)


@contextlib.contextmanager
def _quiet():
    """Without the warning that the profiler is TensorFlow 1's."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
