"""ImageNet: the noise ablation and the appendix's studies, and all tables.

python -m tpu_scripts.reproduce --scale=imagenet --table=study_2 --work_dir=gs://BUCKET/tables
"""

import dataclasses

from data.augmentation import Augmentation
from noisy_student.config import Config
from noisy_student.recipes import variations
from noisy_student.recipes.imagenet import (
    EXACT,
    JFT,
    L2,
    L2_CHAIN,
    L2_SUPERVISED,
    SCALE,
    SELECTED,
    STUDENTS,
    STUDENTS_OF_L2,
    SUPERVISED,
    UNLABELED,
    make_row,
    network,
    same_size,
)
from noisy_student.recipes.recipe import Claim, FixRes, PaperNumber, Table

_PRINTED_TWICE = "The table of sizes has another number for the same settings."
_WHICH_B7 = "Whether the paper's B7 of 86.9 is the student of L2: not found."


def _b5(unlabeled: str) -> Config:
    """Of table 6, by its column: 1.3M or 130M unlabeled images."""
    if unlabeled == "130M":
        return same_size(5)
    config = dataclasses.replace(same_size(5), augmentation=Augmentation(num_ops=0))
    return variations.with_selection(config, images_per_class=1_300)


_ABLATION = (
    ("supervised", "supervised", None, {"1.3M": 83.3, "130M": 84.0}),
    ("all_noise", "all noise", lambda config: config, {"1.3M": 83.9, "130M": 84.9}),
    (
        "without_augmentation",
        "student w/o Aug",
        variations.without_augmentation,
        {"1.3M": 83.6, "130M": 84.6},
    ),
    (
        "without_noise",
        "student w/o Aug, SD, Dropout",
        variations.without_noise,
        {"1.3M": 83.2, "130M": 84.3},
    ),
    (
        "noised_teacher",
        "teacher with Aug, SD, Dropout",
        variations.noised_teacher,
        {"1.3M": 83.7, "130M": 84.4},
    ),
)
NOISE_ABLATION = tuple(
    make_row(
        f"b5-{unlabeled.lower()}-{name}",
        f"EfficientNet-B5, {unlabeled} unlabeled images: {in_paper}.",
        vary(_b5(unlabeled)) if vary else _b5(unlabeled),
        role="student" if vary else "teacher",
        paper=(PaperNumber("top_1", top_1[unlabeled], f"table_6/{in_paper}/{unlabeled}"),),
        unlabeled_images=1_300_000 if unlabeled == "1.3M" else UNLABELED,
    )
    for name, in_paper, vary, top_1 in _ABLATION
    for unlabeled in ("1.3M", "130M")
)


def _taught_by(teacher: int, student: int) -> Config:
    """Study 4: a student with the settings of its own size; its teacher is a row too."""
    return dataclasses.replace(same_size(student), teacher=network(teacher))


