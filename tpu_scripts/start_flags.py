"""The flags that say from which weights, and from which seed, a training starts."""

from absl import flags

from data.errors import InputError
from noisy_student import config
from noisy_student.models import warm_start

flags.disclaim_key_flags()


def define() -> None:
    """Defines --init_from, --new_head, --seed and --generation."""
    flags.DEFINE_string(
        "init_from",
        "",
        "Directory of a model, as train or convert_checkpoint writes it, to start from; "
        "empty: start at random weights.",
    )
    flags.DEFINE_bool(
        "new_head",
        False,
        "With --init_from: start the classifier at random, for other classes.",
    )
    flags.DEFINE_integer("seed", None, "In place of the recipe's; 0 to 2,147,482.")
    flags.DEFINE_integer(
        "generation",
        None,
        "Which generation this is, 0 to 999: the training's seed is 1000 · seed + "
        "generation. By default 0 for a teacher, 1 for others.",
    )


def seed(recipe: config.Config, role: str) -> int:
    """Of this training: the flag's or the recipe's, and the generation's."""
    own = flags.FLAGS.seed
    return config.seed_of(recipe.seed if own is None else own, generation(role))


def generation(role: str) -> int:
    """The flag's, or the first one that the role has."""
    given = flags.FLAGS.generation
    if given is None:
        return 0 if role == "teacher" else 1
    return given


def training(recipe: config.Config, role: str) -> config.TrainingConfig:
    """The recipe's settings: of the teacher, of a control, or of this generation."""
    if role == "teacher":
        return recipe.teacher_training
    if role == "control":
        return recipe.student_training
    return recipe.training_of(generation(role))


def initial_weights() -> warm_start.InitialWeights | None:
    """What the flags name, or None."""
    directory, new_head = flags.FLAGS.init_from, flags.FLAGS.new_head
    if directory:
        return warm_start.initial_weights(directory, new_head)
    if new_head:
        raise InputError(
            "`new_head`: expected --init_from to name the model whose other layers are "
            "used; received none. Without it every layer starts at random."
        )
    return None
