"""Workers killed while several share a job: labeling, and Beam on Dask (slow tests).

    python -m benchmarks.torture.workers --output=docs/results/reliability/workers.json

Three label workers, of which one is killed and one paused; Beam's stages on Dask with
workers killed; a whole run, and an evaluation, killed as files appear. The tests compare
what came out with an undisturbed run; this counts them.
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

from absl import flags

from benchmarks import results
from tpu_scripts import setting_flags

_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")
_TESTS = (
    "tests/noisy_student/labeling/test_labeling_workers.py",
    "tests/noisy_student/balancing/test_beam_runners.py",
    "tests/noisy_student/test_kill.py",
    "tests/noisy_student/test_evaluate_kill.py",
)


def main():
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        report = os.path.join(directory, "report.xml")
        subprocess.run(
            [sys.executable, "-m", "pytest", "-mslow", f"--junit-xml={report}", *_TESTS],
            check=False,
        )
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    names = [f"{case.get('classname')}::{case.get('name')}" for case in cases]
    bad = [
        case.find("failure") is not None or case.find("error") is not None for case in cases
    ]
    skipped = [case.find("skipped") is not None for case in cases]
    failures = [name for name, failed in zip(names, bad, strict=True) if failed]
    failures += [f"{n}: skipped" for n, no in zip(names, skipped, strict=True) if no]
    if not cases:
        failures.append("No test was run.")
    print(f"{len(cases)} tests", *failures, sep="\n")
    seconds = round(time.monotonic() - began)
    results.write(_OUTPUT.value, {}, tests=names, seconds=seconds, failures=failures)
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    setting_flags.run(main)
