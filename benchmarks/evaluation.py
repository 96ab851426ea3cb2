"""What evaluation costs beyond the network, and whether corruptions starve it.

    python -m benchmarks.evaluation --output=docs/results/evaluation.json

By turns, on photos of 299 x 224 pixels: the forward pass on a batch in memory; a pass over
shards, as `--on=test` makes it; corruptions at 5 severities made by imagecorruptions in
a plain loop, by `data.corruptions` with its workers, and so with the network behind, as
`--on=corruptions` does it; and the same from images that `--corrupted_dir` has kept.
Milliseconds an image; CPU is that of all processes.
"""

import itertools
import os
import tempfile
import time

from absl import flags

from benchmarks import results
from benchmarks.photos import write_photos
from noisy_student import tables
from tpu_scripts import setting_flags

_VARIANT = flags.DEFINE_string("variant", "efficientnet-b0", "The network.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of its images in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a step.")
_IMAGES = flags.DEFINE_integer("images", 48, "Photos.")
_CORRUPTIONS = flags.DEFINE_list(
    "corruptions",
    ["gaussian_noise", "motion_blur", "frost", "contrast", "jpeg_compression"],
    "Those that are made; of each photo five images.",
)
_WORKERS = flags.DEFINE_integer("workers", os.cpu_count(), "Processes that corrupt images.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each contestant's turn comes.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_CLASSES = 1000


def main():
    with tempfile.TemporaryDirectory() as directory:
        found = measure(contestants(directory))
    print(as_markdown(found))
    given = (_VARIANT, _IMAGE_SIZE, _BATCH_SIZE, _IMAGES, _CORRUPTIONS, _WORKERS, _ROUNDS)
    results.write(_OUTPUT.value, results.settings(*given), ms_an_image=found)


def contestants(directory) -> dict:
    """By name what takes a turn, and returns how many images it had."""
    from data import corruptions, encoded_images
    from noisy_student.config import ModelConfig
    from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
    from noisy_student.evaluation_suite.registry import BenchmarkOptions, open_own
    from noisy_student.models import model_files
    from noisy_student.strategy import create_strategy

    size = _IMAGE_SIZE.value
    config = ModelConfig(variant=_VARIANT.value, image_size=size)
    photos = write_photos(directory, _IMAGES.value, _CLASSES, 1, labeled=True)
    model_files.save_model(
        config.build(_CLASSES, seed=0),
        f"{directory}/model",
        class_names=list(photos.class_names),
        image_size=size,
        crop="inception",
        variant=_VARIANT.value,
    )
    model = EvaluatedModel(f"{directory}/model", create_strategy("cpu"), _BATCH_SIZE.value)
    shared = {"corruption_workers": _WORKERS.value, "corruption_shorter_side": 224}
    kept = f"{directory}/kept"
    test, anew, again = (
        open_own(name, "photos", photos, BenchmarkOptions(**shared, **more))
        for name, more in (
            ("test", {}),
            ("corruptions", {}),
            ("corruptions", {"corrupted_dir": kept}),
        )
    )
    images = encoded_images.of_records(photos)
    found = encoded_images.decoded(images).as_numpy_iterator()
    pixels = [corruptions.shrunk(row["image"], 224) for row in found]

    def forward():
        import numpy as np

        batch = np.zeros((_BATCH_SIZE.value, size, size, 3), np.float32)
        model.predictor(batch)
        return len(batch)

    def plain_loop():
        import imagecorruptions

        made = itertools.product(_CORRUPTIONS.value, corruptions.SEVERITIES, pixels)
        count = 0
        for name, severity, image in made:
            imagecorruptions.corrupt(image, severity=severity, corruption_name=name)
            count += 1
        return count

    def generated():
        return sum(1 for name in _CORRUPTIONS.value for _ in anew.corrupted(name))

    def whole(benchmark):
        return sum(len(benchmark.run(p, model, p)["id"]) for p in _CORRUPTIONS.value)

    return {
        "forward pass": forward,
        "--on=test": lambda: len(test.run("test", model, "test")["id"]),
        "imagecorruptions in a loop": plain_loop,
        f"corrupted by {_WORKERS.value} workers": generated,
        "--on=corruptions": lambda: whole(anew),
        "--on=corruptions, kept images": lambda: whole(again),
    }


def measure(turns_of) -> dict[str, dict[str, dict[str, float]]]:
    """Minimum and median of `wall` and `cpu`, milliseconds an image, of each."""
    turns = {name: {"wall": [], "cpu": []} for name in turns_of}
    for number in range(_ROUNDS.value + 1):
        for name, turn in turns_of.items():
            wall, cpu = time.perf_counter(), _cpu_seconds()
            images = turn()
            spent = time.perf_counter() - wall, _cpu_seconds() - cpu
            if number:  # The first traces, starts workers, writes what is kept.
                for key, seconds in zip(("wall", "cpu"), spent, strict=True):
                    turns[name][key].append(1e3 * seconds / images)
    return results.min_and_median(turns)


def as_markdown(found) -> str:
    rows = [
        [name, *(f"{row[key][of]:.1f}" for key in ("wall", "cpu") for of in row[key])]
        for name, row in found.items()
    ]
    return tables.markdown_table(
        ["ms an image", "wall, min", "median", "CPU, min", "median"], rows
    )


def _cpu_seconds() -> float:
    """Of this process and of its workers, which stay alive from turn to turn."""
    import psutil

    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    setting_flags.run(main)
