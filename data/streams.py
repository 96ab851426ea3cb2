"""What a training stream is made from, and which part of it is whose."""

import dataclasses

from data import augmentation as aug
from data.errors import InputError
from data.records import RecordSet


@dataclasses.dataclass(frozen=True)
class HostShare:
    """This host's part of the input: host `index` of `count`.

    `replicas` of this host each take one batch a step.
    """

    index: int = 0
    count: int = 1
    replicas: int = 1


@dataclasses.dataclass(frozen=True)
class TeacherView:
    """How an online teacher sees an image: without noise, by its own size and crop.

    Attributes:
        image_size: Side in pixels, T.
        crop: One of `data.augmentation.CROPS`.
    """

    image_size: int
    crop: str


@dataclasses.dataclass(frozen=True)
class TrainingInput:
    """What one training stream of examples is made from.

    Attributes:
        examples: The records.
        image_size: Side of the images in pixels.
        augmentation: The input noise.
        seed: Together with epoch, record id and copy decides every draw.
        kind: What the records hold, see `data.records`: true labels (`labeled`),
            stored ones (`pseudo_labeled`), or none, for a teacher that labels
            them as training runs (`unlabeled`).
        teacher_view: How that teacher sees the images.
    """

    examples: RecordSet
    image_size: int
    augmentation: aug.Augmentation
    seed: int
    kind: str = "labeled"
    teacher_view: TeacherView | None = None


def check_not_empty(examples: RecordSet, name: str) -> None:
    """Refuses a set without examples, before training waits on it for ever."""
    if examples.num_examples < 1:
        raise InputError(
            f"`{name}`: expected at least one example in {examples.files[:1]}; received "
            "none. Name a set with examples: training would wait for ever for this one."
        )
