"""Reads that fail now and then: stages go on, with the same result.

    python -m benchmarks.torture.failing_storage \\
        --output=docs/results/reliability/failing_storage.json

The scripts as processes, once on a disk without errors and once on one where every n-th
read of the run's files fails with EIO (`failing_reads.c`, preloaded; needs a C compiler).
Fails where a process ends with an error, where no read failed, or where weights,
predictions or metrics differ.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks import results
from data import files
from noisy_student import tables
from tpu_scripts import setting_flags

_EVERY = flags.DEFINE_multi_integer(
    "every", [300, 50, 40], "Which read fails: in training, labeling, evaluation."
)
_STEPS = flags.DEFINE_integer("steps", 400, "Of the training.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_NETWORK = ("--width=0.1", "--depth=0.1", "--batch_size=20")


def main():
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        library = _library(directory)
        data = os.path.join(directory, "data")
        _run("prepare_data", *_prepare(data))
        failing = {"FAILING_PATH": directory, "LD_PRELOAD": library}
        runs = {}
        for name, environment in (("whole", {}), ("failing", failing)):
            # A lineage holds the end of a path, so that is the same in both.
            runs[name] = _chain(data, os.path.join(directory, name, "run"), environment)
    found = {
        stage: {
            "errors": runs["failing"][stage]["errors"],
            "same_result": runs["failing"][stage]["result"]
            == runs["whole"][stage]["result"],
            "errors_without": runs["whole"][stage]["errors"],
        }
        for stage in runs["whole"]
    }
    print(as_markdown(found))
    failures = problems(found)
    given = results.settings(_EVERY, _STEPS)
    seconds = round(time.monotonic() - began)
    results.write(_OUTPUT.value, given, stages=found, seconds=seconds, failures=failures)
    if failures:
        raise SystemExit("\n".join(failures))


def problems(found: dict) -> list[str]:
    """What is not as it must be."""
    failures = []
    for stage, row in found.items():
        if not row["same_result"]:
            failures.append(f"{stage}: the result is another one.")
        if row["errors_without"]:
            failures.append(f"{stage}: errors were counted where none were.")
    if not sum(row["errors"] for row in found.values()):
        failures.append("No read failed.")
    return failures


def as_markdown(found: dict) -> str:
    rows = [
        [stage, str(row["errors"]), "yes" if row["same_result"] else "no"]
        for stage, row in found.items()
    ]
    return tables.markdown_table(["stage", "reads that failed", "same result"], rows)


def _chain(data: str, directory: str, environment: dict[str, str]) -> dict:
    """By stage: `errors` that its process counted, and a `result` to compare."""
    model, predictions = f"{directory}/teacher", f"{directory}/predictions"
    train, label, evaluate = (
        {**environment, "FAILING_EVERY": str(every)} for every in _EVERY.value
    )
    test = f"tfrecord:{data}/test"
    found = {}
    _run(
        "train",
        f"--labeled_data=tfrecord:{data}/labeled",
        f"--duration={_STEPS.value} steps",
        "--checkpoint_interval=20 steps",
        f"--output_dir={model}",
        *_NETWORK,
        environment=train,
    )
    manifest = files.read_json(f"{model}/manifest.json")
    found["train"] = {
        "errors": manifest["timing"]["storage_errors"],
        "result": manifest["results"]["weights_sha256"],
    }
    _run(
        "label",
        f"--model={model}",
        f"--unlabeled_data=tfrecord:{data}/unlabeled",
        f"--output_dir={predictions}",
        environment=label,
    )
    manifest = files.read_json(f"{predictions}/manifest.json")
    found["label"] = {
        "errors": manifest["timing"]["storage_errors"],
        "result": manifest["shards"],
    }
    out = _run("evaluate", f"--model={model}", f"--data={test}", environment=evaluate)
    found["evaluate"] = {
        "errors": len(re.findall("storage failed", out)),
        "result": _metrics(model),
    }
    return found


def _metrics(model: str) -> dict:
    """What the evaluation found, by file."""
    directory = os.path.join(model, "evaluation")
    found = {
        name: files.read_json(os.path.join(directory, name))
        for name in sorted(os.listdir(directory))
        if name.endswith(".json") and name != "manifest.json"
    }
    for facts in found.values():
        for free in ("timing", "created", "command"):  # That names the directory.
            facts.pop(free, None)
    return found


def _prepare(data: str) -> list[str]:
    return [
        "--labeled_data=digits:pool",
        "--labels_per_class=10",
        "--test_data=digits:test",
        "--num_shards=8",
        f"--output_dir={data}",
    ]


def _library(directory: str) -> str:
    source = os.path.join(os.path.dirname(__file__), "failing_reads.c")
    library = os.path.join(directory, "failing_reads.so")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", source, "-o", library, "-ldl"], check=True
    )
    return library


def _run(script: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """What a script prints; its errors are shown and end this process too."""
    run = subprocess.run(
        [sys.executable, "-m", f"tpu_scripts.{script}", *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = [line for line in run.stdout.splitlines() if "storage failed" in line]
    print(f"{script}: {len(failed)} errors of storage", *failed[:3], sep="\n", flush=True)
    if run.returncode:
        raise SystemExit(f"{script} ended with {run.returncode}:\n{run.stderr[-3000:]}")
    return run.stdout


if __name__ == "__main__":
    setting_flags.run(main)
