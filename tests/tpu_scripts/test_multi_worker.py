"""Training on several machines: here two processes on one (slow)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from noisy_student.models import model_files
from noisy_student.training.history import read_history

NETWORK = ("--width=0.1", "--depth=0.1", "--batch_size=20", "--warmup=2epochs")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(arguments, expect=0, meanwhile=lambda processes: None):
    """One process a worker; both must end with the status `expect`."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": workers}, "task": task})
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tpu_scripts.train", *arguments],
                env={**os.environ, "TF_CONFIG": config},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    meanwhile(processes)
    for process in processes:
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == expect, printed[-3000:]


@pytest.mark.slow
def test_two_workers_train_one_model_and_finish_again_at_once(tmp_path, prepared):
    data = os.path.dirname(prepared.labeled.files[0])
    arguments = [
        "--strategy=multi_worker",
        "--role=teacher",
        "--duration=8epochs",
        f"--labeled_data=tfrecord:{data}",
        f"--output_dir={tmp_path}",
        *NETWORK,
    ]
    start_workers(arguments)
    trained = model_files.load_model(str(tmp_path))[1]
    with open(tmp_path / "history.jsonl") as file:
        assert json.loads(file.readlines()[-1])["step"] == 8
    start_workers(arguments)
    assert model_files.load_info(str(tmp_path)) == trained


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_takes_the_others_along(tmp_path, prepared):
    """And all go on from the chief's checkpoint, to the end."""
    data = os.path.dirname(prepared.labeled.files[0])
    arguments = [
        "--strategy=multi_worker",
        "--role=teacher",
        "--duration=60epochs",
        "--steps_per_loop=4",
        f"--labeled_data=tfrecord:{data}",
        f"--output_dir={tmp_path}",
        *NETWORK,
    ]

    def terminate_the_second(processes):
        while processes[0].poll() is None and not read_history(str(tmp_path)):
            time.sleep(0.01)
        processes[1].send_signal(signal.SIGTERM)

    start_workers(arguments, 143, terminate_the_second)
    reached = read_history(str(tmp_path))[-1]["step"]
    assert reached < 60
    assert (tmp_path / "checkpoints" / f"ckpt-{reached}.index").exists()
    start_workers(arguments)
    assert read_history(str(tmp_path))[-1]["step"] == 60
