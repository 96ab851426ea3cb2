"""Whether every device step compiles for a TPU, by the TPU's own compiler, without a TPU.

    make tpu-compile                                  # makes two environments, runs this
    .venv-tpu/bin/python -m benchmarks.tpu_compile --steps=label,attack \\
        --compiler=.venv-tpu-compiler/bin/python --output=docs/results/tpu_compile.json

Each of `CASES` is traced under TensorFlow's `TPUStrategy`, lowered with the operations
that TensorFlow has for TPUs, and compiled by libtpu (`benchmarks/tpu/`). Nothing runs: not
a step, not the loop around it. What was compiled before is taken from `--cache_dir`, by the
hash of the program: killed and started again, it goes on.
"""

import os
import time

from absl import flags

from benchmarks.tpu.case import Case, add_result
from data.errors import InputError
from noisy_student import tables
from tpu_scripts import setting_flags

_COMPILER = flags.DEFINE_string(
    "compiler", "", "Python that has JAX and libtpu; empty: the steps are only lowered."
)
_STEPS = flags.DEFINE_list("steps", [], "Names of cases; empty: all but the large ones.")
_CACHE_DIR = flags.DEFINE_string("cache_dir", "runs/tpu_compile", "Compiled before.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to add the results to.")

_STUDENT = {"rows": 16, "ratio": 3}
CASES = {
    "label": Case("label", rows=64),
    "label_noised": Case("label_noised", rows=64),
    "attack": Case("attack", rows=64),
    "student": Case("train", **_STUDENT),
    "student_float32": Case("train", precision="float32", **_STUDENT),
    "student_remat": Case("train", remat=True, **_STUDENT),
    "student_accumulated": Case("train", accumulation_steps=2, **_STUDENT),
    "student_clipped": Case("train", clip_gradient_norm=1.0, **_STUDENT),
    "student_8_cores": Case("train", replicas=8, **_STUDENT),
    "student_8_cores_groups_of_4": Case(
        "train", replicas=8, batch_norm_group_size=4, **_STUDENT
    ),
    "student_v5e": Case("train", topology="v5e:2x2", **_STUDENT),
    "teacher": Case("train", rows=64),
    "online_teacher": Case("online_teacher", **_STUDENT),
    "fixres": Case("fixres", rows=64, image_size=280),
}
# The paper's L2: 2,048 cores of v3, with 1 labeled and 14 unlabeled images each. Compiled
# where asked for: half an hour and 12 GB of memory each.
_L2 = {"variant": "efficientnet-l2", "image_size": 475, "rows": 1, "ratio": 14}
LARGE_CASES = {
    "l2_remat": Case("train", remat=True, **_L2),
    "l2": Case("train", **_L2),
}


def main():
    known = CASES | LARGE_CASES
    unknown = sorted(set(_STEPS.value) - set(known))
    if unknown:
        raise InputError(
            f"`steps`: expected names of {', '.join(known)}; received {unknown}."
        )
    if _COMPILER.value and not os.access(_COMPILER.value, os.X_OK):
        raise InputError(
            "`compiler`: expected a Python with JAX and libtpu, as make tpu-compile makes "
            f"it; received {_COMPILER.value}."
        )
    names = _STEPS.value or list(CASES)
    results = {}
    for number, name in enumerate(names, 1):
        began = time.monotonic()
        print(f"{name} ({number} of {len(names)})", flush=True)
        results[name] = known[name].examine(_COMPILER.value, _CACHE_DIR.value)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if _OUTPUT.value:
            add_result(_OUTPUT.value, name, results[name])
    print(as_markdown(results))


def as_markdown(results: dict) -> str:
    header = [
        "step",
        "images on a core",
        "operations",
        "arguments",
        "temporaries",
        "peak, MiB",
        "FLOPs: analytic, traced, compiled",
        "trace, lower, compile, s",
    ]
    return tables.markdown_table(header, [_line(*item) for item in results.items()])


def _line(name: str, result: dict) -> list[str]:
    step, case = result["programs"][0], result["case"]
    images = case["rows"] * (1 + case.get("ratio", 0))
    flops = [result["analytic_flops"], step.get("traced_flops"), step.get("compiled_flops")]
    seconds = [result["trace_s"], step["lower_s"], step.get("compile_s")]
    return [
        f"`{name}`",
        f"{images:,}",
        f"{step['operations']:,}",
        *(_number(step.get(f"{part}_mib")) for part in ("argument", "temp", "peak")),
        ", ".join(_number(value and value / 1e9) for value in flops),
        ", ".join(_number(value) for value in seconds),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    setting_flags.run(main)
