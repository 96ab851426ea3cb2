"""Any Keras model in place of an EfficientNet: `--model_fn=module:function`.

The function takes `num_classes` and `image_size` by name and returns a functional
or sequential Keras model from images `[N, S, S, 3]`, values 0..255, to logits
`[N, C]`. See docs/own_model.md.
"""

import contextlib
import difflib
import importlib
import os
import random
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context  # There is no public way to ask for a seed.

from data.errors import InputError
from efficientnet import noise

_REMEDY = "See docs/own_model.md."


def load_function(model_fn: str) -> Callable[..., keras.Model]:
    """The function named `module:function`.

    Raises:
        InputError: There is none of this name, or its module does not import.
    """
    module_name, _, name = model_fn.partition(":")
    if not module_name or not name.isidentifier():
        raise InputError(
            "`model_fn`: expected module:function, such as my_models:resnet; received "
            f"{model_fn!r}."
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # Whatever stands in a user's file.
        raise InputError(
            f"`model_fn` {model_fn}: expected a module that can be imported; "
            f"{_said(error)}. Run from the directory it is in, or put that on PYTHONPATH."
        ) from error
    function = getattr(module, name, None)
    if callable(function):
        return function
    near = difflib.get_close_matches(name, vars(module), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    came = "there is none" if function is None else f"it is a {type(function).__name__}"
    raise InputError(
        f"`model_fn` {model_fn}: expected a function {name} in "
        f"{getattr(module, '__file__', module_name)}; {came}.{hint}"
    )


def build(
    model_fn: str, num_classes: int, image_size: int, precision: str, seed: int | None
) -> keras.Model:
    """Calls the function and checks what it returns.

    Args:
        model_fn: `module:function`.
        num_classes: Size of the logits.
        image_size: Side of the images in pixels.
        precision: Keras' policy while the function runs.
        seed: Decides what the function draws, whether it asks Python's, NumPy's
            or TensorFlow's generators, Keras' initializers ask Python's. They go on
            afterwards as if it had not been called. None: whatever comes.

    Raises:
        InputError: The function fails, or returns no such model.
    """
    function = load_function(model_fn)
    with _random_seed(seed), _dtype_policy(precision):
        try:
            model = function(num_classes=num_classes, image_size=image_size)
        except Exception as error:
            raise InputError(
                f"`model_fn` {model_fn}: expected a model from the call with "
                f"num_classes={num_classes}, image_size={image_size}; {_said(error)}. "
                f"{_REMEDY}"
            ) from error
    _check_kind(model_fn, model)
    _check_shapes(model_fn, model, num_classes, image_size)
    _check_activation(model_fn, model)
    _check_noise(model_fn, model)
    return model


def is_own(architecture: str) -> bool:
    """Whether this is `module:function` and not the name of a variant."""
    return ":" in architecture


def register_layers(architecture: str) -> None:
    """Imports the module of an own model, which may register layers of its own."""
    if is_own(architecture):
        with contextlib.suppress(ImportError):  # Stock layers need nothing.
            importlib.import_module(architecture.partition(":")[0])


def _check_kind(model_fn: str, model: Any) -> None:
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise InputError(
                f"`model_fn` {model_fn}: expected a sequential model that begins with "
                f"keras.Input; received one without known input. {_REMEDY}"
            )
        return
    if isinstance(model, keras.Model) and hasattr(model, "operations"):
        return
    came = f"{type(model).__module__}.{type(model).__name__}"
    if isinstance(model, keras.Model):
        came = f"the subclass {came}, which cannot be copied without its code"
    raise InputError(
        f"`model_fn` {model_fn}: expected a functional or sequential keras.Model of Keras "
        f"{keras.__version__}; received {came}. {_REMEDY}"
    )


def _check_shapes(
    model_fn: str, model: keras.Model, num_classes: int, image_size: int
) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(
            f"`model_fn` {model_fn}: expected a model of one input and one output; "
            f"received one of {len(model.inputs)} and {len(model.outputs)}."
        )
    sides = (None, image_size)
    shape = tuple(model.inputs[0].shape)
    if (
        len(shape) != 4
        or shape[0] is not None
        or shape[3] != 3
        or not {shape[1], shape[2]} <= {*sides}
    ):
        raise InputError(
            f"`model_fn` {model_fn}: expected the input shape (None, {image_size}, "
            f"{image_size}, 3), batch first and free; received {shape}. Use the argument "
            "image_size."
        )
    shape = tuple(model.outputs[0].shape)
    if shape != (None, num_classes):
        raise InputError(
            f"`model_fn` {model_fn}: expected the output shape (None, {num_classes}): a "
            f"logit for each class; received {shape}. Use the argument num_classes."
        )


def _check_activation(model_fn: str, model: keras.Model) -> None:
    """Refuses probabilities: the loss takes logits and would hardly learn from them."""
    last = _last_operation(model)
    activation = getattr(last, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    if isinstance(last, keras.layers.Softmax) or type(last).__name__ == "Softmax":
        name = "softmax"
    elif activation is None or name == "linear":
        return
    raise InputError(
        f"`model_fn` {model_fn}: expected logits; received the output of {name} in "
        f"{last.name!r}. Leave it out: activation=None, or classifier_activation=None in "
        "keras.applications."
    )


def _check_noise(model_fn: str, model: keras.Model) -> None:
    """Refuses noise layers without names of their own, by which their noise is drawn.

    The names that Keras makes depend on how many layers the process has made before.
    """
    names = [
        layer.name
        for layer in model._flatten_layers()  # Keras has no public way inside layers.
        if isinstance(layer, noise.Dropout | noise.StochasticDepth)
    ]
    for name in names:
        made = re.fullmatch(r"(dropout|stochastic_depth)(_\d+)?", name)
        if made or names.count(name) > 1:
            raise InputError(
                f"`model_fn` {model_fn}: expected a name of its own for each noise layer "
                f"of efficientnet.noise, which decides its noise; received {name!r}"
                f"{', which Keras made' if made else ' twice'}. Pass name=…."
            )


def _last_operation(model):
    """What computes the output, looked for within models that are layers."""
    last = model.outputs[0]._keras_history.operation  # Keras has no public way.
    return _last_operation(last) if isinstance(last, keras.Model) else last


@contextlib.contextmanager
def _random_seed(seed: int | None) -> Iterator[None]:
    """Every generator seeded, and put back: theirs are global, ours are not."""
    if seed is None:
        yield
        return
    before = random.getstate(), np.random.get_state(), context.global_seed()
    seed = seed % 2**32
    random.seed(seed)  # Keras' initializers and dropout take their seeds here.
    np.random.seed(seed)
    tf.random.set_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        tf.random.set_seed(before[2])


@contextlib.contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _said(error: Exception) -> str:
    """Kind and text of an error, and the line it came from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {text} ({os.path.basename(frame.filename)}, line "
        f"{frame.lineno})"
    )
