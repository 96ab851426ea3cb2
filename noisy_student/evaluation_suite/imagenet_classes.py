"""ImageNet's 1,000 classes, and the 200 of ImageNet-A; which models know them."""

import functools
import re

import numpy as np
import tensorflow as tf

from data.errors import InputError
from noisy_student.models.model_files import ModelInfo

NUM_CLASSES = 1000
# Of ImageNet-A (Hendrycks et al., arXiv 1907.07174), in the order of its folders.
_OF_A = """
6 11 13 15 17 22 23 27 30 37 39 42 47 50 57 70 71 76 79 89 90 94 96 97 99 105 107 108 110
113 124 125 130 132 143 144 150 151 207 234 235 254 277 283 287 291 295 298 301 306 307 308
309 310 311 313 314 315 317 319 323 324 326 327 330 334 335 336 347 361 363 372 378 386 397
400 401 402 404 407 411 416 417 420 425 428 430 437 438 445 456 457 461 462 470 472 483 486
488 492 496 514 516 528 530 539 542 543 549 552 557 561 562 569 572 573 575 579 589 606 607
609 614 626 627 640 641 642 643 658 668 677 682 684 687 701 704 719 736 746 749 752 758 763
765 768 773 774 776 779 780 786 792 797 802 803 804 813 815 820 823 831 833 835 839 845 847
850 859 862 870 879 880 888 890 897 900 907 913 924 932 933 934 937 943 945 947 951 954 956
957 959 971 972 980 981 984 986 987 988
"""


def imagenet_a_classes() -> np.ndarray:
    """The 200 labels that ImageNet-A has, ascending."""
    return np.array([int(label) for label in _OF_A.split()])


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
    """`n01440764` to `n15075141`, by label: they are in alphabetic order.

    From TensorFlow Datasets, which brings the list with it.
    """
    return tuple(_listed("labels.txt"))


@functools.cache
def validation_labels() -> dict[str, int]:
    """The labels of the 50,000 validation images by the names of their files."""
    numbers = {name: label for label, name in enumerate(wordnet_ids())}
    return {
        f"ILSVRC2012_val_{number:08d}.JPEG": numbers[name]
        for number, name in enumerate(_listed("validation_labels.txt"), 1)
    }


def _listed(name: str) -> list[str]:
    import tensorflow_datasets as tfds

    path = tfds.core.tfds_path(f"datasets/imagenet2012/{name}")
    with tf.io.gfile.GFile(str(path)) as file:
        return file.read().split()


def check_model(benchmark: str, info: ModelInfo) -> None:
    """Refuses a model whose logits are not ImageNet's classes in ImageNet's order.

    Names that are no WordNet ids, such as the numbers that a converted checkpoint has,
    say nothing of the order: it is taken for ImageNet's.

    Raises:
        InputError: It has another number of classes, or WordNet ids in another order.
    """
    names = info.class_names
    if len(names) != NUM_CLASSES:
        raise InputError(
            f"`on`: expected a model with ImageNet's {NUM_CLASSES:,} classes for "
            f"{benchmark}; received one with {len(names):,} ({', '.join(names[:3])}, …). "
            "For a model of other classes there are test, corruptions, stability, fgsm, "
            "pgd and calibration, with --data."
        )
    if all(re.fullmatch(r"n\d{8}", name) for name in names):
        pairs = enumerate(zip(names, wordnet_ids(), strict=True))
        other = next(((n, a, b) for n, (a, b) in pairs if a != b), None)
        if other:
            raise InputError(
                f"`on`: expected a model with ImageNet's classes in their order for "
                f"{benchmark}; received {other[1]} as class {other[0]}, which is "
                f"{other[2]}. Its labels mean something else."
            )
