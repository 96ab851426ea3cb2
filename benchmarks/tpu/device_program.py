"""What a traced function would send to a TPU, as a function of plain tensors.

Within `strategy.run`, TensorFlow marks the operations that a TPU core is to execute.
Here they are taken out of the graph again, and their reads and writes of variables
become arguments and results: such a function can be lowered without a TPU.
"""

import dataclasses

import tensorflow as tf
from tensorflow.python.framework import ops

_MARK, _OUTPUT = "_tpu_replicate", "TPUReplicatedOutput"
_METADATA = "TPUReplicateMetadata"
# Of one core alone these give what they are given.
_ACROSS_CORES = ("CrossReplicaSum", "AllToAll")
_UPDATES = {
    "AssignVariableOp": lambda _, value: value,
    "AssignAddVariableOp": lambda old, value: old + value,
    "AssignSubVariableOp": lambda old, value: old - value,
}


@dataclasses.dataclass(frozen=True)
class DeviceProgram:
    """The operations of one `strategy.run`, in the order they were traced in.

    Attributes:
        operations: Of one core, but for those that compute nothing.
        replicas: Cores that run it together.
        variables: Handles of the variables they use.
        inputs: Other tensors from outside: replica number, batch.
        outputs: Tensors that are used outside.
    """

    operations: list
    replicas: int
    variables: list
    inputs: list
    outputs: list

    @property
    def specs(self) -> tuple[list, list]:
        """Shapes and types of the variables and of the inputs."""
        variables = [_held(handle) for handle in self.variables]
        return variables, [tf.TensorSpec(x.shape, x.dtype) for x in self.inputs]

    @property
    def handles(self) -> list:
        """Of the variables as they are outside of every graph, of replica 0."""
        return [_outermost(handle.op.inputs[0]) for handle in self.variables]

    @property
    def written(self) -> list[int]:
        """Positions of the variables that the operations change."""
        names = {op.inputs[0].name for op in self.operations if op.type in _UPDATES}
        return [i for i, handle in enumerate(self.variables) if handle.name in names]

    def __call__(self, variables: list, inputs: list) -> list:
        """The new values of the written variables, then the outputs."""
        state = {h.name: value for h, value in zip(self.variables, variables, strict=True)}
        values = {x.name: value for x, value in zip(self.inputs, inputs, strict=True)}
        for op in self.operations:
            self._apply(op, state, values)
        written = [state[self.variables[i].name] for i in self.written]
        return written + [values[x.name] for x in self.outputs]

    def _apply(self, op, state: dict, values: dict) -> None:
        if op.type == "ReadVariableOp":
            values[op.outputs[0].name] = state[op.inputs[0].name]
        elif op.type in _UPDATES:
            handle, value = op.inputs[0].name, values[op.inputs[1].name]
            state[handle] = _UPDATES[op.type](state[handle], value)
        elif op.type in _ACROSS_CORES and self.replicas == 1:
            # Left out, so that what one core runs alone can run on a CPU.
            values[op.outputs[0].name] = values[op.inputs[0].name]
        else:
            copied = _copy(op, [values[x.name] for x in op.inputs])
            values.update(zip([x.name for x in op.outputs], copied.outputs, strict=True))


def device_programs(graph) -> list[DeviceProgram]:
    """One for each `strategy.run` in a graph and in the loops in it."""
    found = {}
    for op in graph.get_operations():
        if _MARK in op.node_def.attr:
            found.setdefault(op.get_attr(_MARK), []).append(op)
    programs = [_program(operations) for operations in found.values()]
    for op in graph.get_operations():
        if body := getattr(op, "_body_graph", None):
            programs += device_programs(body)
    return programs


def _program(marked) -> DeviceProgram:
    (metadata,) = [op for op in marked if op.type == _METADATA]
    operations = [op for op in marked if op.type not in ("NoOp", _METADATA)]
    inside = {x.name for op in operations for x in op.outputs}
    outside = {x.name: x for op in operations for x in op.inputs if x.name not in inside}
    taken = [op for op in metadata.graph.get_operations() if op.type == _OUTPUT]
    return DeviceProgram(
        operations,
        replicas=metadata.get_attr("num_replicas"),
        variables=[x for x in outside.values() if x.dtype == tf.resource],
        inputs=[x for x in outside.values() if x.dtype != tf.resource],
        outputs=[op.inputs[0] for op in taken if op.inputs[0].name in inside],
    )


def _held(handle) -> tf.TensorSpec:
    """Shape and type of the variable behind a handle that all replicas share."""
    variable = _outer(handle.op.inputs[0])  # That of replica 0.
    held = variable._handle_data.shape_and_type[0]
    return tf.TensorSpec(held.shape, tf.as_dtype(held.dtype))


def _outer(tensor):
    """What a graph captured as `tensor`."""
    captures = tensor.graph.captures
    return next(outer for outer, inner in captures if inner.name == tensor.name)


def _outermost(tensor):
    while hasattr(tensor, "graph"):
        tensor = _outer(tensor)
    return tensor


def _copy(op, inputs):
    """The same operation, without the mark, in the graph that is being traced."""
    graph = ops.get_default_graph()
    node = tf.compat.v1.NodeDef()
    node.CopyFrom(op.node_def)
    node.name = graph.unique_name(op.name)
    node.device = ""
    del node.input[:]
    for name in [name for name in node.attr if name.startswith("_")]:
        del node.attr[name]
    return ops.Operation.from_node_def(
        node, graph, inputs, output_types=[x.dtype for x in op.outputs], op_def=op.op_def
    )


def lowered(program: DeviceProgram) -> bytes:
    """The program as serialized HLO, by TensorFlow's lowering for TPUs.

    Arguments: variables, then inputs. Results: written variables, then outputs.

    Raises:
        tf.errors.OpError: Names what a TPU does not take.
    """
    variables, inputs = program.specs
    count = len(variables)

    @tf.function(jit_compile=True, autograph=False)
    def function(*values):
        return program(values[:count], values[count:])

    text = function.experimental_get_compiler_ir(*variables, *inputs)
    return text(stage="hlo_serialized", platform_name="TPU")
