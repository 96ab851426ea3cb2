"""The same command again, with other numbers of threads and of Beam's workers.

    python -m benchmarks.torture.determinism \\
        --output=docs/results/reliability/determinism.json

A small `iterate` on digits by its script: twice as it is, and with 1, 2 and 4 threads that
read and decode; and `balance` on its predictions with 1, 2 and 4 processes of Beam. Fails
where predictions, selection, weights or summary differ in a byte (but `timing` and
`created`). What threads within an operation of the network do is measured, not asked for.
"""

import hashlib
import os
import tempfile
import time

from absl import flags

from benchmarks import results
from benchmarks.torture import small_run
from noisy_student import tables
from tpu_scripts import setting_flags

_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

# tf.data runs on the threads between operations.
_THREADS = {n: {"TF_NUM_INTEROP_THREADS": str(n)} for n in (1, 2, 4)}
_WITHIN = {n: {"TF_NUM_INTRAOP_THREADS": str(n)} for n in (1, 2)}


def main():
    began, failures = time.monotonic(), []
    with tempfile.TemporaryDirectory() as directory:
        first = _run(directory, "first", {})
        others = {"the same command": _run(directory, "again", {})}
        for number, environment in _THREADS.items():
            name = f"input threads: {number}"
            others[name] = _run(directory, f"threads_{number}", environment)
        within = {}
        for number, environment in _WITHIN.items():
            name = f"threads within an operation: {number}"
            within[name] = _run(directory, f"within_{number}", environment)
        beam = {number: _balanced(directory, number) for number in (1, 2, 4)}
    same = {name: _differing(first, other) for name, other in others.items()}
    for number in (2, 4):
        same[f"Beam workers: {number}, not 1"] = _differing(beam[1], beam[number])
    failures = [f"{name}: {', '.join(parts)}" for name, parts in same.items() if parts]
    measured = {name: _differing(first, other) for name, other in within.items()}
    rows = [[k, ", ".join(v) or "nothing"] for k, v in {**same, **measured}.items()]
    print(tables.markdown_table(["changed", "differs"], rows))
    seconds = round(time.monotonic() - began)
    found = {"files": len(first), "differs": same, "only_measured": measured}
    results.write(_OUTPUT.value, {}, **found, seconds=seconds, failures=failures)
    if failures:
        raise SystemExit("\n".join(failures))


def _run(directory: str, name: str, environment: dict[str, str]) -> dict[str, str]:
    work_dir = os.path.join(directory, name)
    run = small_run.ended(small_run.iterate(work_dir), environment)
    if run.status:
        raise RuntimeError(run.tail)
    print(f"{name}: done", flush=True)
    found = {"results of stages": str(small_run.result(work_dir))}
    return {**found, **_digests(work_dir)}


def _balanced(directory: str, workers: int) -> dict[str, str]:
    output = os.path.join(directory, f"balanced_{workers}")
    run = small_run.ended(
        small_run.command(
            "balance",
            f"--unlabeled_data=tfrecord:{directory}/first/data/unlabeled",
            f"--predictions={directory}/first/generation_1/predictions",
            f"--output_dir={output}",
            "--min_confidence=0.05",
            f"--beam_options=--direct_num_workers={workers}",
            "--beam_options=--direct_running_mode=multi_processing",
        )
    )
    if run.status:
        raise RuntimeError(run.tail)
    print(f"balance with {workers} workers: done", flush=True)
    return _digests(output)


def _digests(directory: str) -> dict[str, str]:
    """SHA-256 of records, indices and selection, by path; weights are in the results."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            if name.endswith((".tfrecord", ".parquet", "selection.json")):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                found[os.path.relpath(path, directory)] = digest
    return found


def _differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


if __name__ == "__main__":
    setting_flags.run(main)
