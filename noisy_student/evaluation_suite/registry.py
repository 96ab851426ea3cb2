"""Every benchmark by its name, and how it is opened."""

import dataclasses
import os

from data.errors import InputError
from data.records import RecordSet
from data.settings import setting
from noisy_student.evaluation_suite import imagenet_c, imagenet_classes, imagenet_p, labeled
from noisy_student.evaluation_suite.adversaries import EPSILONS, STEPS, Adversaries
from noisy_student.evaluation_suite.benchmark import Benchmark, BenchmarkData
from noisy_student.evaluation_suite.calibration import Calibration
from noisy_student.evaluation_suite.own_corruptions import OwnCorruptions
from noisy_student.evaluation_suite.stability import Stability
from noisy_student.models.model_files import ModelInfo

# On a user's own labeled set.
OWN = ("test", "calibration", "corruptions", "stability", "fgsm", "pgd")
# Where the data of the others is, if nobody says otherwise. In the order in which they
# are run: ImageNet-C's relative error needs that on ImageNet.
IMAGENET = {
    "imagenet": "tfds:imagenet2012:validation",
    "imagenet_real": "tfds:imagenet2012_real:validation",
    "imagenet_v2": "tfds:imagenet_v2",
    "imagenet_sketch": "tfds:imagenet_sketch:test",
    "imagenet_a": "tfds:imagenet_a:test",
    "imagenet_r": "tfds:imagenet_r:test",
    imagenet_c.AUTHORS: "",
    imagenet_c.RECOMPUTED: "tfds:imagenet2012_corrupted",
    imagenet_p.NAME: "",
}
NAMES = (*OWN, *IMAGENET)


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What benchmarks take, beside their data."""

    epsilons: str = setting(
        ",".join(f"{epsilon:g}" for epsilon in EPSILONS),
        "Of fgsm and pgd: the most that a value of a pixel changes, of 255.",
    )
    sample: int = setting(0, "Take so many images of --data, drawn by seed; 0: all.")
    seed: int = setting(0, "Of the draws of corruptions, and of --sample.")
    corruption_shorter_side: int = setting(
        0, "Shrink larger images to it before they are corrupted, such as 256; 0: do not."
    )
    corruption_workers: int = setting(
        0, "Processes that corrupt images; 0: one a core. No result depends on it."
    )
    corrupted_dir: str = setting(
        "", "Keep corrupted images there, for other models; empty: do not."
    )
    real_labels: str = setting("", "real.json, with --imagenet_real=folder:DIR.")
    allow_partial: bool = setting(
        False, "Take a part of a published benchmark; the result is marked as partial."
    )

    def __post_init__(self) -> None:
        for name, most in (
            ("sample", 2**31),
            ("seed", 2**63),
            ("corruption_shorter_side", 2**16),
            ("corruption_workers", 2**10),
        ):
            if not 0 <= getattr(self, name) < most:
                raise InputError(
                    f"`{name}`: expected 0 to {most - 1:,}; received {getattr(self, name)}."
                )


def in_order(names: list[str]) -> list[str]:
    """Each name once, in the order in which benchmarks are run.

    Raises:
        InputError: One is unknown, or there is none.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise InputError(
            f"`on`: expected names among {', '.join(NAMES)}; received "
            f"{', '.join(unknown) or 'none'}."
        )
    return [name for name in NAMES if name in names]


def open_own(
    name: str, dataset: str, examples: RecordSet, options: BenchmarkOptions
) -> Benchmark:
    """A benchmark on a user's own images.

    Args:
        name: One of `OWN`.
        dataset: What the user named the images by.
        examples: Labeled records, of the model's classes.
        options: See there.

    Raises:
        InputError: An option is wrong, or a package is missing.
    """
    images = labeled.own_part(examples, options.sample, options.seed)
    skipped = len(examples.skipped)
    data = BenchmarkData(dataset, images.fingerprint, skipped_records=skipped)
    if name in STEPS:
        return Adversaries(name, data, images, _numbers(options.epsilons))
    if name == "corruptions":
        return OwnCorruptions(
            data,
            images,
            options.seed,
            options.corruption_shorter_side,
            options.corruption_workers or os.cpu_count() or 1,
            options.corrupted_dir,
        )
    if name == "calibration":
        return Calibration(data, images)
    if name == "stability":
        return Stability(data, images)
    return labeled.LabeledBenchmark(name, data, {name: images})


def open_imagenet(
    name: str, dataset: str, options: BenchmarkOptions, info: ModelInfo
) -> Benchmark:
    """A published benchmark.

    Args:
        name: One of `IMAGENET`.
        dataset: Where its images are.
        options: See there.
        info: Of the model, which must have ImageNet's classes.

    Raises:
        InputError: The model has other classes, or images are missing.
    """
    imagenet_classes.check_model(name, info)
    if not dataset:
        raise InputError(
            f"`{name}`: expected folder:DIR with the files of its authors for "
            f"--on={name}; received none."
        )
    if name in (imagenet_c.AUTHORS, imagenet_c.RECOMPUTED):
        return imagenet_c.open_imagenet_c(name, dataset, options.allow_partial)
    if name == imagenet_p.NAME:
        return imagenet_p.open_imagenet_p(dataset, options.allow_partial)
    return labeled.open_benchmark(name, dataset, options.allow_partial, options.real_labels)


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"`epsilons`: expected numbers, such as 2,4,8; received {text!r}."
        ) from error
