"""`evaluate` killed by SIGKILL while it runs, and started again: nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.tpu_scripts.test_scripts import run_script

pytestmark = pytest.mark.slow


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_numbers(finished_run, tmp_path):
    model = os.path.join(finished_run[0], "generation_1/student")
    command = ["evaluate", f"--model={model}", "--on=test,corruptions,pgd"]
    command += ["--data=digits:validation", "--sample=40", "--epsilons=2,4,8"]
    run_script(*command, f"--output_dir={tmp_path}/whole")
    killed = f"{tmp_path}/killed"
    script = [sys.executable, "-m", f"tpu_scripts.{command[0]}", *command[1:]]
    # Some moments: before the first part, among the corruptions, among the ε.
    for part in ("test/test", "corruptions/glass_blur", "corruptions/fog", "pgd/2"):
        process = subprocess.Popen(
            [*script, f"--output_dir={killed}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not os.path.exists(f"{killed}/{part}.parquet"):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    printed = run_script(*command, f"--output_dir={killed}")
    assert "corruptions gaussian_noise" not in printed  # Not made again.
    for name in ("test", "corruptions", "pgd"):
        found, expected = (
            json.loads(open(f"{place}/{name}.json").read())
            for place in (killed, f"{tmp_path}/whole")
        )
        for key in ("results", "intervals", "data", "settings"):
            assert found[key] == expected[key]
