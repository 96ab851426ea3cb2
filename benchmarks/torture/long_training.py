"""Hours of training: memory, throughput and files, as they go on.

    python -m benchmarks.torture.long_training --minutes=120 \\
        --output=docs/results/reliability/long_training.json

A student of digits, with pseudo-labels, validation images and summaries, small enough
for some ten steps a second: `tpu_scripts.train` in a process of its own, looked at from
outside, and at the end told to stop by SIGTERM. Fails where memory grows, steps become
dearer in CPU time, old checkpoints stay, or more is written than a line a loop.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks import results
from noisy_student import tables
from tpu_scripts import setting_flags

_MINUTES = flags.DEFINE_float("minutes", 120, "How long it trains.", lower_bound=2)
_INTERVAL = flags.DEFINE_float("interval", 15, "Seconds between two looks.")
_WARM_UP = flags.DEFINE_float("warm_up", 0.15, "Part of the time that does not count.")
_KEEP = flags.DEFINE_integer("keep_checkpoints", 3, "Of the training.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_MOST_GROWTH = 0.05  # Of the memory, over the time that counts.
_LEAST_SPEED = 0.9  # Steps a CPU second: the last quarter over the first.
_MOST_BYTES = 2048  # Of summaries and history, a loop.
_STEPS_PER_LOOP = 20
_NETWORK = ("--width=0.1", "--depth=0.1", "--batch_size=20")


def main():
    with tempfile.TemporaryDirectory() as directory:
        student = _begun(directory)
        looks = _looked_at(student, os.path.join(directory, "student"))
    counted = [look for look in looks if look["minutes"] >= _WARM_UP.value * _MINUTES.value]
    found = summary(counted)
    failures = problems(found)
    print(as_markdown(found))
    given = results.settings(_MINUTES, _INTERVAL, _WARM_UP, _KEEP)
    results.write(_OUTPUT.value, given, **found, failures=failures, looks=looks)
    if failures:
        raise SystemExit("\n".join(failures))


def summary(looks: list[dict]) -> dict:
    """What the looks say: slopes by least squares over the time that counts."""
    first, last = looks[0], looks[-1]
    hours = (last["minutes"] - first["minutes"]) / 60
    memory = np.array([look["memory_mib"] for look in looks])
    time_of = np.array([look["minutes"] / 60 for look in looks])
    slope = float(np.polyfit(time_of, memory, 1)[0])
    quarter = max(len(looks) // 4, 1)
    speeds = [_speed(looks[: quarter + 1]), _speed(looks[-quarter - 1 :])]
    loops = (last["step"] - first["step"]) / _STEPS_PER_LOOP
    written = (last["summary_bytes"] - first["summary_bytes"]) / max(loops, 1)
    return {
        "steps": last["step"],
        "hours_counted": round(hours, 3),
        "memory_mib": float(np.median(memory)),
        "memory_mib_an_hour": round(slope, 2),
        "growth": round(slope * hours / float(np.median(memory)), 4),
        "steps_a_cpu_second": [round(speed, 2) for speed in speeds],
        "speed_last_over_first": round(speeds[1] / speeds[0], 3),
        "most_checkpoints": max(look["checkpoints"] for look in looks),
        "summary_files": last["summary_files"],
        "bytes_a_loop": round(written, 1),
        "evaluations": last["evaluations"],
        "threads": [first["threads"], last["threads"]],
        "open_files": [first["open_files"], last["open_files"]],
        "status": last.get("status"),
    }


def problems(found: dict) -> list[str]:
    """What of a `summary` must not be."""
    checks = {
        f"Memory grew by {found['growth']:.1%}.": found["growth"] > _MOST_GROWTH,
        f"Steps became dearer: {found['steps_a_cpu_second']} a CPU second.": (
            found["speed_last_over_first"] < _LEAST_SPEED
        ),
        # While the next one is written there is one more.
        f"{found['most_checkpoints']} checkpoints were there at once.": (
            found["most_checkpoints"] > _KEEP.value + 1
        ),
        f"{found['bytes_a_loop']} bytes of summaries and history a loop.": (
            found["bytes_a_loop"] > _MOST_BYTES
        ),
        f"Threads went from {found['threads'][0]} to {found['threads'][1]}.": (
            found["threads"][1] > found["threads"][0] + 8
        ),
        f"Open files went from {found['open_files'][0]} to {found['open_files'][1]}.": (
            found["open_files"][1] > found["open_files"][0] + 8
        ),
        "There was no evaluation.": not found["evaluations"],
        f"SIGTERM ended it with status {found['status']}.": found["status"] != 128 + 15,
    }
    return [text for text, failed in checks.items() if failed]


def as_markdown(found: dict) -> str:
    rows = [[name, str(value)] for name, value in found.items()]
    return tables.markdown_table(["", "found"], rows)


def _speed(looks: list[dict]) -> float:
    first, last = looks[0], looks[-1]
    return (last["step"] - first["step"]) / max(last["cpu_s"] - first["cpu_s"], 1e-9)


def _begun(directory: str) -> subprocess.Popen:
    """The student's process; before it, what it learns from is made."""
    data, teacher = f"{directory}/data", f"{directory}/teacher"
    predictions, balanced = f"{directory}/predictions", f"{directory}/balanced"
    _script(
        "prepare_data",
        "--labeled_data=digits:pool",
        "--labels_per_class=10",
        "--validation_data=digits:validation",
        "--test_data=digits:test",
        f"--output_dir={data}",
    )
    labeled = f"--labeled_data=tfrecord:{data}/labeled"
    unlabeled = f"--unlabeled_data=tfrecord:{data}/unlabeled"
    _script("train", labeled, f"--output_dir={teacher}", "--duration=200 steps", *_NETWORK)
    _script("label", f"--model={teacher}", unlabeled, f"--output_dir={predictions}")
    _script(
        "balance",
        unlabeled,
        f"--predictions={predictions}",
        f"--output_dir={balanced}",
        "--min_confidence=0.05",
    )
    return subprocess.Popen(
        _command(
            "train",
            "--role=student",
            labeled,
            f"--pseudo_labeled_data={balanced}",
            f"--validation_data=tfrecord:{data}/validation",
            "--evaluation_interval=1000 steps",
            "--checkpoint_interval=500 steps",
            f"--keep_checkpoints={_KEEP.value}",
            f"--steps_per_loop={_STEPS_PER_LOOP}",
            "--duration=100000000 steps",
            f"--output_dir={directory}/student",
            *_NETWORK,
        ),
        stdout=subprocess.DEVNULL,
    )


