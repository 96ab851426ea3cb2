"""SIGKILL at any moment loses nothing that was finished (slow)."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

RUN = textwrap.dedent(
    """
    import sys
    from tests.conftest import tiny_config
    from noisy_student import iterate, strategy
    from noisy_student.training_loop import LoopOptions
    options = LoopOptions(steps_per_loop=1, checkpoint_interval="1 step")
    cpu = strategy.create_strategy("cpu")
    iterate.iterate(tiny_config(), sys.argv[1], cpu, options)
    """
)
# A file that appears in the middle of each stage, relative to the work_dir.
MOMENTS = (
    "data/unlabeled/finished_shards/unlabeled-00001-of-00003.tfrecord.json",
    "generation_0/teacher/checkpoints/ckpt-3.index",
    "generation_0/teacher/model.keras",
    "generation_1/predictions/finished_shards/unlabeled-00001-of-00003.tfrecord.json",
    "generation_1/balanced/selection.json",
    "generation_1/balanced/finished_shards/unlabeled-00000-of-00003.tfrecord.json",
    "generation_1/student/checkpoints/ckpt-5.index",
    "generation_1/student/metrics.json",
    "generation_1/control/checkpoints/ckpt-2.index",
    "export/manifest.json",
    "report/accuracy.png",
)


def start(work_dir):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, work_dir], stdout=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_kills_in_every_stage_change_nothing(tmp_path, finished_run):
    _, unbroken = finished_run
    work_dir = str(tmp_path / "killed")
    kills = 0
    for moment in MOMENTS:
        path = os.path.join(work_dir, moment)
        process = start(work_dir)
        while process.poll() is None and not os.path.exists(path):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, moment
    process = start(work_dir)
    assert process.wait() == 0
    print(f"{kills} kills at {len(MOMENTS)} moments")
    assert kills >= 8
    with open(os.path.join(work_dir, "summary.json")) as file:
        summary = json.load(file)
    assert {**summary, "timing": None} == {**unbroken, "timing": None}
    for root, _, names in os.walk(work_dir):
        for name in names:
            assert "incomplete" not in name or not name.endswith(".json"), (root, name)