POOLS = tuple(
    make_row(
        f"b4-pool_{name.replace('/', '_')}",
        f"EfficientNet-B4, {name} of the unlabeled images, drawn uniformly.",
        variations.part_of_pool(same_size(4), fraction),
        differs=(JFT, SELECTED, "The paper draws from the 130M chosen images."),
        paper=(PaperNumber("top_1", top_1, f"study_2/{name}/top_1"),),
        unlabeled_images=int(130_000_000 * fraction),
    )
    for name, fraction, top_1 in (
        ("1/128", 1 / 128, 83.4),
        ("1/64", 1 / 64, 83.3),
        ("1/32", 1 / 32, 83.7),
        ("1/16", 1 / 16, 83.9),
        ("1/4", 1 / 4, 83.8),
        ("1", 1.0, 84.0),
    )
)
# By bucket: soft, hard; read off a picture.
_BUCKETS = (
    (77.52, 75.75),
    (77.65, 75.98),
    (77.72, 76.28),
    (77.82, 76.82),
    (77.70, 76.93),
    (77.90, 77.10),
    (77.81, 77.34),
    (77.98, 77.67),
    (77.97, 77.96),
    (78.05, 77.92),
)
SOFT_AND_HARD = tuple(
    make_row(
        f"b0-bucket_{number / 10}_{kind}",
        f"EfficientNet-B0, {kind} labels of confidence {number / 10} to "
        f"{(number + 1) / 10}, 1.3M images.",
        variations.confidence_bucket(
            same_size(0),
            number / 10,
            2.0 if number == 9 else (number + 1) / 10,
            1_300,
            kind == "soft",
        ),
        paper=(PaperNumber("top_1", top_1, f"study_3/{number / 10}/{kind}"),),
        unlabeled_images=1_300_000,
    )
    for number, values in enumerate(_BUCKETS)
    for kind, top_1 in zip(("soft", "hard"), values, strict=True)
)
STUDENT_SIZES = (
    *(
        make_row(
            f"b{teacher}-to_b{student}",
            f"EfficientNet-B{student}, student of an EfficientNet-B{teacher}.",
            _taught_by(teacher, student),
            teacher_recipe=f"{SCALE}-b{teacher}{by}",
            differs=(JFT, SELECTED, EXACT, *more),
            paper=(
                PaperNumber("top_1", top_1, f"study_4/B{teacher} to B{student}/student"),
            ),
        )
        for teacher, student, top_1, by, *more in (
            (0, 0, 77.9, "", _PRINTED_TWICE),
            (0, 1, 79.5, ""),
            (2, 2, 80.7, "", _PRINTED_TWICE),
            (2, 3, 82.0, ""),
            (4, 4, 84.0, "", _PRINTED_TWICE),
            (4, 5, 84.7, ""),
            (7, 7, 86.9, "-student_of_l2", _WHICH_B7),
        )
    ),
    make_row(
        "b7-to_l2",
        "EfficientNet-L2, student of the EfficientNet-B7 that an L2 taught.",
        dataclasses.replace(L2_CHAIN, generations=1),
        teacher_recipe=f"{SCALE}-b7-student_of_l2",
        fixres=FixRes(800),
        source="the paper, section 3.1",
        differs=(JFT, SELECTED, EXACT, _WHICH_B7),
        paper=(PaperNumber("top_1", 87.2, "study_4/B7 to L2/student"),),
    ),
)
_UNSAID = "The network that this study had is not found."
BALANCING = (
    make_row(
        "b0-balanced",
        "EfficientNet-B0, as many images of each class.",
        same_size(0),
        differs=(JFT, SELECTED, EXACT, _UNSAID),
        paper=(PaperNumber("top_1", None, "study_5/balanced/top_1"),),
    ),
    make_row(
        "b0-unbalanced",
        "EfficientNet-B0, every confident image once.",
        variations.unbalanced(same_size(0)),
        differs=(JFT, SELECTED, EXACT, _UNSAID),
        paper=(PaperNumber("top_1", None, "study_5/unbalanced/top_1"),),
    ),
)
JOINT = (
    make_row(
        "b4-joint",
        "EfficientNet-B4, both kinds of labels together.",
        same_size(4),
        differs=(JFT, SELECTED, EXACT, _UNSAID),
        paper=(PaperNumber("top_1", None, "study_6/joint/top_1"),),
    ),
    make_row(
        "b4-pre_trained_fine_tuned",
        "EfficientNet-B4, pseudo-labels first, then labels.",
        variations.pre_training(same_size(4)),
        role="fine_tuned",
        differs=(JFT, SELECTED, EXACT, _UNSAID),
        paper=(PaperNumber("top_1", None, "study_6/pre-training, then fine-tuning/top_1"),),
    ),
)
_OLD_TEACHER = "The paper's teacher is an L2 of {} %, which one is not found; here of 87.6."
RATIOS = (
    *(
        make_row(
            f"b4-ratio_{ratio}",
            f"EfficientNet-B4, {ratio} unlabeled images for each labeled one.",
            variations.with_student_training(same_size(4), unlabeled_ratio=float(ratio)),
            differs=(JFT, SELECTED, EXACT, *((_PRINTED_TWICE,) if ratio == 3 else ())),
            paper=(PaperNumber("top_1", 84.0, f"study_7/B4, {ratio}:1/top_1"),),
        )
        for ratio in (1, 3)
    ),
    *(
        make_row(
            f"l2-ratio_{ratio}-of_{teacher}",
            f"EfficientNet-L2, {ratio} unlabeled images for each labeled one.",
            dataclasses.replace(
                variations.with_student_training(L2_CHAIN, unlabeled_ratio=float(ratio)),
                teacher=L2_CHAIN.student,
                generations=1,
            ),
            teacher_recipe=f"{SCALE}-l2-generation_1",
            fixres=FixRes(800),
            source="the paper, section 3.1",
            differs=(JFT, SELECTED, EXACT, _OLD_TEACHER.format(teacher)),
            paper=(
                PaperNumber("top_1", top_1, f"study_7/L2 of {teacher}, {ratio}:1/top_1"),
            ),
        )
        for teacher, ratio, top_1 in (
            (87.0, 1, 86.7),
            (87.0, 3, 87.4),
            (87.4, 3, 87.4),
            (87.4, 6, 87.9),
        )
    ),
)
WARM = make_row(
    "b4-warm_start",
    "EfficientNet-B4 that starts from its teacher's weights.",
    variations.warm_started(same_size(4)),
    differs=(JFT, SELECTED, EXACT, _UNSAID),
    paper=(PaperNumber("top_1", None, "study_8/warm start/top_1"),),
)
# `evaluate --on=imagenet_a,imagenet_c,imagenet_p` measures what tables 3 to 5 have of them.
ROBUST = (
    dataclasses.replace(
        L2_SUPERVISED,
        name=f"{SCALE}-l2-robustness",
        fixres=None,  # Without it L2 is better on ImageNet-C and -P, the paper says.
        summary="EfficientNet-L2 on labels alone, for ImageNet-A, -C and -P.",
        paper=(
            PaperNumber("imagenet_a_top_1", 49.6, "table_3/EfficientNet-L2/top_1"),
            PaperNumber("mce", 42.5, "table_4/EfficientNet-L2 @299/mce"),
            PaperNumber("mfr", 23.7, "table_5/EfficientNet-L2 @299/mfr"),
        ),
    ),
    dataclasses.replace(
        L2[-1],
        name=f"{SCALE}-l2-generation_3-robustness",
        fixres=None,
        summary="EfficientNet-L2 of generation 3, for ImageNet-A, -C and -P.",
        paper=(
            PaperNumber("imagenet_a_top_1", 83.7, "table_3/Noisy Student (L2)/top_1"),
            PaperNumber("mce", 28.3, "table_4/NS (L2) @299/mce"),
            PaperNumber("mfr", 12.2, "table_5/NS (L2) @299/mfr"),
        ),
    ),
)


