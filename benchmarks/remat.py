"""Peak memory and work of a training step, with and without recomputed activations.

    python -m benchmarks.remat --variant=efficientnet-b4 --image_size=380

Each of the two runs in a process of its own; memory is what the step adds to the
process (its peak resident size less that before the first step).
"""

import json
import os
import resource
import subprocess
import sys

from absl import app, flags

_VARIANT = flags.DEFINE_string("variant", "efficientnet-b4", "Architecture.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 380, "Side of the images in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images a step.")
_STEPS = flags.DEFINE_integer("steps", 2, "Steps measured, after one that traces.")
_REMAT = flags.DEFINE_bool("remat", None, "Measure only with, or only without.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file for the result; empty: none.")


def main(_):
    if _REMAT.value is not None:
        print(json.dumps(measure(_REMAT.value)))
        return
    found = [_in_own_process(remat) for remat in (False, True)]
    kept, recomputed = found
    print(
        f"{_VARIANT.value}, {_IMAGE_SIZE.value} px, batch {_BATCH_SIZE.value}, float32, CPU"
    )
    for name, row in (("kept", kept), ("recomputed", recomputed)):
        print(f"{name:>11}  {row['gib']:6.2f} GiB  {row['cpu_seconds']:7.1f} CPU-s a step")
    print(
        f"{'ratio':>11}  {recomputed['gib'] / kept['gib']:6.2f}      "
        f"{recomputed['cpu_seconds'] / kept['cpu_seconds']:7.2f}"
    )
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w") as file:
            json.dump({"kept": kept, "recomputed": recomputed}, file, indent=2)


def _in_own_process(remat: bool) -> dict:
    flag = "--remat" if remat else "--noremat"
    command = [sys.executable, "-m", "benchmarks.remat", *sys.argv[1:], flag]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure(remat: bool) -> dict:
    """GiB that a step adds, and its CPU time in seconds."""
    import numpy as np
    import tensorflow as tf

    from efficientnet import build_efficientnet, noise_key

    model = build_efficientnet(_VARIANT.value, num_classes=1000, remat=remat, seed=0)
    size, batch = _IMAGE_SIZE.value, _BATCH_SIZE.value
    images = tf.constant(
        np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)), tf.uint8
    )

    @tf.function
    def step(number):
        with tf.GradientTape() as tape:
            with noise_key(0, number):
                logits = model(images, training=True)
            loss = tf.reduce_mean(tf.reduce_logsumexp(logits, -1) - logits[:, 0])
        variables = model.trainable_variables
        for variable, gradient in zip(
            variables, tape.gradient(loss, variables), strict=True
        ):
            variable.assign_sub(0.01 * gradient)
        return loss

    before = _resident_bytes()
    step(tf.constant(0, tf.int64))
    began = os.times()
    for number in range(1, _STEPS.value + 1):
        step(tf.constant(number, tf.int64))
    ended = os.times()
    seconds = ended.user + ended.system - began.user - began.system
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"gib": (peak - before) / 2**30, "cpu_seconds": seconds / _STEPS.value}


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    app.run(main)
