"""What a benchmark is: parts that are run one by one, and what is made of their rows."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.outcomes import Table


@dataclasses.dataclass(frozen=True)
class BenchmarkData:
    """What a benchmark is run on.

    Attributes:
        dataset: What a user named it by, such as `folder:imagenet-a`.
        fingerprint: Tells its images from others.
        skipped_records: Bad records of a user's own set that were left out.
        missing: What the whole benchmark has and this data lacks, in words; empty: it
            is whole.
    """

    dataset: str
    fingerprint: str
    missing: tuple[str, ...] = ()
    skipped_records: int = 0


@dataclasses.dataclass(frozen=True)
class Finished:
    """A benchmark all parts of which were run on a model.

    Attributes:
        tables: Rows by part.
        scores: Of each image, as `Benchmark.scores` gives them.
        class_names: The model's, by label.
        clean_error: The model's top-1 error on all of ImageNet's validation images, 0 to
            1, if the benchmark `imagenet` was run before.
    """

    tables: Mapping[str, Table]
    scores: Table
    class_names: Sequence[str]
    clean_error: float | None = None


class Benchmark(abc.ABC):
    """One name of `--on`.

    Attributes:
        name: Such as `imagenet_c`.
        data: What it is run on.
        parts: Names of what is run and kept one by one; files are named by them.
        settings: JSON values that decide the result, beside the data.
    """

    name: str
    data: BenchmarkData
    parts: tuple[str, ...]
    settings: dict

    @abc.abstractmethod
    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        """Rows of a part; one pass over its images.

        Args:
            part: One of `parts`.
            model: What is evaluated.
            title: Of the line of progress.

        Raises:
            InputError: An image cannot be read.
        """

    @abc.abstractmethod
    def scores(self, tables: Mapping[str, Table]) -> Table:
        """Numbers of each image, of which the result's are means.

        Args:
            tables: Rows by part.

        Returns:
            `id` and float columns; NaN where an image has no such number.
        """

    @abc.abstractmethod
    def results(self, done: Finished) -> dict:
        """JSON values: means of the scores, and what else there is to say."""

    @abc.abstractmethod
    def draw(self, done: Finished, path: str) -> None:
        """Writes a PNG to look at, if there is something to see."""


def means(scores: Table) -> dict[str, float]:
    """The mean of each column, over the images that have a number in it."""
    return {
        name: float(np.nanmean(values)) for name, values in scores.items() if name != "id"
    }
