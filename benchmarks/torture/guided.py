"""Inputs that a fuzzer finds by the code they reach (atheris, libFuzzer).

    python -m benchmarks.torture.guided --output=docs/results/reliability/guided.json

For readers that are Python themselves: the project's modules, Pillow's and the archives'
are instrumented, and what reaches a new branch is kept and changed further. Each reader
has a child process, which stops at its first failure. Needs `pip install atheris`.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks import results
from benchmarks.torture import small_run
from noisy_student import tables
from tpu_scripts import setting_flags

_INPUTS = flags.DEFINE_integer("inputs", 5_000, "For each reader.", lower_bound=1)
_READER = flags.DEFINE_list("reader", [], "Names of readers; empty: all of them.")
_MINUTES = flags.DEFINE_float("minutes", 3, "For each reader.")
_SEED = flags.DEFINE_integer("seed", 1, "Of the fuzzer.", lower_bound=1)
_RUN = flags.DEFINE_string("run", "", "A finished run of `small_run`; empty: make one.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_READERS = (
    "manifest.json",
    "manifest.json of a model",
    "summary.json",
    "model.json",
    "config.json",
    "history.jsonl",
    "class names, a line each",
    "IDX images",
    "IDX images (.gz)",
    "imported predictions (.npz)",
    "SVHN (.mat)",
    "images: PNG",
    "images: GIF",
    "images: BMP",
    "images: TIFF",
)
_SECONDS, _MEGABYTES = 20, 4000  # Of an input; of the process.


def main():
    began = time.monotonic()
    names, found = _READER.value or _READERS, {}
    with tempfile.TemporaryDirectory() as directory:
        run = _RUN.value or os.path.join(directory, "run")
        if not _RUN.value and (ended := small_run.ended(small_run.iterate(run))).status:
            raise RuntimeError(ended.tail)
        for name in names:
            found[name] = _fuzzed(name, run)
            print(f"{name}: {found[name]}", flush=True)
    rows = [
        [name, f"{row['inputs']:,}", f"{row['edges']:,}", row["failure"] or "none"]
        for name, row in found.items()
    ]
    print(tables.markdown_table(["reader", "inputs", "edges reached", "failure"], rows))
    failures = [
        f"{name}: {row['failure']}" for name, row in found.items() if row["failure"]
    ]
    inputs = sum(row["inputs"] for row in found.values())
    given = results.settings(_INPUTS, _MINUTES, _SEED)
    seconds = round(time.monotonic() - began)
    results.write(
        _OUTPUT.value,
        given,
        inputs=inputs,
        readers=found,
        seconds=seconds,
        failures=failures,
    )
    if failures:
        raise SystemExit(1)


def _fuzzed(name: str, run: str) -> dict:
    options = {
        "runs": _INPUTS.value,
        "seed": _SEED.value,
        "max_total_time": round(60 * _MINUTES.value),
        "timeout": _SECONDS,
        "rss_limit_mb": _MEGABYTES,
    }
    given = [f"-{key}={value}" for key, value in options.items()]
    module = "benchmarks.torture.guided_child"
    child = subprocess.run(
        [sys.executable, "-m", module, name, run, *given], capture_output=True, check=False
    )
    text = (child.stdout + child.stderr).decode("utf-8", "backslashreplace")
    states = re.findall(r"^#(\d+)\s.*?cov: (\d+)", text, re.MULTILINE)
    inputs, edges = map(int, states[-1]) if states else (0, 0)
    failure = ""
    if child.returncode or not states:
        shown = re.search(r"Finding: .*|RuntimeError: .*|ERROR: .*|SUMMARY: .*", text)
        failure = f"status {child.returncode}: {shown[0] if shown else text[-500:]}"
    return {"inputs": inputs, "edges": edges, "failure": failure}


if __name__ == "__main__":
    setting_flags.run(main)
