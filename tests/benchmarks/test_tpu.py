"""The device steps as a TPU would get them; what its compiler says: docs/tpu.md."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.tpu import device_program, pretended_strategy
from benchmarks.tpu.device_steps import STEPS, DeviceStep
from benchmarks.tpu.registered_operations import not_registered
from noisy_student.config import ModelConfig, TrainingConfig

REGISTERED = json.loads(pathlib.Path("tests/golden/tpu_operations.json").read_text())
TINY = ModelConfig(width=0.1, depth=0.1, image_size=16)


@pytest.fixture(scope="module")
def pretended():
    return pretended_strategy.strategy(1)


def step_of(kind, **settings):
    ratio = 2 if kind in ("train", "online_teacher") else 0
    settings = {"model": TINY, "rows": 2, "ratio": ratio, "classes": 10} | settings
    return DeviceStep(kind, **settings)


STUDENT = step_of("train", training=TrainingConfig(warmup="0 steps", ema_decay=0.5))


@pytest.fixture(scope="module")
def student(pretended):
    """Its trainer, its step, and the look at the weights after a loop of steps."""
    trainer = STUDENT.trainer(pretended)
    graph = STUDENT.trace_training(trainer, pretended)
    programs = device_program.device_programs(graph)
    return trainer, *sorted(programs, key=lambda each: -len(each.operations))


def test_a_tpu_takes_every_operation_of_a_students_step(student):
    _, step, look = student
    assert len(look.operations) < len(step.operations) / 2
    assert_for_a_tpu(step)
    assert_for_a_tpu(look)


@pytest.mark.parametrize("kind", [kind for kind in STEPS if kind != "train"])
def test_a_tpu_takes_every_operation_of_a_step(kind, pretended):
    programs = device_program.device_programs(step_of(kind).trace(pretended))
    assert_for_a_tpu(max(programs, key=lambda each: len(each.operations)))


def assert_for_a_tpu(program):
    assert not_registered(program.operations, REGISTERED) == set()
    for output in outputs_of(program):
        assert output.shape.is_fully_defined(), output
        assert output.dtype not in (tf.float64, tf.string), output
    assert "HloModule" in lowered_for_cpu(program)


def outputs_of(program):
    """All tensors but the last one of batch norm, which is for GPUs and has no shape."""
    unused = {
        output.name
        for operation in program.operations
        if operation.type == "FusedBatchNormV3"
        for output in operation.outputs[5:]
    }
    for operation in program.operations:
        if not unused & {tensor.name for tensor in operation.inputs}:
            for output in operation.outputs:
                if output.name not in unused and output.dtype != tf.resource:
                    yield output


def lowered_for_cpu(program):
    variables, inputs = program.specs

    @tf.function(jit_compile=True, autograph=False)
    def function(*values):
        return program(values[: len(variables)], values[len(variables) :])

    text = function.experimental_get_compiler_ir(*variables, *inputs)
    return text(stage="hlo", platform_name="CPU")


def test_a_step_that_a_tpu_does_not_take_is_found(pretended):
    images = tf.zeros([2, 8, 8, 3])

    @tf.function
    def step():
        def resized():
            scaled = tf.image.resize(images, [4, 4], "bicubic")
            return tf.strings.as_string(tf.cast(scaled, tf.complex128))

        return pretended.run(resized)

    graph = step.get_concrete_function().graph
    (program,) = device_program.device_programs(graph)
    found = not_registered(program.operations, REGISTERED)
    assert {"ResizeBicubic", "AsString"} <= found
    assert any("complex128" in each for each in found)


@pytest.fixture
def as_traced():
    """Graphs run without Grappler, which rearranges sums, of each graph others."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.mark.usefixtures("as_traced")
def test_a_lifted_step_equals_the_trainers_own(student):
    """Several steps on the same batches: the very same numbers in all variables."""
    batches = [random_batch(STUDENT, seed) for seed in range(3)]
    alone = tf.distribute.OneDeviceStrategy("/cpu:0")
    expected = STUDENT.trainer(alone)
    first = [value.copy() for value in numbers(expected)]
    train = tf.function(lambda batch: alone.run(expected._train_step, args=(batch,)))
    for batch in batches:
        train(batch)

    lifted, program, _ = student
    handles = program.handles
    values = [
        tf.raw_ops.ReadVariableOp(resource=handle, dtype=spec.dtype)
        for handle, spec in zip(handles, program.specs[0], strict=True)
    ]
    run = tf.function(lambda *given: program(*given), autograph=False)
    for batch in batches:
        replica = tf.constant(0)
        results = run(values, [replica, *tf.nest.flatten(batch)])
        for position, value in zip(program.written, results, strict=False):
            values[position] = value

    found = {id(handle): value for handle, value in zip(handles, values, strict=True)}
    changed = 0
    for variable, begin, end in zip(
        variables(lifted), first, numbers(expected), strict=True
    ):
        np.testing.assert_array_equal(found[id(variable.values[0].handle)], end)
        changed += not np.array_equal(begin, end)
    assert changed > 300  # Weights, statistics, averages, slots, step.


def variables(trainer):
    kept = [v.value for v in trainer.model.variables + trainer.optimizer.variables]
    return [v for v in kept + trainer.ema.shadows if "learning_rate" not in v.name]


def numbers(trainer):
    return [variable.numpy() for variable in variables(trainer)]


def random_batch(step, seed):
    rng = np.random.default_rng(seed)

    def filled(value):
        shape = value.shape
        if value.dtype == tf.int32:
            return tf.constant(rng.integers(0, step.classes, shape), tf.int32)
        if value.dtype == tf.uint8:
            return tf.constant(rng.integers(0, 256, shape), tf.uint8)
        return tf.constant(rng.dirichlet(np.ones(shape[-1]), shape[0]), tf.float32)

    return tf.nest.map_structure(filled, step.zeros())
