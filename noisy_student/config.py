"""Every setting of a run, as frozen dataclasses; checked before anything runs.

Scripts make flags of these fields, with the help lines given here.
"""

import dataclasses
import difflib
import math
import typing

import efficientnet
from data import soft_labels
from data.augmentation import Augmentation
from data.errors import InputError
from data.settings import setting
from noisy_student import duration, own_model


@dataclasses.dataclass(frozen=True)
class DataConfig:
    labeled_data: str = setting("digits", "Labeled data set, such as folder:DIR.")
    unlabeled_data: str = setting(
        "", "Unlabeled data set; empty with --labels_per_class: the rest."
    )
    validation_data: str = setting("", "Labeled images for tuning and for stopping.")
    test_data: str = setting(
        "", "Labeled images for the result; empty: hold some labeled ones out."
    )
    labels_per_class: int = setting(
        0, "Keep this many labels a class, the rest is unlabeled; 0: keep all."
    )
    holdout_fraction: float = setting(
        0.2, "Share of the labeled images held out as test data where none is given."
    )
    label_offset: int = setting(
        0, "Subtracted from labels in TFRecord files (1 for the usual ImageNet files)."
    )
    num_shards: int = setting(0, "Shards a set is written to; 0: one per 5,000 images.")
    skip_bad_records: bool = setting(
        False, "Look through TFRecord files first and leave bad records out, counted."
    )
    dedup_by: str = setting(
        "",
        "Search the unlabeled images for validation and test images: bytes (same files) "
        "or perceptual (photos saved again or resized too); empty: do not search.",
    )


DEDUP_BY = ("bytes", "perceptual")
SCHEDULES = ("exponential", "cosine")
SELECTIONS = ("top_k", "uniform", "reference", "unchanged")
LOSS_WEIGHTINGS = ("reference", "concatenated")
PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    variant: str = setting(
        "efficientnet-b0",
        "Architecture: efficientnet-b0 to -b8, -l0 to -l2, -lite0 to -lite4.",
    )
    model_fn: str = setting(
        "",
        "Own Keras model in place of the variant, module:function; width to batch norm "
        "below do not apply. See docs/own_model.md.",
    )
    width: float = setting(0.0, "Width factor in place of the variant's; 0: the variant's.")
    depth: float = setting(0.0, "Depth factor in place of the variant's; 0: the variant's.")
    image_size: int = setting(0, "Side of the images in pixels; 0: the variant's.")
    small_image: bool = setting(
        False, "Strides for images of about 32 pixels instead of 224."
    )
    dropout_rate: float = setting(
        -1.0, "Dropout before the classifier, 0 to 1; negative: the variant's."
    )
    stochastic_depth_rate: float = setting(
        0.2, "Rate at which the last block is dropped, 0 to 1; 0.2 in the paper."
    )
    batch_norm_momentum: float = setting(
        0.99, "Of the moving statistics, 0 to 1; runs of few hundred steps need 0.9."
    )
    batch_norm_group_size: int = setting(
        0,
        "Replicas that share batch-norm statistics: 1: none; -1: all; 0: as published, "
        "none up to 8 replicas, above groups of max(8, replicas / 8).",
    )
    precision: str = setting(
        "float32", "float32, or mixed_bfloat16: half the memory on TPUs and newer GPUs."
    )
    remat: bool = setting(
        False, "Recompute activations in the backward pass: less memory, more work."
    )

    @property
    def architecture(self) -> str:
        return self.model_fn or self.variant

    @property
    def resolution(self) -> int:
        return self.image_size or efficientnet.get_variant(self.variant).resolution

    def build(self, num_classes: int, seed: int | None = None):
        """The Keras model, weights drawn from `seed`."""
        if self.model_fn:
            return own_model.build(
                self.model_fn, num_classes, self.image_size, self.precision, seed
            )
        return efficientnet.build_efficientnet(
            self.variant,
            num_classes=num_classes,
            width=self.width or None,
            depth=self.depth or None,
            dropout_rate=None if self.dropout_rate < 0 else self.dropout_rate,
            stochastic_depth_rate=self.stochastic_depth_rate,
            small_image=self.small_image,
            batch_norm_momentum=self.batch_norm_momentum,
            batch_norm_group_size=self.batch_norm_group_size,
            remat=self.remat,
            dtype=self.precision,
            seed=seed,
        )

    def outline(self, num_classes: int):
        """The Keras model without values: its layers and shapes take no memory.

        An own model has its values: its function may load some.
        """
        import keras

        if self.model_fn:
            return self.build(num_classes, seed=0)
        with keras.StatelessScope(initialize_variables=False):
            return self.build(num_classes)


