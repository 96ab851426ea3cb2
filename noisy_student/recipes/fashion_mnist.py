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
from noisy_student.recipes.recipe import Claim, PaperNumber, Recipe, Table

SCALE = "fashion_mnist"
FILES = "/usr/share/datasets/fashion-mnist"  # Of the package.
LABELED, UNLABELED, ALL_LABELED = 1_000, 54_000, 55_000

_NETWORK = ModelConfig(
    width=0.25, depth=0.25, image_size=32, small_image=True, batch_norm_momentum=0.9
)
_WIDER = dataclasses.replace(_NETWORK, width=0.5)
_TRAINING: dict[str, Any] = dict(
    batch_size=32,
    duration="1000 steps",
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
    student_training=TrainingConfig(**_TRAINING, unlabeled_ratio=3.0),
    generations=3,
)
_ONCE = dataclasses.replace(CONFIG, generations=1)

# Least confidence and what confidences are below: of four buckets.
BUCKETS = ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 2.0))
_BUCKET_IMAGES = 200  # A class: what the smallest bucket has about, before copies.
_ROBUSTNESS = ("corruptions", "fgsm")


_SIZES: dict[str, Any] = {"labeled_images": LABELED, "unlabeled_images": UNLABELED}


def _row(name: str, summary: str, config: Config = _ONCE, **more: Any) -> Recipe:
    return Recipe(f"{SCALE}-{name}", summary, config, scale=SCALE, **{**_SIZES, **more})


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
            # Published of B0, which this study is of.
            variations.with_student_training(_ONCE, unlabeled_ratio=1.0),
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
RATIOS = tuple(
    _row(
        f"ratio_{ratio}",
        f"{ratio} pseudo-labeled images for each labeled one.",
        variations.with_student_training(_ONCE, unlabeled_ratio=float(ratio)),
    )
    for ratio in (1, 7)
)
WARM = _row(
    "warm_start",
    "Student that starts from its teacher's weights.",
    variations.warm_started(_ONCE),
)

_FIRST = GENERATIONS[0]
_LAST = GENERATIONS[-1]


def _is_better(
    text: str, better: Recipe, worse: Recipe, metric: str = "test_top_1"
) -> Claim:
    return Claim(text, better.row, worse.row, metric)


def _top_1(**cells: tuple[float | None, str]) -> dict[str, tuple[PaperNumber, ...]]:
    """The paper's top-1 on ImageNet by row: value and cell."""
    return {
        row: (PaperNumber("top_1", value, cell),) for row, (value, cell) in cells.items()
    }


