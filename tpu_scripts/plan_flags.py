"""The flags that ask what a run would do: --dry_run."""

from collections.abc import Callable

import tensorflow as tf
from absl import flags

from data.errors import InputError
from noisy_student.models import model_files
from noisy_student.planning import measurement, plan, plan_text
from noisy_student.planning.cost import multiply_adds
from noisy_student.training.job import TrainingJob
from noisy_student.training.training import check_job
from noisy_student.training.training_loop import LoopOptions

flags.disclaim_key_flags()


def define() -> None:
    """Defines --dry_run, --measure and --images_per_second."""
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Say what would be done, on how many images, with how much memory and disk, and "
        "how long it would take; do and write nothing.",
    )
    flags.DEFINE_bool(
        "measure",
        False,
        "With --dry_run: train ten steps to know the speed. Writes the shards of images "
        "that training needs, if they are not there, and keeps them.",
    )
    flags.DEFINE_float(
        "images_per_second",
        None,
        "With --dry_run: images a second that the first network is trained on.",
        lower_bound=1e-9,
    )


def dry_run() -> bool:
    """Whether to plan alone; checks that the other two flags go with it."""
    given = [n for n in ("measure", "images_per_second") if flags.FLAGS[n].value]
    if given and not flags.FLAGS.dry_run:
        raise InputError(
            f"`{given[0]}`: expected only together with --dry_run; received it without. "
            "Add --dry_run, or leave it out."
        )
    if len(given) == 2:
        raise InputError(
            "`images_per_second`: expected none with --measure, which finds it; received "
            f"{flags.FLAGS.images_per_second}."
        )
    return flags.FLAGS.dry_run


def show_training(
    name: str, job: TrainingJob, strategy: tf.distribute.Strategy, options: LoopOptions
) -> None:
    """Checks and plans one training."""
    check_job(job, strategy)
    labeler = 0.0
    if job.online_teacher:
        teacher, info = model_files.load_model(job.online_teacher)
        labeler = multiply_adds(teacher, info.image_size)
    show(
        plan.of_training(name, job, strategy, labeler),
        lambda: {name: measurement.images_per_second(job, strategy)},
        options,
    )


def show(
    planned: plan.Plan, measure: Callable[[], dict[str, float]], options: LoopOptions
) -> None:
    """Prints the plan.

    Args:
        planned: What to show.
        measure: Called with --measure: images a second by name of a training.
        options: Which checkpoints are kept.
    """
    speeds = {}
    if flags.FLAGS.measure:
        speeds = measure()
    elif flags.FLAGS.images_per_second:
        speeds = {planned.trainings[0].name: flags.FLAGS.images_per_second}
    print(plan_text.as_text(planned, speeds, options))
    print("Dry run: nothing was trained.")
