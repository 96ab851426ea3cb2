"""Chains of elementwise operations in one pass over memory, with their gradients.

On a CPU the network waits for memory: op by op, batch norm, silu and
squeeze-excite read and write each activation again for every operation.
Here XLA makes one loop of each chain. Sums over pixels are not left to it, its
loops for them are slow: a compiled chain adds up a few rows at a time, and the
product with a row of ones does the rest.

The formulas hold on every device. They are used where `applies` says so, which
is where they were measured to help (docs/performance.md); elsewhere the usual
kernels run.
"""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

# Values from which a chain pays for being compiled, some 0.1 s for each shape.
SMALLEST = 2**20
_unfused = threading.local()
_ROWS = 8  # How many rows a compiled chain adds up; more gave nothing.


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Within it `applies` says no: every operation stands in the graph by itself."""
    before = getattr(_unfused, "on", False)
    _unfused.on = True
    try:
        yield
    finally:
        _unfused.on = before


def applies(x: tf.Tensor) -> bool:
    """Whether chains are to be used for `x`: one CPU, float32, known large shape."""
    if getattr(_unfused, "on", False):
        return False
    devices = [device.device_type for device in tf.config.list_logical_devices()]
    return (
        devices == ["CPU"]
        and x.dtype == tf.float32
        and x.shape.is_fully_defined()
        and x.shape.num_elements() >= SMALLEST
    )


def _one_loop(function):
    return tf.function(function, jit_compile=True, autograph=False)


@tf.custom_gradient
def silu(x: tf.Tensor) -> tf.Tensor:
    """x · sigmoid(x). Written so, Grappler makes it part of a convolution.

    Keeps x alone for the gradient, as `tf.nn.silu` does.
    """

    def gradient(upstream):
        compute = _silu_gradient if applies(x) else _silu_gradient.python_function
        return compute(upstream, x)

    return x * tf.sigmoid(x), gradient


@_one_loop
def _silu_gradient(upstream, x):
    gate = tf.sigmoid(x)
    return upstream * (gate * (1.0 + x * (1.0 - gate)))


def batch_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, with_silu: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch norm by the batch's own statistics, and silu after it.

    Args:
        x: Activations `[N, H, W, C]` for which `applies`.
        gamma: Scale `[C]`.
        beta: Offset `[C]`.
        epsilon: Added to the variance.
        with_silu: Whether silu follows.

    Returns:
        The outputs, and without gradient the mean and the biased variance `[C]`.
    """
    count = float(x.shape.num_elements() // x.shape[-1])

    @tf.custom_gradient
    def compute(x, gamma, beta):
        mean = _sum(x) / count
        variance = _sum(_partial_squares(x, mean)) / count
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        offset = beta - mean * scale

        def gradient(upstream, *_):
            if with_silu:
                upstream = _affine_silu_gradient(upstream, x, scale, offset)
            d_beta = _sum(upstream)
            d_gamma = _sum(_partial_products(upstream, x, mean)) * inverse
            # dx = scale · (upstream - d_beta / n - normalized x · d_gamma / n)
            slope = -scale * inverse * d_gamma / count
            constant = -scale * d_beta / count - slope * mean
            d_x = _weighted_sum(upstream, scale, x, slope, constant)
            return d_x, d_gamma, d_beta

        outputs = (_affine_silu if with_silu else _affine)(x, scale, offset)
        return (outputs, mean, variance), gradient

    outputs, mean, variance = compute(
        x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)
    )
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)


@tf.custom_gradient
def with_mean(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """x itself, and its mean over H and W, `[N, 1, 1, C]`."""

    def gradient(d_x, d_mean):
        compute = _add if applies(x) else _add.python_function
        pixels = tf.cast(tf.shape(x)[1] * tf.shape(x)[2], x.dtype)
        return compute(d_x, d_mean / pixels)

    return (tf.identity(x), tf.reduce_mean(x, [1, 2], keepdims=True)), gradient


@tf.custom_gradient
def scale(x: tf.Tensor, gate: tf.Tensor) -> tf.Tensor:
    """x · gate, for x `[N, H, W, C]` and gate `[N, 1, 1, C]`."""

    def gradient(upstream):
        if not applies(x):
            d_gate = tf.reduce_sum(upstream * x, [1, 2], keepdims=True)
            return upstream * gate, d_gate
        partial = _partial_pixel_products(upstream, x)  # [N, rows, C]
        ones = tf.ones([partial.shape[0], 1, partial.shape[1]])
        return _multiply(upstream, gate), tf.matmul(ones, partial)[:, None]

    return x * gate, gradient


def _sum(x):
    """Over all axes but the last."""
    x = tf.reshape(x, [-1, x.shape[-1]])
    return tf.matmul(tf.ones([1, x.shape[0]]), x)[0]


def _rows(size: int) -> int:
    return next(rows for rows in range(_ROWS, 0, -1) if size % rows == 0)


@_one_loop
def _partial_squares(x, mean):
    return _partial_sum(tf.square(part - mean) for part in _parts(x))


@_one_loop
def _partial_products(a, x, mean):
    pairs = zip(_parts(a), _parts(x), strict=True)
    return _partial_sum(a * (x - mean) for a, x in pairs)


@_one_loop
def _partial_pixel_products(a, x):
    pixels = x.shape[1] * x.shape[2]
    shape = [x.shape[0], _rows(pixels), -1, x.shape[-1]]
    a, x = tf.reshape(a, shape), tf.reshape(x, shape)
    return _partial_sum(a[:, row] * x[:, row] for row in range(shape[1]))


def _parts(x):
    rows = _rows(x.shape.num_elements() // x.shape[-1])
    return tf.unstack(tf.reshape(x, [rows, -1, x.shape[-1]]))


def _partial_sum(parts):
    # Additions in a row: of tf.add_n XLA would not make one loop.
    total = next(parts)
    for part in parts:
        total = total + part
    return total


@_one_loop
def _affine(x, scale, offset):
    return x * scale + offset


@_one_loop
def _affine_silu(x, scale, offset):
    x = x * scale + offset
    return x * tf.sigmoid(x)


@_one_loop
def _affine_silu_gradient(upstream, x, scale, offset):
    return _silu_gradient.python_function(upstream, x * scale + offset)


@_one_loop
def _weighted_sum(a, a_weight, b, b_weight, constant):
    return a * a_weight + b * b_weight + constant


@_one_loop
def _add(a, b):
    return a + b


@_one_loop
def _multiply(a, b):
    return a * b
