"""A recipe: a named configuration, and which number of the paper it is for."""

import dataclasses
from collections.abc import Mapping

from noisy_student.config import Config

NOT_PUBLISHED = "not published"
ROLES = ("teacher", "control", "student", "fine_tuned", "rbf_svm", "random_forest")


@dataclasses.dataclass(frozen=True)
class PaperNumber:
    """A number of the paper, which the recipe's model should have.

    At other scales than ImageNet: the number of the same row, to compare patterns.

    Attributes:
        metric: Such as `top_1`, in percent.
        value: As printed; None: no source gives it.
        cell: Of docs/paper_tables.json, `table/row/column`.
    """

    metric: str
    value: float | None
    cell: str


@dataclasses.dataclass(frozen=True)
class FixRes:
    """The fine-tuning at a larger image size that follows the last training (§3.1)."""

    image_size: int
    duration: str = "1.5 epochs"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One model: the configuration of the run that it comes out of, and which one it is.

    Attributes:
        name: What scripts take, such as `imagenet-b4-student`: the scale, and the row.
        summary: What it is, in a sentence.
        config: Of the run.
        role: Which model of the run: the `teacher`, the `control`, the last `student`,
            or `fine_tuned`, that student trained on, on labels alone, as long as a
            teacher. `rbf_svm` and `random_forest` are scikit-learn's, on the same labels.
        paper: The paper's numbers of this row; on ImageNet, whatever the scale.
        source: Where the settings come from.
        differs: In what this is not what the paper did, sentence by sentence.
        teacher_recipe: Whose model is the first teacher, in place of one trained on
            the labels by `config.teacher`.
        fixres: What follows the last training; None: nothing.
        labeled_images: Of the recipe's data set; 0: the user's.
        unlabeled_images: The same; distinct ones that may be kept.
        num_classes: Of the data set.
        hardware: That the paper's number was trained on, and how long (`cost`).
        cost: See `hardware`.
        benchmarks: Of `evaluation_suite`, run on the model beside accuracy.
        scale: Of the tables that it is a row of; empty: of none.
    """

    name: str
    summary: str
    config: Config
    role: str = "student"
    paper: tuple[PaperNumber, ...] = ()
    source: str = ""
    differs: tuple[str, ...] = ()
    teacher_recipe: str = ""
    fixres: FixRes | None = None
    labeled_images: int = 0
    unlabeled_images: int = 0
    num_classes: int = 10
    hardware: str = NOT_PUBLISHED
    cost: str = NOT_PUBLISHED
    benchmarks: tuple[str, ...] = ()
    scale: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"{self.name}: unknown role {self.role!r}.")

    @property
    def row(self) -> str:
        """The name without its scale: the row's, at every scale."""
        return self.name.removeprefix(f"{self.scale}-")

    @property
    def is_whole_run(self) -> bool:
        """Whether `iterate` ends with this model."""
        return self.role == "student" and not (self.teacher_recipe or self.fixres)

    @property
    def command(self) -> str:
        """What makes the model."""
        if self.is_whole_run:
            return (
                f"python -m tpu_scripts.iterate --recipe={self.name} "
                f"--work_dir=runs/{self.name}"
            )
        return (
            f"python -m tpu_scripts.reproduce --recipes={self.name} --seeds=1 "
            "--work_dir=runs/tables"
        )

    def opening(self) -> str:
        """Summary, command, source, expected numbers, hardware and cost, as text."""
        lines = [self.summary, "", f"    {self.command}", ""]
        for each in self.paper:
            value = "no number is published" if each.value is None else f"{each.value:g} %"
            lines.append(f"In the paper: {each.metric} {value} ({each.cell}).")
        if self.source:
            lines.append(f"Settings: {self.source}.")
        lines += [f"Differs: {text}" for text in self.differs]
        lines.append(f"Hardware: {self.hardware}. Cost: {self.cost}.")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of the paper about two rows: one is better.

    Attributes:
        text: The sentence, in our words.
        better: Row that is better if the claim holds.
        worse: The other row.
        metric: Path in a row's results, such as `test_top_1` or
            `benchmarks/corruptions/error`; smaller is better where it says `error`.
    """

    text: str
    better: str
    worse: str
    metric: str = "test_top_1"

    @classmethod
    def between(
        cls, text: str, better: Recipe, worse: Recipe, metric: str = "test_top_1"
    ) -> "Claim":
        """The claim that one recipe's row is better than another's."""
        return cls(text, better.row, worse.row, metric)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table or study of the paper at a scale.

    Attributes:
        name: What `--table` takes, such as `6` or `study_3`.
        title: What it shows, and where it stands in the paper.
        rows: In the paper's order.
        claims: What the paper says of them.
        metrics: What is shown of a row, see `Claim.metric`.
        paper: The paper's numbers of rows that have none of their own, by row.
    """

    name: str
    title: str
    rows: tuple[Recipe, ...]
    claims: tuple[Claim, ...] = ()
    metrics: tuple[str, ...] = ("test_top_1",)
    paper: Mapping[str, tuple[PaperNumber, ...]] = dataclasses.field(default_factory=dict)

    def paper_numbers(self, row: Recipe) -> tuple[PaperNumber, ...]:
        """What the paper has in this row of this table."""
        return self.paper.get(row.row, row.paper)
