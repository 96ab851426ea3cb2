"""The stages on `gs://`: scripts as a user runs them, killed at any moment."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

from data import files
from noisy_student.stages.manifest import read_manifest
from tests.object_store import ObjectStore
from tests.tpu_scripts.test_scripts import NETWORK, run_script

pytestmark = pytest.mark.slow
ROOT = "gs://bucket/run"
WORKERS, KILLS = 3, 4
TRAINING = ("--role=student", "--unlabeled_ratio=2", *NETWORK)


@pytest.fixture(scope="module")
def local(finished_run):
    return pathlib.Path(finished_run[0])


@pytest.fixture
def store(local, tmp_path):
    """With the data and the teacher of a run, and the environment to find it."""
    store = ObjectStore(delay=0.005)
    for part in ("data", "generation_0/teacher"):
        for path in filter(pathlib.Path.is_file, (local / part).rglob("*")):
            store.put(f"bucket/run/{path.relative_to(local)}", path.read_bytes())
    with store.serve(tmp_path) as environment:
        store.environment = {**os.environ, **environment}
        yield store


def start(store, log, name, *arguments):
    with open(log, "a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"tpu_scripts.{name}", *arguments],
            env=store.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def run(store, log, name, *arguments):
    process = start(store, log, name, *arguments)
    assert process.wait() == 0, log.read_text()[-3000:]


def written(store, directory) -> dict[str, bytes]:
    """Objects of a stage by name, but for what two equal runs may differ in."""
    prefix = f"bucket/run/{directory}/"
    found = {n.removeprefix(prefix): c for n, c in store.objects.items() if prefix in n}
    return {name: content for name, content in found.items() if "manifest" not in name}


def expected(local, directory) -> dict[str, bytes]:
    root = local / directory
    paths = [path for path in root.rglob("*") if path.is_file()]
    found = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if "manifest" not in name}


def shards(manifest: dict) -> dict:
    return {name: facts["sha256"] for name, facts in manifest["shards"].items()}


def test_killed_workers_write_to_an_object_store_what_one_writes_to_a_disk(
    store, local, tmp_path
):
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nKILL_SEED={seed}")
    draw, log = random.Random(seed), tmp_path / "log"

    def begin(index):
        return start(
            *(store, log, "label", f"--model={ROOT}/generation_0/teacher"),
            f"--unlabeled_data=tfrecord:{ROOT}/data/unlabeled",
            *(f"--output_dir={ROOT}/generation_1/predictions", "--batch_size=1"),
            *(f"--worker_index={index}", f"--num_workers={WORKERS}"),
        )

    running = {index: begin(index) for index in range(WORKERS)}
    kills = 0
    for _ in range(KILLS):
        time.sleep(draw.uniform(8, 25))
        alive = [index for index, process in running.items() if process.poll() is None]
        if alive:
            index = draw.choice(alive)
            running[index].kill()
            running[index].wait()
            running[index] = begin(index)
            kills += 1
            print(f"worker {index} killed; {len(store.objects)} objects")
    assert [process.wait() for process in running.values()] == [0] * WORKERS
    assert kills
    run_script(
        *("label", f"--model={local}/generation_0/teacher", "--batch_size=1"),
        f"--unlabeled_data=tfrecord:{local}/data/unlabeled",
        f"--output_dir={tmp_path}/predictions",
    )
    found = written(store, "generation_1/predictions")
    assert found == expected(tmp_path, "predictions")


def test_a_student_killed_on_an_object_store_is_the_student_of_a_disk(
    store, local, tmp_path
):
    log, directory = tmp_path / "log", "generation_1/predictions"
    for path in (local / directory).iterdir():
        store.put(f"bucket/run/{directory}/{path.name}", path.read_bytes())
    balance = ("--min_confidence=0.05", "--images_per_class=98")
    run(
        *(store, log, "balance", f"--unlabeled_data=tfrecord:{ROOT}/data/unlabeled"),
        *(f"--predictions={ROOT}/{directory}", f"--output_dir={ROOT}/balanced", *balance),
    )
    manifest = json.loads(store.objects["bucket/run/balanced/manifest.json"])
    assert shards(manifest) == shards(read_manifest(f"{local}/generation_1/balanced"))

    def training(root, run_root):
        return (
            f"--labeled_data=tfrecord:{root}/data/labeled",
            f"--pseudo_labeled_data={run_root}/balanced",
            f"--output_dir={run_root}/student",
            *TRAINING,
            "--checkpoint_interval=5 steps",
        )

    here = f"{tmp_path}/here"
    run_script(
        *("balance", f"--unlabeled_data=tfrecord:{local}/data/unlabeled", *balance),
        *(f"--predictions={local}/{directory}", f"--output_dir={here}/balanced"),
    )
    run_script("train", *training(local, here))
    checkpoints = "bucket/run/student/checkpoints/checkpoint"
    process = start(store, log, "train", *training(ROOT, ROOT))
    while process.poll() is None and checkpoints not in store.objects:
        time.sleep(0.05)
    process.kill()
    assert process.wait() < 0, log.read_text()[-3000:]
    run(store, log, "train", *training(ROOT, ROOT))
    found = json.loads(store.objects["bucket/run/student/model.json"])
    assert (
        found["weights_sha256"]
        == files.read_json(f"{here}/student/model.json")["weights_sha256"]
    )
    assert "student: continues at " in log.read_text()
