"""Training on several machines: here two processes on one (slow)."""

import json
import os
import socket
import subprocess
import sys

import pytest

from noisy_student import model_files

NETWORK = ("--width=0.1", "--depth=0.1", "--batch_size=20", "--warmup_epochs=2")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_workers(arguments):
    """One process a worker; both must end well."""
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
    for process in processes:
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == 0, printed[-3000:]


@pytest.mark.slow
def test_two_workers_train_one_model_and_finish_again_at_once(tmp_path, prepared):
    data = os.path.dirname(prepared.labeled.files[0])
    arguments = [
        "--strategy=multi_worker",
        "--role=teacher",
        "--epochs=8",
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