_CORRUPTED, _FGSM = "benchmarks/corruptions/error", "benchmarks/fgsm/epsilon_16"
_SOFT = {row.row: row for row in SOFT_AND_HARD}
TABLES = (
    Table(
        "7",
        "The method, and iterating it (tables 2 and 7)",
        (*BASELINES, TEACHER, CONTROL, *GENERATIONS, FULL_SUPERVISION),
        (
            *(
                _is_better(f"{text}, on labels alone (not the paper's).", network, other)
                for text, network, other in (
                    ("Better than an SVM", TEACHER, BASELINES[0]),
                    ("Better than a random forest", TEACHER, BASELINES[1]),
                    ("The control than an SVM", CONTROL, BASELINES[0]),
                )
            ),
            _is_better("Pseudo-labels help (table 2).", _FIRST, CONTROL),
            _is_better("A second generation helps (table 7).", GENERATIONS[1], _FIRST),
            _is_better("A third one helps (table 7).", _LAST, GENERATIONS[1]),
        ),
        paper=_top_1(
            teacher=(85.0, "table_2/EfficientNet-B7/top_1"),
            control=(85.5, "table_2/EfficientNet-L2/top_1"),
            generation_1=(87.6, "table_7/1/top_1"),
            generation_2=(88.1, "table_7/2/top_1"),
            generation_3=(88.4, "table_7/3/top_1"),
        ),
    ),
    Table(
        "6",
        "Noise ablation (table 6)",
        (CONTROL, _FIRST, WITHOUT_AUGMENTATION, WITHOUT_NOISE, NOISED_TEACHER),
        (
            _is_better("The student needs augmentation.", _FIRST, WITHOUT_AUGMENTATION),
            _is_better("It needs noise.", _FIRST, WITHOUT_NOISE),
            _is_better("The teacher is better without noise.", _FIRST, NOISED_TEACHER),
        ),
        paper={
            row: tuple(
                PaperNumber("top_1", value, f"table_6/{name}/{column}")
                for value, column in zip(values, ("1.3M", "130M"), strict=True)
            )
            for row, name, *values in (
                ("control", "supervised", 83.3, 84.0),
                ("generation_1", "all noise", 83.9, 84.9),
                ("without_augmentation", "student w/o Aug", 83.6, 84.6),
                ("without_noise", "student w/o Aug, SD, Dropout", 83.2, 84.3),
                ("noised_teacher", "teacher with Aug, SD, Dropout", 83.7, 84.4),
            )
        },
    ),
    Table(
        "study_1",
        "Size of the teacher (appendix)",
        (TEACHER, WIDE["wide_teacher_alone"], _FIRST, WIDE["wide_teacher"]),
        (
            _is_better(
                "A student learns more from a larger teacher.", WIDE["wide_teacher"], _FIRST
            ),
        ),
        paper=_top_1(
            teacher=(77.3, "b0_to_b7/B0/base_top_1"),
            wide_teacher_alone=(85.5, "table_2/EfficientNet-L2/top_1"),
            generation_1=(78.1, "b0_to_b7/B0/same_teacher_top_1"),
            wide_teacher=(78.8, "b0_to_b7/B0/l2_teacher_top_1"),
        ),
    ),
    Table(
        "study_2",
        "Number of unlabeled images (appendix)",
        (CONTROL, *POOLS),
        (_is_better("All images are better than 1/64.", POOLS[-1], POOLS[0]),),
        paper=_top_1(
            control=(83.2, "study_2/baseline/top_1"),
            pool_1_64=(83.3, "study_2/1/64/top_1"),
            pool_1_16=(83.9, "study_2/1/16/top_1"),
            pool_1_4=(83.8, "study_2/1/4/top_1"),
            pool_1_1=(84.0, "study_2/1/top_1"),
        ),
    ),
    Table(
        "study_3",
        "Soft and hard labels by confidence (appendix)",
        (CONTROL, *SOFT_AND_HARD),
        (
            *(
                _is_better(
                    f"Soft labels are better, confidence from {low}.",
                    _SOFT[f"bucket_{low}_soft"],
                    _SOFT[f"bucket_{low}_hard"],
                )
                for low, _ in BUCKETS
            ),
            _is_better(
                "Hard labels of the least confidence hurt.",
                CONTROL,
                _SOFT[f"bucket_{BUCKETS[0][0]}_hard"],
            ),
        ),
        paper={
            "control": (PaperNumber("top_1", 77.3, "study_3/baseline/top_1"),),
            # The paper's buckets are half as wide: both of them.
            **{
                f"bucket_{low}_{kind}": tuple(
                    PaperNumber("top_1", value, f"study_3/{bucket}/{kind}")
                    for bucket, value in found
                )
                for low, kind, *found in (
                    (0.2, "soft", (0.2, 77.72), (0.3, 77.82)),
                    (0.2, "hard", (0.2, 76.28), (0.3, 76.82)),
                    (0.4, "soft", (0.4, 77.70), (0.5, 77.90)),
                    (0.4, "hard", (0.4, 76.93), (0.5, 77.10)),
                    (0.6, "soft", (0.6, 77.81), (0.7, 77.98)),
                    (0.6, "hard", (0.6, 77.34), (0.7, 77.67)),
                    (0.8, "soft", (0.8, 77.97), (0.9, 78.05)),
                    (0.8, "hard", (0.8, 77.96), (0.9, 77.92)),
                )
            },
        },
    ),
    Table(
        "study_4",
        "Size of the student (appendix)",
        (_FIRST, WIDE["wide_student"], WIDE["wide_teacher_alone"], WIDE["wide_both"]),
        (_is_better("A larger student is better.", WIDE["wide_student"], _FIRST),),
        paper=_top_1(
            generation_1=(77.9, "study_4/B0 to B0/student"),
            wide_student=(79.5, "study_4/B0 to B1/student"),
        ),
    ),
    Table(
        "study_5",
        "Balancing, with an imbalanced pool (appendix)",
        (CONTROL, *IMBALANCED),
        (_is_better("Balancing helps small networks.", IMBALANCED[0], IMBALANCED[1]),),
        paper=_top_1(
            imbalanced_pool_balanced=(None, "study_5/balanced/top_1"),
            imbalanced_pool_unbalanced=(None, "study_5/unbalanced/top_1"),
        ),
    ),
    Table(
        "study_6",
        "Both kinds of labels together, or one after the other (appendix)",
        (CONTROL, _FIRST, PRE_TRAINED),
        (_is_better("Together is better.", _FIRST, PRE_TRAINED),),
        paper=_top_1(
            generation_1=(None, "study_6/joint/top_1"),
            pre_trained_fine_tuned=(None, "study_6/pre-training, then fine-tuning/top_1"),
        ),
    ),
    Table(
        "study_7",
        "Ratio of pseudo-labeled to labeled images in a step (appendix)",
        (RATIOS[0], _FIRST, RATIOS[1]),
        paper=_top_1(
            ratio_1=(84.0, "study_7/B4, 1:1/top_1"),
            generation_1=(84.0, "study_7/B4, 3:1/top_1"),
        ),
    ),
    Table(
        "study_8",
        "Starting from the teacher's weights (appendix)",
        (_FIRST, WARM),
        (_is_better("From scratch is better (sometimes).", _FIRST, WARM),),
        paper=_top_1(
            generation_1=(None, "study_8/from scratch/top_1"),
            warm_start=(None, "study_8/warm start/top_1"),
        ),
    ),
    Table(
        "robustness",
        "Robustness (tables 4 and 5, figure of FGSM)",
        (TEACHER, CONTROL, *GENERATIONS),
        (
            _is_better(
                "A student makes fewer errors on corrupted images.",
                _LAST,
                CONTROL,
                _CORRUPTED,
            ),
            _is_better("It withstands FGSM better, ε = 16.", _LAST, CONTROL, _FGSM),
        ),
        ("test_top_1", _CORRUPTED, _FGSM),
        paper={
            row: (
                PaperNumber("mce", mce, f"table_4/{name} @299/mce"),
                PaperNumber("fgsm_16", fgsm, f"fgsm/{of_fgsm}/16"),
            )
            for row, name, mce, of_fgsm, fgsm in (
                ("control", "EfficientNet-L2", 42.5, "EfficientNet-L2", 59.7),
                ("generation_3", "NS (L2)", 28.3, "NS (L2) v2+", 74.7),
            )
        },
    ),
)
RECIPES = (
    Recipe(SCALE, "The method on Fashion-MNIST, three generations.", CONFIG, **_SIZES),
    *{row.name: row for table in TABLES for row in table.rows}.values(),
)
