"""Compiles HLO with the TPU's own compiler, for a TPU that need not be there.

    python -m benchmarks.tpu_compile_hlo PROGRAM.hlo REPLICAS TOPOLOGY ALIASES EFFORT

Needs JAX with libtpu, and no TensorFlow: `tpu_compile` calls it. Uses private names of
jaxlib 0.10.2. ALIASES is a JSON list: for each result the number of the argument whose
memory it takes over. Prints one line of JSON.
"""

import json
import os
import re
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"  # No TPU is to be looked for.

import jax
import numpy as np
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import _jax, xla_client
from jax._src.lib.mlir import ir
from jax.experimental import topologies


def main(path: str, replicas: str, topology: str, aliases: str, effort: str) -> dict:
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    devices = described.devices[: int(replicas)]
    with open(path, "rb") as file:
        computation = xla_client.XlaComputation(file.read())
    with mlir.make_ir_context():
        text = _jax.mlir.xla_computation_to_mlir_module(computation)
        module = ir.Module.parse(text)
        _alias(module, json.loads(aliases))
        result = {"device": devices[0].device_kind, "jax": jax.__version__}
        result |= _compiled(module, devices, _options(devices, float(effort)))
    return result


def _alias(module, arguments: list[int]) -> None:
    """Updates in place, as the TPU's runtime does for variables."""
    main = next(op for op in module.body.operations if op.name.value == "main")
    attributes = list(main.arg_attrs) if "arg_attrs" in main.attributes else []
    attributes = attributes or [ir.DictAttr.get({}) for _ in main.arguments]
    for result, argument in enumerate(arguments):
        number = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), result)
        attributes[argument] = ir.DictAttr.get({"tf.aliasing_output": number})
    main.arg_attrs = ir.ArrayAttr.get(attributes)


def _options(devices, effort: float):
    options = compiler.get_compile_options(
        num_replicas=len(devices),
        num_partitions=1,
        device_assignment=np.array([[device.id] for device in devices]),
    )
    build = options.executable_build_options
    build.exec_time_optimization_effort = build.memory_fitting_effort = effort
    return options


def _compiled(module, devices, options) -> dict:
    began = time.monotonic()
    try:
        executable = devices[0].client.compile(
            module, _jax.DeviceList(tuple(devices)), options
        )
    except jax.errors.JaxRuntimeError as error:
        seconds = round(time.monotonic() - began)
        return {"fits": False, "compile_s": seconds, "error": str(error)[:3000]}
    found = {"fits": True, "compile_s": round(time.monotonic() - began)}
    statistics = executable.get_compiled_memory_stats()
    for name in ("argument", "output", "alias", "temp", "generated_code"):
        size = getattr(statistics, f"{name}_size_in_bytes")
        found[f"{name}_mib"] = round(size / 2**20, 1)
    found["peak_mib"] = round(statistics.peak_memory_in_bytes / 2**20, 1)
    text = executable.hlo_modules()[0].to_string()
    groups = re.findall(r" all-reduce(?:-start)?\(.*?replica_groups=(\S+?),? ", text)
    found["all_reduces"] = {group: groups.count(group) for group in sorted(set(groups))}
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