def _command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tpu_scripts.{script}", *arguments]


def _script(name: str, *arguments: str) -> None:
    subprocess.run(_command(name, *arguments), check=True, stdout=subprocess.DEVNULL)


def _looked_at(process: subprocess.Popen, directory: str) -> list[dict]:
    """A look every `--interval` seconds, until the time is over."""
    looks, began = [], time.monotonic()
    while process.poll() is None:
        minutes = (time.monotonic() - began) / 60
        if minutes > _MINUTES.value:
            break
        if (look := _look(process.pid, directory))["step"]:
            looks.append({"minutes": round(minutes, 3), **look})
            if len(looks) % 20 == 1:
                print(looks[-1], flush=True)
        time.sleep(_INTERVAL.value)
    process.send_signal(signal.SIGTERM)
    looks[-1]["status"] = process.wait()
    return looks


def _look(pid: int, directory: str) -> dict:
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    with open(f"/proc/{pid}/stat") as stat:
        times = stat.read().rpartition(")")[2].split()[11:13]  # utime, stime: proc(5).
    step, evaluations = _progress(os.path.join(directory, "history.jsonl"))
    saved = _files(os.path.join(directory, "checkpoints"))
    summaries = _files(os.path.join(directory, "tensorboard"))
    history = _files(directory, "history.jsonl")
    return {
        "step": step,
        "memory_mib": int(fields["VmRSS"].split()[0]) / 1024,
        "cpu_s": sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
        "threads": int(fields["Threads"]),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
        "checkpoints": sum(path.endswith(".index") for path in saved),
        "summary_files": len(summaries),
        "summary_bytes": sum(summaries.values()) + sum(history.values()),
        "evaluations": evaluations,
    }


def _progress(path: str) -> tuple[int, int]:
    """Steps, and how many lines hold an evaluation."""
    if not os.path.exists(path):
        return 0, 0
    with open(path) as lines:
        rows = [line for line in lines if line.endswith("\n")]
    if not rows:
        return 0, 0
    return json.loads(rows[-1])["step"], sum("top_1" in row for row in rows)


def _files(directory: str, name: str = "") -> dict[str, int]:
    """Sizes by path of the files below; some may go while it looks."""
    found = {}
    for folder, _, names in os.walk(directory):
        for each in names:
            path = os.path.join(folder, each)
            if (not name or each == name) and os.path.exists(path):
                found[path] = os.stat(path).st_size
    return found


if __name__ == "__main__":
    setting_flags.run(main)
