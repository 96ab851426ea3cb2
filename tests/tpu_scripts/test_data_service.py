"""Training on a tf.data service of real processes, of which one is killed (slow)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from noisy_student.training.training import read_history

LIMIT = 120  # Seconds for anything a process is to do.
NETWORK = ("--width=0.1", "--depth=0.1", "--batch_size=20", "--warmup=2epochs")


@contextlib.contextmanager
def start(script, log, *arguments):
    """`python -m tpu_scripts.SCRIPT`, printing to the file `log`; killed at the end."""
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tpu_scripts.{script}", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT)


def wait_for(condition, log):
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)
    return found


def listening(log):
    """The address that a server prints."""

    def find():
        lines = [line for line in log.read_text().splitlines() if "listens at" in line]
        return lines and lines[0].split()[-1]

    return wait_for(find, log)


def end(process, log, number):
    process.send_signal(number)
    assert process.wait(LIMIT) == 0, log.read_text()[-3000:]
    assert f"ended by {number.name}" in log.read_text()


@pytest.mark.slow
def test_student_training_outlives_a_killed_worker(tmp_path, finished_run):
    run, _ = finished_run
    logs = {name: tmp_path / f"{name}.log" for name in ("d", "w0", "w1", "train")}
    output = str(tmp_path / "student")
    with contextlib.ExitStack() as stack:

        def begin(name, script, *arguments):
            return stack.enter_context(start(script, logs[name], *arguments))

        dispatcher = begin("d", "data_service", "--role=dispatcher")
        address = listening(logs["d"])
        worker = ("data_service", "--role=worker", f"--dispatcher={address}")
        workers = [begin(name, *worker) for name in ("w0", "w1")]
        for name in ("w0", "w1"):
            listening(logs[name])
        training = begin(
            "train",
            "train",
            "--role=student",
            f"--labeled_data=tfrecord:{os.path.relpath(run)}/data/labeled",
            f"--pseudo_labeled_data={run}/generation_1/balanced",
            f"--output_dir={output}",
            f"--data_service={address}",
            "--unlabeled_ratio=2",
            "--duration=200epochs",
            "--steps_per_loop=5",
            *NETWORK,
        )
        wait_for(lambda: read_history(output), logs["train"])
        workers[0].send_signal(signal.SIGKILL)
        assert training.wait(2 * LIMIT) == 0, logs["train"].read_text()[-3000:]
        end(workers[1], logs["w1"], signal.SIGTERM)
        end(dispatcher, logs["d"], signal.SIGINT)

    rows = read_history(output)
    assert [row["step"] for row in rows] == list(range(5, 201, 5))
    assert rows[-1]["data_service"]["workers"] == 1
    assert sum(row["data_service"]["lost"] for row in rows) == 1
    with open(f"{output}/manifest.json") as file:
        results = json.load(file)["results"]
    assert results["steps"] == 200
    assert results["data_service"] == {"steps": 200, "most_workers": 2, "workers_lost": 1}
    assert "was lost, 1 left: training goes on" in logs["train"].read_text()
