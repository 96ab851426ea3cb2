"""What there is to reproduce, and what it costs: tables, rows, arithmetic."""

from data.errors import InputError
from noisy_student import recipes
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.planning.cost import forward_cost
from noisy_student.recipes import Recipe, Table
from noisy_student.reproduction.baselines import KINDS
from noisy_student.tables import format_table

_PASSES = 3  # Of a training step: one forward, and a backward of twice the work.


def as_text(scale: str = "", names: list[str] | None = None) -> str:
    """Tables with their rows and the cost of each row alone.

    Args:
        scale: Empty: all.
        names: Of tables of this scale; empty: all.

    Raises:
        InputError: There is no such scale or table.
    """
    for name in names or []:
        if name not in recipes.tables(scale):
            raise InputError(
                f"`table`: expected one of {', '.join(recipes.tables(scale))}; received "
                f"{name!r}."
            )
    parts = []
    for each in [scale] if scale else recipes.scales():
        for table in recipes.tables(each).values():
            if names and table.name not in names:
                continue
            title = f"--scale={each} --table={table.name}: {table.title}"
            rows = [["row", "the paper's", "parameters", "images trained on", "FLOPs"]]
            rows += [_row(table, row) for row in table.rows]
            parts.append(f"{title}\n{format_table(rows)}")
    parts.append(
        "FLOPs: of all trainings and labelings that a row needs when it is run alone, two "
        "for each multiply-add, three forward passes for a training step; labeling of the "
        "images that may be kept; without FixRes. Rows share what they have in common, so "
        "that a table takes less than the sum.\n"
        "Other recipes: "
        + ", ".join(name for name in recipes.names() if not recipes.find(name).scale)
        + "."
    )
    return "\n\n".join(parts)


def _row(table: Table, recipe: Recipe) -> list[str]:
    numbers = table.paper_numbers(recipe)
    paper = " / ".join("?" if n.value is None else f"{n.value:g}" for n in numbers)
    if recipe.role in KINDS:
        return [recipe.row, paper, "", "", ""]
    model = _model_of(recipe)
    parameters, _ = forward_cost(model, recipe.num_classes)
    images, operations = cost(recipe)
    return [
        recipe.row,
        paper,
        f"{parameters / 1e6:.2f} M",
        f"{images:.3g}",
        _scaled(operations),
    ]


def _scaled(operations: float) -> str:
    """`6.4 E`: with the prefix of a power of a thousand."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if operations < 1000:
            return f"{operations:.3g} {prefix}"
        operations /= 1000
    return f"{operations:,.3g} Z"


def _model_of(recipe: Recipe) -> ModelConfig:
    return recipe.config.teacher if recipe.role == "teacher" else recipe.config.student


def cost(recipe: Recipe) -> tuple[float, float]:
    """Images trained on, and floating-point operations, of all that a row needs.

    Args:
        recipe: One that knows how many images its data has.
    """
    config, count = recipe.config, recipe.labeled_images
    images, adds = 0.0, 0.0

    def add(model: ModelConfig, training: TrainingConfig, pseudo: bool) -> None:
        nonlocal images, adds
        step = training.batch_size + (training.pseudo_batch_size if pseudo else 0)
        seen = training.total_steps(count) * step
        images += seen
        adds += _PASSES * seen * forward_cost(model, recipe.num_classes)[1]

    if recipe.role == "control":
        add(config.student, config.student_training, pseudo=False)
        return images, 2 * adds
    if recipe.teacher_recipe:
        before, operations = cost(recipes.find(recipe.teacher_recipe))
        images, adds = before, operations / 2
    else:
        add(config.teacher, config.teacher_training, pseudo=False)
    labeler = config.teacher
    if recipe.role != "teacher":
        for generation in range(1, config.generations + 1):
            labeling = forward_cost(labeler, recipe.num_classes)[1]
            adds += recipe.unlabeled_images * labeling
            add(config.student, config.training_of(generation), pseudo=True)
            labeler = config.student
    if recipe.role == "fine_tuned":
        add(config.student, config.teacher_training, pseudo=False)
    return images, 2 * adds
