"""Fashion-MNIST: the paper's tables at a scale of minutes on two cores.

    python -m tpu_scripts.reproduce --scale=fashion_mnist --table=7 --seeds=3

70,000 grey photos of clothes, 28x28 (Xiao et al., arXiv 1708.07747), from Debian's
package dataset-fashion-mnist: 1,000 labeled ones (100 a class), 54,000 unlabeled, 5,000
for validation, 10,000 for the test. Measured: docs/results/fashion_mnist.md.
"""

import dataclasses
from typing import Any

from data.augmentation import Augmentation
from noisy_student.config import Config, DataConfig, ModelConfig, TrainingConfig
from noisy_student.recipes import variations
from noisy_student.recipes.recipe import Recipe

SCALE = "fashion_mnist"
FILES = "/usr/share/datasets/fashion-mnist"  # Of the package.
LABELED, UNLABELED, ALL_LABELED = 1_000, 54_000, 55_000

_NETWORK = ModelConfig(
    width=0.25, depth=0.25, image_size=32, small_image=True, batch_norm_momentum=0.9
)
_WIDER = dataclasses.replace(_NETWORK, width=0.5)
_TRAINING: dict[str, Any] = dict(
    batch_size=64,
    duration="1000 steps",
    schedule="cosine",
    base_learning_rate=0.16,
    warmup="60 steps",
    final_base_learning_rate=0.0016,
)

CONFIG = Config(
    data=DataConfig(
        labeled_data=f"idx:{FILES}:train[5000:]",
        labels_per_class=100,
        validation_data=f"idx:{FILES}:train[:5000]",
        test_data=f"idx:{FILES}:test",
    ),
    augmentation=Augmentation(
        crop="pad",
        num_ops=1,
        magnitude=5,
        randaugment_mode="corrected",
        random_crop=False,  # The clothes are centred: with shifts accuracy falls.
    ),
    teacher=_NETWORK,
    student=_NETWORK,
    teacher_training=TrainingConfig(**_TRAINING),
    # As published for B0.
    student_training=TrainingConfig(**_TRAINING, unlabeled_ratio=1.0),
    generations=3,
)
_ONCE = dataclasses.replace(CONFIG, generations=1)

# Least confidence and what confidences are below: of four buckets.
BUCKETS = ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 2.0))
_BUCKET_IMAGES = 200  # A class: what the smallest bucket has about, before copies.
_ROBUSTNESS = ("corruptions", "fgsm")


SIZES: dict[str, Any] = {"labeled_images": LABELED, "unlabeled_images": UNLABELED}


def _row(name: str, summary: str, config: Config = _ONCE, **more: Any) -> Recipe:
    return Recipe(f"{SCALE}-{name}", summary, config, scale=SCALE, **{**SIZES, **more})


TEACHER = _row(
    "teacher",
    "The first teacher, trained on the labels alone.",
    role="teacher",
    benchmarks=_ROBUSTNESS,
)
CONTROL = _row(
    "control",
    "The student's network and training on the labels alone, as many steps.",
    role="control",
    benchmarks=_ROBUSTNESS,
)
GENERATIONS = tuple(
    _row(
        f"generation_{number}",
        f"Student of generation {number}, with all noise.",
        dataclasses.replace(CONFIG, generations=number),
        benchmarks=_ROBUSTNESS,
    )
    for number in (1, 2, 3)
)
FULL_SUPERVISION = _row(
    "full_supervision",
    "All 55,000 labels, as many images a step as a student: the ceiling.",
    dataclasses.replace(
        _ONCE,
        data=dataclasses.replace(
            CONFIG.data,
            labels_per_class=0,
            unlabeled_data=CONFIG.data.validation_data,  # Not used.
        ),
        teacher_training=dataclasses.replace(CONFIG.teacher_training, batch_size=128),
    ),
    role="teacher",
    labeled_images=ALL_LABELED,
)
BASELINES = (
    _row("rbf_svm", "scikit-learn's SVM on pixels, the same labels.", role="rbf_svm"),
    _row(
        "random_forest",
        "scikit-learn's random forest on pixels, the same labels.",
        role="random_forest",
    ),
)

# Table 6; generation 1 is its row with all noise.
WITHOUT_AUGMENTATION = _row(
    "without_augmentation",
    "Student without RandAugment on pseudo-labeled images.",
    variations.without_augmentation(_ONCE),
)
WITHOUT_NOISE = _row(
    "without_noise",
    "Student without RandAugment, dropout, stochastic depth on pseudo-labeled images.",
    variations.without_noise(_ONCE),
)
NOISED_TEACHER = _row(
    "noised_teacher",
    "Labels of a teacher with training's noise on.",
    variations.noised_teacher(_ONCE),
)

# Studies.
_WIDE_STUDENT = dataclasses.replace(_ONCE, student=_WIDER)
_WIDE_BOTH = dataclasses.replace(_WIDE_STUDENT, teacher=_WIDER)
_WIDE_TEACHER = dataclasses.replace(_ONCE, teacher=_WIDER, allow_smaller_student=True)
WIDE = {
    "wide_teacher_alone": _row(
        "wide_teacher_alone",
        "The wider network on the labels alone.",
        _WIDE_BOTH,
        role="teacher",
    ),
    "wide_teacher": _row(
        "wide_teacher", "Narrow student of a wider teacher.", _WIDE_TEACHER
    ),
    "wide_student": _row(
        "wide_student", "Wider student of the narrow teacher.", _WIDE_STUDENT
    ),
    "wide_both": _row("wide_both", "Wider student of a wider teacher.", _WIDE_BOTH),
}
POOLS = tuple(
    _row(
        f"pool_1_{parts}",
        f"1/{parts} of the unlabeled images, drawn uniformly.",
        variations.part_of_pool(_ONCE, 1 / parts),
    )
    for parts in (64, 16, 4, 1)
)
SOFT_AND_HARD = tuple(
    _row(
        f"bucket_{low}_{kind}",
        f"{kind.capitalize()} labels, confidence from {low} to {min(high, 1.0)}, "
        f"{_BUCKET_IMAGES} a class.",
        variations.confidence_bucket(
            _ONCE,
            low,
            high,
            _BUCKET_IMAGES,
            kind == "soft",
        ),
    )
    for low, high in BUCKETS
    for kind in ("soft", "hard")
)
_TAIL = dataclasses.replace(
    _ONCE, data=dataclasses.replace(CONFIG.data, pool_imbalance=50.0)
)
IMBALANCED = (
    _row("imbalanced_pool_balanced", "Pool of 50 : 1, classes filled up.", _TAIL),
    _row(
        "imbalanced_pool_unbalanced",
        "Pool of 50 : 1, every confident image once.",
        variations.unbalanced(_TAIL),
    ),
)
PRE_TRAINED = _row(
    "pre_trained_fine_tuned",
    "Pseudo-labels first, then labels, instead of both together.",
    variations.pre_training(_ONCE),
    role="fine_tuned",
)
RATIO_3 = _row(
    "ratio_3",
    "Three pseudo-labeled images for each labeled one.",
    variations.with_student_training(_ONCE, unlabeled_ratio=3.0),
)
WARM = _row(
    "warm_start",
    "Student that starts from its teacher's weights.",
    variations.warm_started(_ONCE),
)
