"""A network: which one, its size, noise and precision."""

import dataclasses
import functools
import math

import keras

import efficientnet
from data.errors import InputError
from data.settings import setting
from noisy_student import own_model
from noisy_student.config.ranges import check_range

PRECISIONS = ("float32", "mixed_bfloat16")
# Mean and standard deviation by channel, 0 to 1; of the published code's `task_info.py`.
PIXEL_STATISTICS: dict[str, tuple[list[float], list[float]] | None] = {
    "": None,
    "svhn": (
        [0.4376821, 0.4437697, 0.47280442],
        [0.19803012, 0.20101562, 0.19703614],
    ),
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One network: a scaled EfficientNet, or a Keras model of the user's."""

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
    pixel_statistics: str = setting(
        "",
        "Mean and deviation that pixels are normalized by: svhn, or empty: the variant's, "
        "which are ImageNet's.",
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
        "float32", "float32, or mixed_bfloat16: 16-bit arithmetic, for TPUs and newer GPUs."
    )
    remat: bool = setting(
        False, "Recompute activations in the backward pass: less memory, more work."
    )

    @property
    def architecture(self) -> str:
        """The variant's name, or `module:function` of an own model."""
        return self.model_fn or self.variant

    @property
    def resolution(self) -> int:
        """Side of the images in pixels: `image_size`, or the variant's."""
        return self.image_size or efficientnet.get_variant(self.variant).resolution

    def build(self, num_classes: int, seed: int | None = None) -> keras.Model:
        """The Keras model, weights drawn from `seed`."""
        if self.model_fn:
            return own_model.build(
                self.model_fn, num_classes, self.image_size, self.precision, seed
            )
        mean, std = PIXEL_STATISTICS[self.pixel_statistics] or (None, None)
        return efficientnet.build_efficientnet(
            self.variant,
            mean=mean,
            std=std,
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

    def outline(self, num_classes: int) -> keras.Model:
        """The Keras model without values: its layers and shapes take no memory.

        An own model has its values: its function may load some.
        """
        if self.model_fn:
            return self.build(num_classes, seed=0)
        with efficientnet.without_values():
            return self.build(num_classes)


def check_model(model: ModelConfig, prefix: str = "") -> None:
    """Refuses a network that cannot be built; builds an own model to see.

    Args:
        model: The settings.
        prefix: Of their names in messages, such as `teacher_`.

    Raises:
        InputError: Names the setting, what was expected and what came.
    """
    if not model.model_fn:
        try:
            efficientnet.get_variant(model.variant)
        except ValueError as error:
            raise InputError(str(error)) from error
    for name in ("width", "depth"):
        value = getattr(model, name)
        if value < 0:
            raise InputError(f"`{prefix}{name}`: expected 0 or more; received {value}.")
    if model.pixel_statistics not in PIXEL_STATISTICS:
        raise InputError(
            f"`{prefix}pixel_statistics`: expected svhn, or none for the variant's; "
            f"received {model.pixel_statistics!r}."
        )
    if model.dropout_rate >= 1:
        raise InputError(
            f"`{prefix}dropout_rate`: expected less than 1; received {model.dropout_rate}."
        )
    check_range(f"{prefix}stochastic_depth_rate", model.stochastic_depth_rate, 0, 0.99)
    check_range(f"{prefix}batch_norm_momentum", model.batch_norm_momentum, 0, 0.99999)
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


@functools.lru_cache(maxsize=64)
def parameter_count(model: ModelConfig, num_classes: int = 1000) -> int:
    """Trainable parameters, counted without allocating them."""
    built = model.outline(num_classes)
    return sum(math.prod(variable.shape) for variable in built.trainable_variables)
