"""One row of a table with one seed: from data to the numbers of its model.

Rows share what they have in common: each stage's directory is named by what decides its
output (`places.Shared`), so that one teacher, one labeling, one choice of pseudo-labels
serves all rows of a seed, in whatever order they run.
"""

import dataclasses
import os
import time

import tensorflow as tf

from noisy_student import recipes
from noisy_student.evaluation.evaluation import BATCH_SIZE
from noisy_student.evaluation_suite import registry, suite
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.registry import BenchmarkOptions
from noisy_student.iteration.checks import check_run
from noisy_student.iteration.places import Shared
from noisy_student.iteration.run import Run
from noisy_student.preparation.preparation import prepare_set
from noisy_student.recipes import Recipe
from noisy_student.reproduction import baselines
from noisy_student.stages import manifest
from noisy_student.stages.code_version import code_version
from noisy_student.training.training_loop import LoopOptions

BENCHMARKED_IMAGES = 1_000  # Of the test images, drawn once for all rows and seeds.


@dataclasses.dataclass(frozen=True)
class Laboratory:
    """Where rows are run.

    Attributes:
        work_dir: Models, labels and images of all rows, by seed.
        strategy: Where to compute.
        options: Of each training.
    """

    work_dir: str
    strategy: tf.distribute.Strategy
    options: LoopOptions = LoopOptions()


def run_row(recipe: Recipe, seed: int, laboratory: Laboratory) -> dict:
    """Makes what is missing of the row's model, and measures it.

    Args:
        recipe: The row.
        seed: Of the run.
        laboratory: Where.

    Returns:
        `test_top_1` and, where there is validation data, `validation_top_1`, 0 to 1;
        of a network also `test_top_5`, `parameters`, `steps`, `pseudo_labels` (of the
        last generation, docs/summary.md), `benchmarks` (by name, what each found), and
        `created`, `code_version` and `timing`: `seconds` of this call, which finds what
        other rows have made, and hours of the trainings of this row's own run.
    """
    began = time.monotonic()
    run = _run(recipe, seed, laboratory)
    if recipe.role in baselines.KINDS:
        found = baselines.measured(recipe.role, run.data)
    else:
        model = _model(recipe, run, seed, laboratory)
        generation = recipe.config.generations if recipe.role == "student" else 0
        found = run.measured(generation, recipe.role, model)
        found["benchmarks"] = _benchmarked(recipe, model, run, laboratory)
        found["timing"] = {"training_device_hours": run.device_hours}
    seconds = round(time.monotonic() - began, 1)
    found["timing"] = {**found.get("timing", {}), "seconds": seconds}
    return {**found, "created": manifest.now(), "code_version": code_version()}


def _run(recipe: Recipe, seed: int, laboratory: Laboratory) -> Run:
    config = dataclasses.replace(recipe.config, seed=seed)
    check_run(config, laboratory.strategy, laboratory.options)
    places = Shared(os.path.join(laboratory.work_dir, f"seed_{seed}"))
    run = Run(config, places, laboratory.strategy, laboratory.options)
    run.prepare()
    return run


def _model(recipe: Recipe, run: Run, seed: int, laboratory: Laboratory) -> str:
    """Directory of the row's model."""
    if recipe.role == "control" and not recipe.config.student_init_from_teacher:
        return run.train_control("")  # It needs no teacher.
    if recipe.teacher_recipe:
        first = recipes.find(recipe.teacher_recipe)
        teacher = _model(first, _run(first, seed, laboratory), seed, laboratory)
    else:
        teacher = run.train_teacher()
    if recipe.role == "control":
        return run.train_control(teacher)
    if recipe.role != "teacher":
        for generation in range(1, recipe.config.generations + 1):
            pseudo_labeled = run.pseudo_label(generation, teacher)
            teacher = run.train_student(generation, pseudo_labeled, teacher)
    if recipe.role == "fine_tuned":
        teacher = run.fine_tune(teacher)
    if recipe.fixres:
        return run.fixres(teacher, recipe.fixres.image_size, recipe.fixres.duration)
    return teacher


def _benchmarked(recipe: Recipe, model: str, run: Run, laboratory: Laboratory) -> dict:
    """What each benchmark of the recipe says of the model, by name."""
    if not recipe.benchmarks:
        return {}
    data = recipe.config.data
    # A run's own test shards are in the order of its seed: a sample would be another.
    examples = prepare_set(
        data.test_data,
        run.place("test_data", dataclasses.asdict(data)),
        class_names=run.data.labeled.class_names,
        label_offset=data.label_offset,
        skip_bad_records=data.skip_bad_records,
        argument="test_data",
    )
    options = BenchmarkOptions(
        sample=min(BENCHMARKED_IMAGES, examples.num_examples),
        corrupted_dir=run.place("corrupted", examples.fingerprint()),
    )
    evaluated = EvaluatedModel(model, laboratory.strategy, BATCH_SIZE)
    found = {}
    for name in recipe.benchmarks:
        benchmark = registry.open_own(name, data.test_data, examples, options)
        output = os.path.join(model, "evaluation")
        report = suite.run(benchmark, evaluated, output, ["tpu_scripts.reproduce"])
        found[name] = report["results"]
    return found