_130M = {row.row: row for row in NOISE_ABLATION}
TABLES = (
    Table("2", "State of the art (table 2)", (SUPERVISED[7], L2_SUPERVISED, L2[-1])),
    Table(
        "b0_to_b7",
        "EfficientNet-B0 to -B7 without iteration (table of sizes)",
        (*SUPERVISED, *STUDENTS, *STUDENTS_OF_L2),
        tuple(
            Claim.between(f"B{number} gains.", STUDENTS[number], SUPERVISED[number])
            for number in range(8)
        ),
    ),
    Table(
        "6",
        "Noise ablation (table 6)",
        NOISE_ABLATION,
        tuple(
            Claim.between(text, _130M["b5-130m-all_noise"], _130M[f"b5-130m-{worse}"])
            for text, worse in (
                ("The student needs augmentation.", "without_augmentation"),
                ("It needs noise.", "without_noise"),
                ("The teacher is better without noise.", "noised_teacher"),
            )
        ),
    ),
    Table(
        "7",
        "Iterations (table 7)",
        L2,
        (
            Claim.between("A second generation helps.", L2[1], L2[0]),
            Claim.between("A third one helps.", L2[2], L2[1]),
        ),
    ),
    Table(
        "study_1",
        "Size of the teacher (appendix)",
        (*STUDENTS, *STUDENTS_OF_L2),
        tuple(
            Claim.between(f"B{n} learns more from L2.", STUDENTS_OF_L2[n], STUDENTS[n])
            for n in range(8)
        ),
    ),
    Table("study_2", "Number of unlabeled images (appendix)", (SUPERVISED[4], *POOLS)),
    Table("study_3", "Soft and hard labels (appendix)", (SUPERVISED[0], *SOFT_AND_HARD)),
    Table("study_4", "Size of the student (appendix)", STUDENT_SIZES),
    Table("study_5", "Balancing (appendix)", BALANCING),
    Table("study_6", "Both kinds of labels together or not (appendix)", JOINT),
    Table("study_7", "Ratio of unlabeled to labeled images (appendix)", RATIOS),
    Table("study_8", "Starting from the teacher (appendix)", (STUDENTS[4], WARM)),
)
RECIPES = (
    *{row.name: row for table in TABLES for row in table.rows}.values(),
    *ROBUST,
)