@dataclasses.dataclass(frozen=True)
class TrainingConfig(duration.WithDurations):
    durations = ("duration", "warmup", "decay_interval")

    batch_size: int = setting(2048, "Labeled images a step, over all replicas.")
    unlabeled_ratio: float = setting(
        0.0, "Pseudo-labeled images a step for each labeled one (14 for the paper's L2)."
    )
    duration: str = setting(
        "350 epochs",
        "How long to train, in epochs (passes over the labeled images), steps or images "
        "(labeled ones).",
    )
    base_learning_rate: float = setting(0.016, "Learning rate for 256 labeled images.")
    warmup: str = setting(
        "5 epochs",
        "In which the learning rate rises from 0; epochs, steps or images; 0 steps: none.",
    )
    decay_interval: str = setting(
        "2.4 epochs",
        "Between two multiplications of the rate by 0.97; epochs, steps or images.",
    )
    final_base_learning_rate: float = setting(
        0.0, "Base learning rate to end at; sets the decay interval. 0: as that says."
    )
    schedule: str = setting(
        "exponential", "exponential (as published) or cosine: without decay interval."
    )
    train_ratio: float = setting(
        1.0, "Multiplies duration and decay interval (2 in the published scripts)."
    )
    weight_decay: float = setting(1e-5, "Of the L2 term on all but batch norm.")
    label_smoothing: float = setting(
        0.1, "For true and for hard pseudo-labels, 0 to 1; soft ones have none."
    )
    ema_decay: float = setting(
        0.9999, "Of the exponential moving average of the weights, 0 to 1."
    )
    soft_labels: bool = setting(
        True, "Learn the teacher's probabilities; otherwise only its best class."
    )
    softmax_temperature: float = setting(
        1.0, "T of the soft pseudo-labels p^(1/T), above 0."
    )
    loss_weighting: str = setting(
        "reference",
        "reference: labeled loss + ratio times the other, as the published code; "
        "concatenated: the mean over all images, as the paper.",
    )
    labeled_sample_probability: float = setting(
        1.0,
        "Chance of a labeled image to count, for labeled batches smaller than the number "
        "of replicas (--label_data_sample_prob of the published code).",
    )
    pseudo_labeled_augmentation: bool = setting(
        True, "RandAugment and cutout on pseudo-labeled images (off in table 6's rows)."
    )
    pseudo_labeled_dropout: bool = setting(True, "Dropout on pseudo-labeled images.")
    pseudo_labeled_stochastic_depth: bool = setting(
        True, "Stochastic depth on pseudo-labeled images."
    )
    accumulation_steps: int = setting(
        1, "Parts of a batch computed one after the other: less memory, same update."
    )
    clip_gradient_norm: float = setting(
        0.0, "Largest norm of all gradients together; 0: not clipped, as published."
    )
    frozen_blocks: int = setting(
        -1, "Freeze the stem and this many blocks of a network that starts from a model."
    )

    @property
    def labeled_per_step(self) -> float:
        """Labeled images a step that count, on average."""
        return self.batch_size * self.labeled_sample_probability

    @property
    def pseudo_batch_size(self) -> int:
        """Pseudo-labeled images a step, over all replicas."""
        return math.ceil(self.labeled_per_step * self.unlabeled_ratio)

    def steps_of(self, setting_name: str, num_labeled: int) -> float:
        """`duration`, `warmup` or `decay_interval` in steps, not rounded."""
        length = duration.parse(getattr(self, setting_name), setting_name)
        return length.steps(num_labeled, self.labeled_per_step)

    def total_steps(self, num_labeled: int) -> int:
        steps = self.steps_of("duration", num_labeled) * self.train_ratio
        return max(1, round(steps))


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    min_confidence: float = setting(
        0.3, "Smallest confidence of a pseudo-label that is kept, 0 to 1."
    )
    images_per_class: int = setting(
        0,
        "Pseudo-labeled examples a class: the most confident, or copies (130,000 in the "
        "paper); 0: unlabeled images / classes.",
    )
    selection: str = setting(
        "top_k",
        "Which images of a class: top_k, the most confident; uniform, any with enough "
        "confidence; reference, the published code's thresholds and lots; unchanged, "
        "those of a pseudo-labeled set that is labeled again, with their copies.",
    )
    filter: str = setting(
        "threshold", "threshold, by confidence, or none: every image may be kept."
    )
    balance: str = setting(
        "classes", "classes: the same number of examples in each; none: each image once."
    )
    max_confidence: float = setting(
        2.0,
        "Confidences from min_confidence to below this: a bucket of study 3. Above 1: no "
        "upper end.",
    )
    max_copies: int = setting(
        0, "Most copies of an image, however rare its class; 0: as many as it takes."
    )
    pool_fraction: float = setting(
        1.0, "Share of the unlabeled images that is used at all, drawn by id (study 2)."
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run of Noisy Student Training. `recipes` holds named ones."""

    data: DataConfig = DataConfig()
    augmentation: Augmentation = Augmentation()
    teacher: ModelConfig = ModelConfig()
    student: ModelConfig = ModelConfig()
    teacher_training: TrainingConfig = TrainingConfig()
    student_training: TrainingConfig = TrainingConfig(unlabeled_ratio=3.0)
    selection: SelectionConfig = SelectionConfig()
    generations: int = setting(2, "Students trained one after the other.")
    control: bool = setting(
        True, "Also train the student on the labels alone, to compare with."
    )
    stop_when_no_gain: bool = setting(
        False, "Stop when a student is no better than its teacher on validation data."
    )
    allow_smaller_student: bool = setting(
        False, "Allow a student with fewer parameters than its teacher."
    )
    student_init_from_teacher: bool = setting(
        False,
        "Start each student from its teacher's weights; in the paper from random ones.",
    )
    online_teacher: bool = setting(
        False,
        "Label each batch as the student trains: no stored labels, nothing selected.",
    )
    noised_teacher: bool = setting(
        False, "Label with training's noise on (table 6); the method has none."
    )
    calibrate: bool = setting(
        False,
        "Fit a temperature on the validation data, so that confidences of all teachers "
        "mean the same, and label with it.",
    )
    label_format: str = setting(
        "float32",
        "How the teacher's probabilities are stored: float32, float16, or top_K such as "
        "top_10: the K most probable classes. See docs/pseudo_labels.md.",
    )
    seed: int = setting(0, "Of every random draw of the run.")


def seed_of(seed: int, generation: int) -> int:
    """The seed of a generation's training: runs of other seeds share none of them."""
    return 1000 * seed + generation


def check(config: Config) -> None:
    """Refuses what cannot work, before any work is done.

    Raises:
        InputError: Names the setting, what was expected and what came.
    """
    for role in ("teacher", "student"):
        check_model(getattr(config, role), f"{role}_")
        check_training(getattr(config, f"{role}_training"), f"{role}_")
    check_selection(config.selection)
    _check_selection_of_run(config)
    _check_positive("generations", config.generations)
    _check_range("seed", config.seed, 0, math.inf)
    check_data(config.data)
    if config.stop_when_no_gain and not config.data.validation_data:
        raise InputError(
            "`stop_when_no_gain`: expected `validation_data` to measure the gain on; "
            "received none. The test data must not decide when to stop."
        )
    if config.student_training.unlabeled_ratio <= 0:
        raise InputError(
            "`unlabeled_ratio`: expected more than 0 for a student; received "
            f"{config.student_training.unlabeled_ratio}."
        )
    _check_frozen(config)
    _check_labeling(config)
    check_student_size(config.teacher, config.student, config.allow_smaller_student)


def _check_frozen(config: Config) -> None:
    """Layers can be frozen only where they do not start at random."""
    for role, has_weights in (
        ("teacher", False),
        ("student", config.student_init_from_teacher),
    ):
        blocks = getattr(config, f"{role}_training").frozen_blocks
        if blocks >= 0 and not has_weights:
            raise InputError(
                f"`{role}_frozen_blocks`: expected -1, since a {role} starts at random "
                f"weights here, which frozen layers would keep; received {blocks}. A "
                "student can start from its teacher: --student_init_from_teacher."
            )


def _check_labeling(config: Config) -> None:
    """An online teacher has no stored labels to select from, and no noise."""
    soft_labels.parse_format(config.label_format)
    if config.calibrate:
        _check_calibration(config)
    if not config.online_teacher:
        return
    if config.label_format != "float32":
        raise InputError(
            "`label_format`: expected its default with `online_teacher`, which stores no "
            f"labels; received {config.label_format!r}."
        )
    if config.noised_teacher:
        raise InputError(
            "`noised_teacher`: expected false with `online_teacher`, which has no noise; "
            "received true."
        )
    if config.data.dedup_by:
        raise InputError(
            "`dedup_by`: expected none with `online_teacher`, which learns from all "
            f"unlabeled images as they are; received {config.data.dedup_by!r}."
        )
    if config.selection != SelectionConfig():
        raise InputError(
            "`min_confidence`, `images_per_class`: expected their defaults with "
            f"`online_teacher`, which selects nothing; received {config.selection}."
        )


def _check_selection_of_run(config: Config) -> None:
    """A run has no earlier choice to keep."""
    if config.selection.selection == "unchanged":
        raise InputError(
            "`selection`: expected another than unchanged, which is for a balanced set "
            "that is labeled again (tpu_scripts.balance); received 'unchanged'."
        )


def _check_calibration(config: Config) -> None:
    """A temperature is fitted on validation data, for stored labels without noise."""
    if not config.data.validation_data:
        raise InputError(
            "`calibrate`: expected `validation_data` to fit the temperature on; received "
            "none. Training and test images must not decide it."
        )
    for other, reason in (
        ("online_teacher", "which stores no labels: use `student_softmax_temperature`"),
        ("noised_teacher", "since the temperature is fitted without noise"),
    ):
        if getattr(config, other):
            raise InputError(
                f"`calibrate`: expected false with `{other}`, {reason}; received true."
            )


def check_data(data: DataConfig) -> None:
    _check_range("num_shards", data.num_shards, 0, 99_999)
    if data.labels_per_class < 0:
        raise InputError(
            f"`labels_per_class`: expected 0 or more; received {data.labels_per_class}."
        )
    if bool(data.labels_per_class) == bool(data.unlabeled_data):
        came = "both" if data.unlabeled_data else "neither"
        raise InputError(
            "Unlabeled images: expected either `unlabeled_data`, or `labels_per_class` to "
            f"make unlabeled ones of the rest of `labeled_data`; received {came}."
        )
    if not data.test_data:
        _check_range("holdout_fraction", data.holdout_fraction, 0.01, 0.9)
    if data.dedup_by:
        _check_one_of("dedup_by", data.dedup_by, DEDUP_BY)


def check_model(model: ModelConfig, prefix: str = "") -> None:
    if not model.model_fn:
        try:
            efficientnet.get_variant(model.variant)
        except ValueError as error:
            raise InputError(str(error)) from error
    for name in ("width", "depth"):
        value = getattr(model, name)
        if value < 0:
            raise InputError(f"`{prefix}{name}`: expected 0 or more; received {value}.")
    if model.dropout_rate >= 1:
        raise InputError(
            f"`{prefix}dropout_rate`: expected less than 1; received {model.dropout_rate}."
        )
    _check_range(f"{prefix}stochastic_depth_rate", model.stochastic_depth_rate, 0, 0.99)
    _check_range(f"{prefix}batch_norm_momentum", model.batch_norm_momentum, 0, 0.99999)
    if model.batch_norm_group_size < -1:
        raise InputError(
            f"`{prefix}batch_norm_group_size`: expected a number of replicas, 0 (as "
            f"published) or -1 (all); received {model.batch_norm_group_size}."
        )
    if model.precision not in PRECISIONS:
        reason = ""
        if model.precision == "mixed_float16":
            reason = (
                " Its gradients underflow without loss scaling, which training does not "
                "have; mixed_bfloat16 needs none."
            )
        raise InputError(
            f"`{prefix}precision`: expected {' or '.join(PRECISIONS)}; received "
            f"{model.precision!r}.{reason}"
        )
    if model.resolution < 8:
        raise InputError(
            f"`{prefix}image_size`: expected 8 pixels or more; received {model.image_size}."
        )
    if model.model_fn:
        _check_own_model(model, prefix)


def _check_own_model(model: ModelConfig, prefix: str) -> None:
    if not model.image_size:
        raise InputError(
            f"`{prefix}image_size`: expected the side in pixels with `{prefix}model_fn`; "
            "received none. Only variants have one of their own."
        )
    if model.remat:
        raise InputError(
            f"`{prefix}remat`: expected false with `{prefix}model_fn`; received true. It "
            "is built into the variants' blocks: use tf.recompute_grad in the own model."
        )
    model.build(10, seed=0)  # Refuses what is no such model.


def check_training(training: TrainingConfig, prefix: str = "") -> None:
    for name in training.durations:
        length = duration.parse(getattr(training, name), prefix + name)
        if name != "warmup":
            _check_positive(prefix + name, length.number)
    positive = ("batch_size", "base_learning_rate", "train_ratio", "accumulation_steps")
    for name in positive:
        _check_positive(prefix + name, getattr(training, name))
    _check_positive(f"{prefix}softmax_temperature", training.softmax_temperature)
    _check_range(f"{prefix}label_smoothing", training.label_smoothing, 0, 0.999)
    _check_range(f"{prefix}ema_decay", training.ema_decay, 0, 0.9999999)
    _check_range(f"{prefix}frozen_blocks", training.frozen_blocks, -1, math.inf)
    for name in ("weight_decay", "unlabeled_ratio", "clip_gradient_norm"):
        _check_range(prefix + name, getattr(training, name), 0, math.inf)
    _check_range(
        f"{prefix}labeled_sample_probability", training.labeled_sample_probability, 1e-6, 1
    )
    _check_one_of(f"{prefix}loss_weighting", training.loss_weighting, LOSS_WEIGHTINGS)
    _check_one_of(f"{prefix}schedule", training.schedule, SCHEDULES)
    final, base = training.final_base_learning_rate, training.base_learning_rate
    if not 0 <= final < base:
        raise InputError(
            f"`{prefix}final_base_learning_rate`: expected 0 to below "
            f"`{prefix}base_learning_rate` ({base}); received {final}."
        )


def check_warmup(training: TrainingConfig, num_labeled: int, prefix: str = "") -> None:
    """Refuses a cosine schedule that has no steps after its warm-up.

    Args:
        training: Already through `check_training`.
        num_labeled: Labeled images.
        prefix: Of the setting's name, such as `teacher_`.
    """
    warmup, total = (
        training.steps_of("warmup", num_labeled),
        training.total_steps(num_labeled),
    )
    if training.schedule == "cosine" and int(warmup) >= total:
        raise InputError(
            f"`{prefix}warmup`: expected fewer than the {total:,} steps of the training "
            f"with a cosine schedule; received {training.warmup!r}, {int(warmup):,} steps "
            f"with {num_labeled:,} labeled images, {training.labeled_per_step:g} a step."
        )


def check_selection(selection: SelectionConfig) -> None:
    _check_range("min_confidence", selection.min_confidence, 0, 1)
    _check_range("max_copies", selection.max_copies, 0, 2**31)
    _check_range("pool_fraction", selection.pool_fraction, 1e-9, 1)
    _check_one_of("selection", selection.selection, SELECTIONS)
    _check_one_of("filter", selection.filter, ("threshold", "none"))
    _check_one_of("balance", selection.balance, ("classes", "none"))
    if selection.max_confidence <= selection.min_confidence:
        raise InputError(
            "`max_confidence`: expected more than `min_confidence` "
            f"({selection.min_confidence}); received {selection.max_confidence}."
        )
    _check_unused(selection)
    _check_range("images_per_class", selection.images_per_class, 0, 2**31)


def _check_unused(selection: SelectionConfig) -> None:
    """Refuses settings that another one leaves without effect."""
    without = []
    if selection.filter == "none":
        without.append(("filter=none", ("min_confidence", "max_confidence")))
    if selection.balance == "none":
        without.append(("balance=none", ("images_per_class", "max_copies", "selection")))
    if selection.selection == "unchanged":
        names = [field.name for field in dataclasses.fields(selection)]
        names.remove("selection")
        without.append(("selection=unchanged", names))
    defaults = SelectionConfig()
    for reason, names in without:
        for name in names:
            if getattr(selection, name) != getattr(defaults, name):
                raise InputError(
                    f"`{name}`: expected its default, {getattr(defaults, name)}, with "
                    f"{reason}, which has no use for it; received "
                    f"{getattr(selection, name)}."
                )


def check_student_size(teacher: ModelConfig, student: ModelConfig, allowed: bool) -> None:
    """The paper's rule: a student is as large as its teacher, or larger."""
    sizes = {}
    for role, model in (("teacher", teacher), ("student", student)):
        sizes[role] = parameter_count(model)
    if sizes["student"] < sizes["teacher"] and not allowed:
        raise InputError(
            f"Student: expected at least the teacher's {sizes['teacher']:,} parameters; "
            f"received {sizes['student']:,} ({student.architecture}). Choose a larger "
            "student, or pass --allow_smaller_student."
        )


def parameter_count(model: ModelConfig, num_classes: int = 1000) -> int:
    """Trainable parameters, counted without allocating them."""
    built = model.outline(num_classes)
    return sum(math.prod(variable.shape) for variable in built.trainable_variables)


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """`field: old -> new` for all that differs between two nested dicts."""
    lines = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            lines += differences(before, now, f"{prefix}{key}.")
        elif before != now:
            lines.append(f"{prefix}{key}: {before!r} -> {now!r}")
    return lines


def to_dict(config) -> dict:
    return dataclasses.asdict(config)


def from_dict(cls, values: dict):
    """The dataclass `cls` from what `to_dict` gave."""
    types = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"Unknown setting {unknown[0]!r} of {cls.__name__}.{hint} "
            "It may have been written by another version."
        )
    return cls(
        **{
            key: from_dict(types[key], value)
            if dataclasses.is_dataclass(types[key])
            else value
            for key, value in values.items()
        }
    )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        bounds = f"{low} or more" if high == math.inf else f"{low} to {high}"
        raise InputError(f"`{name}`: expected {bounds}; received {value}.")


def _check_one_of(name: str, value: str, choices) -> None:
    if value not in choices:
        raise InputError(f"`{name}`: expected {' or '.join(choices)}; received {value!r}.")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"`{name}`: expected more than 0; received {value}.")
