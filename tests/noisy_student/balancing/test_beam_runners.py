"""One selection, to the byte, whatever Beam runs on, and a killed worker."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from data.errors import InputError
from noisy_student.balancing import balancing, choosing
from noisy_student.balancing.beam_progress import Shown
from noisy_student.balancing.beam_runner import BeamRunner
from noisy_student.config import SelectionConfig
from tests.noisy_student.balancing.test_balancing import Pool

SELECTION = SelectionConfig(images_per_class=900)


def test_an_unknown_runner_is_refused():
    with pytest.raises(InputError, match=r"runner.*direct.*'sparc'"):
        BeamRunner("sparc")


def test_what_is_no_option_is_refused():
    with pytest.raises(InputError, match=r"beam_options.*direct_num_workers=4"):
        BeamRunner("direct", ("direct_num_workers=4",))


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("direct", "--dask_client_address=tcp://a:1", "with --runner=dask alone"),
        ("dask", "--direct_num_workers=2", "with --runner=direct alone"),
        ("dataflow", "--no_wait_until_finish", "result of the one before"),
    ],
)
def test_options_that_cannot_work_are_refused(name, option, message):
    with pytest.raises(InputError, match=message):
        BeamRunner(name, (option,))


def test_progress_counts_passes_apart_and_threads_together(capsys):
    for _ in range(2):
        started = threading.Barrier(4)

        def work(element, started=started):
            started.wait()
            return element

        shown = Shown(work, "pass", 4, 400)
        threads = [threading.Thread(target=shown, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert capsys.readouterr().out.count("pass: 4 shards in") == 2


def test_an_error_of_a_worker_is_its_own_message(tmp_path):
    import apache_beam as beam

    with pytest.raises(InputError) as raised, BeamRunner().pipeline() as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(refuse)
    assert str(raised.value) == "expected 2; received 1."


def refuse(number):
    raise InputError(f"expected 2; received {number}.")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pool in 8 shards, and digests of what this process makes of it."""
    directory = tmp_path_factory.mktemp("pool")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 4000).astype(np.int32)
    confidences = generator.integers(20, 101, 4000).astype(np.float32) / 100
    pool = Pool(directory, labels, confidences, shards=8)
    return pool, digests(pool, directory / "here", BeamRunner())


@pytest.fixture(autouse=True)
def _in_passes(monkeypatch):
    monkeypatch.setattr(choosing, "WITHOUT_BEAM", 0)


def digests(pool, directory, runner):
    balanced = balancing.balance(
        pool.records,
        pool.predictions,
        str(directory),
        SELECTION,
        1,
        balancing.BalancingOptions(runner),
    )
    found = {}
    for path in balanced.files:
        with open(path, "rb") as file:
            found[os.path.basename(path)] = hashlib.sha256(file.read()).hexdigest()
    return found


@pytest.mark.slow
def test_several_processes_on_one_machine(made, tmp_path):
    pool, expected = made
    runner = BeamRunner("direct", ("--direct_num_workers=2",))
    assert digests(pool, tmp_path, runner) == expected


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(made, tmp_path):
    import distributed

    pool, expected = made
    killed = []

    def kill_one(cluster):
        while not os.path.isdir(tmp_path / "b" / "finished_shards"):
            time.sleep(0.01)
        (first, *_) = cluster.workers.values()
        killed.append(len(os.listdir(tmp_path / "b" / "finished_shards")))
        os.kill(first.pid, signal.SIGKILL)

    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        threading.Thread(target=kill_one, args=(cluster,), daemon=True).start()
        runner = BeamRunner("dask", (f"--dask_client_address={cluster.scheduler_address}",))
        assert digests(pool, tmp_path / "b", runner) == expected
    assert killed
    assert killed[0] < 8  # There was work left.


@pytest.mark.slow
def test_the_portable_job_server(made, tmp_path):
    pool, expected = made
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    module = "apache_beam.runners.portability.local_job_service_main"
    server = subprocess.Popen([sys.executable, "-m", module, f"--port={port}"])
    try:
        wait_for(port)
        options = (f"--job_endpoint=localhost:{port}", "--environment_type=LOOPBACK")
        assert digests(pool, tmp_path, BeamRunner("portable", options)) == expected
    finally:
        server.terminate()
        server.wait()


def wait_for(port, seconds=120):
    for _ in range(seconds * 10):
        with socket.socket() as attempt:
            if attempt.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"Nothing answers on port {port}.")
