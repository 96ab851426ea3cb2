"""How many images fit on a TPU core, as the TPU's compiler sees it, without a TPU.

    .venv-tpu/bin/python -m benchmarks.tpu_memory --cells=b0_train_v3 \\
        --compiler=.venv-tpu-compiler/bin/python --output=docs/tpu_memory.json

For each of `CELLS`, smallest first: `tpu.largest_batch` compiles until one number of images
is accepted and the next refused. A cell with both is in `--output` and not looked at
again. See `tpu_compile` for the environments.
"""

import dataclasses
import os
import time

from absl import flags

from benchmarks.tpu.case import Case, add_result
from benchmarks.tpu.largest_batch import bounds, search
from data import files
from data.errors import InputError
from noisy_student import tables
from tpu_scripts import setting_flags

_COMPILER = flags.DEFINE_string("compiler", "", "Python that has JAX and libtpu.")
_CELLS = flags.DEFINE_list("cells", [], "Names of cells; empty: all.")
_CACHE_DIR = flags.DEFINE_string("cache_dir", "runs/tpu_compile", "Compiled before.")
_OUTPUT = flags.DEFINE_string("output", "docs/tpu_memory.json", "JSON file of the cells.")

_CHIPS = {"v3": "v3:2x2", "v5e": "v5e:2x2"}


def _cells() -> dict[str, tuple[Case, tuple[int, int]]]:
    """Cases by name, each with the two numbers of images to begin with."""
    networks = {  # Training's size, FixRes's, and where to begin.
        "b0": ("efficientnet-b0", 224, 0, (64, 128)),
        "b4": ("efficientnet-b4", 380, 0, (8, 16)),
        "b7": ("efficientnet-b7", 600, 0, (2, 4)),
        "l2": ("efficientnet-l2", 475, 800, (1, 2)),
    }
    found = {}
    for name, (variant, size, larger, begin) in networks.items():
        sizes = {"train": size, "label": larger or size}
        if larger:
            sizes["fixres"] = larger
        for kind, pixels in sizes.items():
            for chip, topology in _CHIPS.items():
                for remat in (False, True):
                    if remat and kind == "label":  # Nothing is kept for a way back.
                        continue
                    key = "_".join([name, kind, chip] + ["remat"] * remat)
                    case = Case(
                        kind,
                        topology=topology,
                        variant=variant,
                        image_size=pixels,
                        remat=remat,
                    )
                    found[key] = (case, begin)
    return found


CELLS = _cells()


def main():
    unknown = sorted(set(_CELLS.value) - set(CELLS))
    if unknown:
        raise InputError(
            f"`cells`: expected names of {', '.join(CELLS)}; received {unknown}."
        )
    if not os.access(_COMPILER.value, os.X_OK):
        raise InputError(
            f"`compiler`: expected a Python with JAX and libtpu; received "
            f"{_COMPILER.value!r}. make tpu-compile makes one."
        )
    known = files.read_json(_OUTPUT.value) if os.path.exists(_OUTPUT.value) else {}
    for name in _CELLS.value or CELLS:
        if known.get(name, {}).get("refused") is not None:
            continue
        known[name] = measured(*CELLS[name])
        add_result(_OUTPUT.value, name, known[name])
    print(as_markdown(known))


def measured(case: Case, begin: tuple[int, int]) -> dict:
    """The largest number of images that is accepted, and the smallest that is not.

    Args:
        case: The step; its rows are replaced.
        begin: Two numbers of images.
    """
    compiles = search(lambda rows: _compiled(dataclasses.replace(case, rows=rows)), begin)
    accepted, refused = bounds(compiles)
    return {
        "case": {k: v for k, v in case.as_json().items() if k != "rows"},
        "accepted": accepted,
        "refused": refused,
        "compiles": {str(rows): compiles[rows] for rows in sorted(compiles)},
    }


def _compiled(case: Case) -> dict:
    began = time.monotonic()
    print(f"{case.as_json()}", flush=True)
    step = case.examine(_COMPILER.value, _CACHE_DIR.value)["programs"][0]
    names = ("fits", "peak_mib", "argument_mib", "temp_mib", "used_mib", "limit_mib")
    names += ("compiled_flops", "compile_s", "device", "libtpu", "jax")
    found = {name: step[name] for name in names if name in step}
    print(f"{time.monotonic() - began:.0f} s: {found}", flush=True)
    return found


def as_markdown(cells: dict) -> str:
    """The cells that are done; the others have no number."""
    header = ["network, pixels", "step", "TPU", "accepted", "refused", "with remat"]
    lines = []
    for name, (case, _) in CELLS.items():
        if case.remat:
            continue
        plain, again = cells.get(name), cells.get(f"{name}_remat")
        chip = case.topology.split(":")[0]
        lines.append(
            [
                f"{case.variant.removeprefix('efficientnet-').upper()}, {case.image_size}",
                case.kind,
                chip,
                _text(plain, "accepted"),
                _text(plain, "refused"),
                f"{_text(again, 'accepted')}, {_text(again, 'refused')}",
            ]
        )
    return tables.markdown_table(header, lines)


def _text(cell: dict | None, key: str) -> str:
    return "–" if cell is None or cell[key] is None else f"{cell[key]:,}"


if __name__ == "__main__":
    setting_flags.run(main)
