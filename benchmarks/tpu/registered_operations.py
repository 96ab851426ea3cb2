"""Which operations TensorFlow lowers for TPUs, with which types.

    .venv-tpu/bin/python -m benchmarks.tpu.registered_operations \\
        tests/golden/tpu_operations.json

writes them as JSON: for each operation the types that each of its type attributes may
have. Only tensorflow-tpu knows them; the tests, with TensorFlow, look the operations of
the device steps up in the file.
"""

import json
import sys
from collections.abc import Iterable

import tensorflow as tf
from tensorflow.python.framework import kernels

_DEVICE = "XLA_TPU_JIT"

Registered = dict[str, dict[str, list[str]]]


def registered() -> Registered:
    """Of the TensorFlow that is installed, which must be tensorflow-tpu."""

    @tf.function(jit_compile=True, autograph=False)
    def anything(x):
        return x + x

    # Only now are they registered.
    anything.experimental_get_compiler_ir(tf.TensorSpec([1]))(
        stage="hlo", platform_name="TPU"
    )
    found: dict = {}
    for kernel in kernels.get_all_registered_kernels().kernel:
        if kernel.device_type == _DEVICE:
            types = found.setdefault(kernel.op, {})
            for constraint in kernel.constraint:
                allowed = constraint.allowed_values.list.type
                names = {tf.as_dtype(number).name for number in allowed}
                types[constraint.name] = sorted(names | set(types.get(constraint.name, ())))
    return dict(sorted(found.items()))


def not_registered(operations: Iterable[tf.Operation], known: Registered) -> set[str]:
    """What a TPU does not take: operations, and types of their attributes.

    Args:
        operations: Of a device program.
        known: As `registered` gives it.
    """
    found = set()
    for operation in operations:
        if operation.type not in known:
            found.add(operation.type)
            continue
        for name, allowed in known[operation.type].items():
            value = operation.get_attr(name)
            types = value if isinstance(value, list) else [value]
            wrong = {each.name for each in types} - set(allowed)
            found |= {f"{operation.type} of {name} {each}" for each in wrong}
    return found


if __name__ == "__main__":
    lines = [f"{json.dumps(op)}: {json.dumps(types)}" for op, types in registered().items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    with open(sys.argv[1], "w") as file:
        file.write(text)
