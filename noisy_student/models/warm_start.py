"""Training that starts from a trained model's weights instead of random ones.

For fine-tuning, FixRes, and the paper's study of students that start from their
teacher. What is taken are the weights that the model directory holds, which are
averaged ones, and the batch-norm statistics; the optimizer starts anew.
"""

import dataclasses
from collections.abc import Sequence

import keras

from data.errors import InputError
from efficientnet.normalization import InputNormalization
from noisy_student.config import Config, ModelConfig
from noisy_student.models import model_files


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Where a training starts from.

    Attributes:
        directory: Of a model, as training or `convert_checkpoint` writes it.
        weights_sha256: Digest of its weights.
        new_head: Leave its classifier out: the new one starts at random.
    """

    directory: str
    weights_sha256: str
    new_head: bool = False

    def identity(self) -> dict:
        """Without the directory, which may move."""
        return {"weights_sha256": self.weights_sha256, "new_head": self.new_head}


def initial_weights(directory: str, new_head: bool = False) -> InitialWeights:
    """The weights that `directory` holds now.

    Raises:
        InputError: It holds no model.
    """
    info = model_files.load_info(directory, "init_from")
    return InitialWeights(directory, info.weights_sha256, new_head)


def start_from(
    initial: InitialWeights, network: keras.Model, class_names: Sequence[str]
) -> None:
    """Gives `network` the initial weights.

    Args:
        initial: Where they are.
        network: To change.
        class_names: Of the labeled data, by logit.

    Raises:
        InputError: The model has other layers or classes, or was changed since.
    """
    model = _checked_model(initial, network, class_names)
    pairs = zip(
        _variables(model, initial.new_head),
        _variables(network, initial.new_head),
        strict=True,
    )
    for theirs, ours in pairs:
        ours.assign(theirs.numpy())
    copy_pixel_scaling(model, network)


def check(initial: InitialWeights, config: ModelConfig, class_names: Sequence[str]) -> None:
    """Refuses what `start_from` would refuse, without making the network."""
    _checked_model(initial, config.outline(len(class_names)), class_names)


def check_same_layers(config: Config) -> None:
    """Refuses a student that cannot start from its teacher for want of equal layers."""
    teacher, student = config.teacher.outline(10), config.student.outline(10)
    difference = _first_difference(teacher.weights, student.weights)
    if difference:
        raise InputError(
            "`student_init_from_teacher`: expected a student with the layers of its "
            f"teacher; they differ first in {difference}, teacher's and student's. Give "
            "both the same variant, width and depth, or let the student start at random."
        )


def copy_pixel_scaling(source: keras.Model, target: keras.Model) -> None:
    """Mean and standard deviation of the pixels, which are no variables.

    Converted models can have others than those of their variant.
    """
    found = [each for each in source.layers if isinstance(each, InputNormalization)]
    for layer in target.layers:
        if isinstance(layer, InputNormalization) and found:
            layer.mean, layer.std = list(found[0].mean), list(found[0].std)


def _checked_model(
    initial: InitialWeights, network: keras.Model, class_names: Sequence[str]
) -> keras.Model:
    model, info = model_files.load_model(initial.directory)
    if info.weights_sha256 != initial.weights_sha256:
        raise InputError(
            f"`init_from` {initial.directory}: expected the weights that were there when "
            f"this training was set up ({initial.weights_sha256}); received "
            f"{info.weights_sha256}. Run the command again."
        )
    if not initial.new_head:
        _check_classes(initial.directory, info.class_names, list(class_names))
    difference = _first_difference(
        _variables(model, initial.new_head), _variables(network, initial.new_head)
    )
    if difference:
        raise InputError(
            "`init_from`: expected a model with the layers of the network to train; "
            f"{initial.directory} ({info.variant}) differs first in {difference}, there "
            "and here. Train the network that is there (--variant, --width, --depth, as "
            "it was made), or choose another model."
        )
    return model


def _check_classes(directory: str, theirs: list[str], ours: list[str]) -> None:
    remedy = "Pass --new_head to start from all layers but the classifier."
    if len(theirs) != len(ours):
        raise InputError(
            f"`init_from`: expected a classifier of the {len(ours)} classes of the labeled "
            f"data; {directory} has one of {len(theirs)}. {remedy}"
        )
    # A converted checkpoint may know no names.
    unnamed = [str(index) for index in range(len(theirs))]
    if theirs not in (ours, unnamed):
        index = next(
            i for i, pair in enumerate(zip(theirs, ours, strict=True)) if len({*pair}) > 1
        )
        raise InputError(
            f"`init_from`: expected the classes of the labeled data in their order; class "
            f"{index} is {ours[index]!r}, in {directory} {theirs[index]!r}. {remedy}"
        )


def _variables(network: keras.Model, without_head: bool) -> list:
    # Not network.variables, which has the states of random generators too.
    if not without_head:
        return network.weights
    head = [layer for layer in network.layers if layer.weights][-1]
    left_out = {id(variable) for variable in head.weights}
    return [v for v in network.weights if id(v) not in left_out]


def _first_difference(theirs: list, ours: list) -> str | None:
    """`layer X: kernel (1, 2) and kernel (3, 4)`, or None where all are alike."""
    for index in range(max(len(theirs), len(ours))):
        pair = [side[index] if index < len(side) else None for side in (theirs, ours)]
        described = [_described(variable) for variable in pair]
        shapes = [shape for _, shape in described]
        if shapes[0] != shapes[1]:
            layers = dict.fromkeys(layer for layer, _ in described if layer)
            shapes = " and ".join(shapes)
            return f"layer {' / '.join(layers)}: {shapes}"
    return None


def _described(variable: keras.Variable | None) -> tuple[str, str]:
    if variable is None:
        return "", "nothing"
    layer, _, name = variable.path.rpartition("/")
    return layer, f"{name} {tuple(variable.shape)}"
