"""What a training will do and need, said before anything is done: `--dry_run`.

Counts come from the data sets as they are listed, costs from the networks' graphs
(`cost.py`), hours from a speed in images a second. Of a whole run: `run_plan.py`.
"""

import dataclasses

import tensorflow as tf

from data.records import RecordSet
from noisy_student.planning.cost import NetworkCost, network_cost
from noisy_student.preparation import preparation
from noisy_student.training.job import TrainingJob

_PASSES = 3  # Of a training step: one forward, and a backward of twice the work.
_INPUT_BATCHES = 2  # One that is trained on, and one that waits.


@dataclasses.dataclass(frozen=True)
class PlannedSet:
    """A set of images.

    Attributes:
        name: Such as `unlabeled`.
        images: How many.
        shards: How many files they are in, or will be.
        bytes: Of these files, about; None where it is not known.
        written: Whether the files are there already.
    """

    name: str
    images: int
    shards: int
    bytes: int | None
    written: bool


@dataclasses.dataclass(frozen=True)
class PlannedTraining:
    """One network's training.

    Attributes:
        name: Such as `student`.
        job: What is trained on what.
        replicas: Which share every batch.
        times: How often it comes in the run, with other pseudo-labels.
        labeler: Multiply-adds of an online teacher for an image; 0: none.
    """

    name: str
    job: TrainingJob
    replicas: int
    times: int = 1
    labeler: float = 0.0

    @property
    def rows(self) -> int:
        """Images that are in memory together on one replica."""
        settings = self.job.training
        return -(-self.job.images_per_step // (self.replicas * settings.accumulation_steps))

    @property
    def cost(self) -> NetworkCost:
        job = self.job
        classes, frozen = job.labeled.num_classes, job.training.frozen_blocks
        return network_cost(job.model, classes, self.rows, frozen)

    @property
    def images(self) -> int:
        """Seen in one training, repeats counted."""
        return self.job.total_steps * self.job.images_per_step

    @property
    def multiply_adds(self) -> float:
        """Of one training."""
        labeled_online = self.job.total_steps * self.job.pseudo_batch_size
        own = _PASSES * self.cost.multiply_adds
        return self.images * own + labeled_online * self.labeler

    @property
    def memory(self) -> int:
        """Bytes on a replica: state, one pass, input; sums of gradients over parts."""
        parts = self.job.training.accumulation_steps
        image = 3 * self.job.model.resolution**2
        inputs = _INPUT_BATCHES * self.rows * parts * image
        sums = 4 * self.cost.parameters if parts > 1 else 0
        return self.cost.state_bytes + self.cost.step_bytes + inputs + sums


@dataclasses.dataclass(frozen=True)
class PlannedLabeling:
    """The unlabeled images through the network of a training, `times` times.

    `prediction_bytes` and `pseudo_labeled_bytes` are what one time writes, the
    second at most: if every image is kept.
    """

    images: int
    network: PlannedTraining
    times: int
    prediction_bytes: int
    pseudo_labeled_bytes: int

    @property
    def multiply_adds(self) -> float:
        """Of one time."""
        return self.images * self.network.cost.multiply_adds


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will do: its sets of images, and the work on them.

    Attributes:
        sets: Read, or written first.
        trainings: Teacher, student, control; a speed that is given is the first one's.
        labelings: Of the unlabeled images, by each teacher.
    """

    sets: list[PlannedSet]
    trainings: list[PlannedTraining]
    labelings: list[PlannedLabeling]

    def hours(
        self, part: PlannedTraining | PlannedLabeling, speeds: dict[str, float]
    ) -> float | None:
        """Of a training or labeling, once; None where no speed is known.

        multiply-adds of the part / (images/s · multiply-adds an image of the training
        that the speed was seen at): its network's own one, or the first one's.

        Args:
            part: One of the plan's.
            speeds: Images a second by name of a training.
        """
        own = part.network if isinstance(part, PlannedLabeling) else part
        known = [each for each in (own, *self.trainings) if each.name in speeds]
        if not known:
            return None
        seen = known[0]
        per_second = speeds[seen.name] * seen.multiply_adds / seen.images
        return part.multiply_adds / per_second / 3600


def of_training(
    name: str, job: TrainingJob, strategy: tf.distribute.Strategy, labeler: float = 0.0
) -> Plan:
    """The plan of one training.

    Args:
        name: Of the training.
        job: Its sets may be `preparation.unwritten` ones.
        strategy: Where it will compute.
        labeler: Multiply-adds of an online teacher for an image.
    """
    sets = [set_of("labeled", job.labeled)]
    if job.pseudo_labeled:
        kind = "unlabeled" if job.online_teacher else "pseudo-labeled"
        sets.append(set_of(kind, job.pseudo_labeled))
    replicas = strategy.num_replicas_in_sync
    return Plan(sets, [PlannedTraining(name, job, replicas, labeler=labeler)], [])


def set_of(name: str, examples: RecordSet) -> PlannedSet:
    """A set as it is, or as it will be written: then without its size."""
    count = examples.num_examples
    if not examples.files:
        shards = preparation.num_shards(count)
        return PlannedSet(name, count, shards, None, written=False)
    size = sum(tf.io.gfile.stat(path).length for path in examples.files)
    return PlannedSet(name, count, len(examples.files), size, written=True)
