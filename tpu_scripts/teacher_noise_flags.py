"""The flags that let a teacher label under noise, as the paper tried (table 6)."""

from absl import flags

from data.augmentation import Augmentation
from data.errors import InputError
from data.settings import from_dict
from noisy_student.labeling.labeling import TeacherNoise
from noisy_student.models.model_files import ModelInfo
from noisy_student.stages.manifest import training_record
from tpu_scripts import augmentation_flags

flags.disclaim_key_flags()


def define() -> None:
    """Defines --noised_teacher, --seed and the flags of the noise."""
    flags.DEFINE_bool(
        "noised_teacher",
        False,
        "Label with the noise of training on; the method has none.",
    )
    flags.DEFINE_integer("seed", 0, "Of the noise, with --noised_teacher.")
    augmentation_flags.define()


def noise(model: str, info: ModelInfo) -> TeacherNoise | None:
    """The noise that the flags ask for; None: the method's."""
    if not flags.FLAGS.noised_teacher:
        given = augmentation_flags.given()
        if flags.FLAGS["seed"].present:
            given.append("seed")
        if given:
            raise InputError(
                f"`{given[0]}`: expected only together with --noised_teacher; received it "
                "without. A teacher labels without noise: leave it out, or add "
                "--noised_teacher."
            )
        return None
    record = training_record(model, info.weights_sha256)
    if not record and not flags.FLAGS.augmentation:
        raise InputError(
            "`noised_teacher`: expected a teacher whose training is on record beside it, "
            f"or --augmentation to name the noise; received neither with {model}."
        )
    default = Augmentation()  # Not used: without a record the flags name the noise.
    if record:
        default = from_dict(Augmentation, record["identity"]["augmentation"])
    return TeacherNoise(augmentation_flags.augmentation(default), flags.FLAGS.seed)
