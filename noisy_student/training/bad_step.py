"""The first step whose loss is not finite: found on the device, told with its records."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import tensorflow as tf

from data import files
from noisy_student.strategy import is_chief

if TYPE_CHECKING:  # It imports this module.
    from noisy_student.training.train_step import NoisyStudentTrainer

BAD_STEP = "bad_step.json"
_NAMED = 20  # Records of each kind that the message names.


class NotFinite(FloatingPointError):
    """A loss, or a weight after it, became NaN or infinite.

    Attributes:
        step: The first such step, counted from 1.
        learning_rate: Of that step.
        what: `loss`, or `weights` where the losses are still finite.
    """

    def __init__(self, step: int, learning_rate: float, what: str):
        super().__init__(f"Not finite at step {step}: {what}.")
        self.step, self.learning_rate, self.what = step, learning_rate, what


class FirstBadStep:
    """The first bad step since the last look, kept on the devices.

    A loss can be bad on one replica alone, one step before the others. There is no
    aggregation by minimum: each replica has a place of its own in a sum.

    Args:
        replicas: Of all workers.
    """

    def __init__(self, replicas: int):
        self._replicas = replicas
        self._steps = tf.Variable(  # 0: none. Exact up to step 2^24.
            tf.zeros([replicas]),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    def look(self, finite: tf.Tensor, step: tf.Tensor) -> None:
        """Called on each replica: `finite` is what it found after `step` steps."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        own = tf.one_hot(replica, self._replicas, on_value=True, off_value=False)
        before = self._steps.read_value()
        first = own & tf.equal(before, 0.0) & tf.logical_not(finite)
        self._steps.assign(tf.where(first, tf.cast(step, tf.float32), before))

    def take(self) -> int:
        """The first bad step of any replica, 0 if there was none; starts again."""
        steps = self._steps.numpy()
        self._steps.assign(tf.zeros([self._replicas]))
        return int(min(steps[steps > 0], default=0))


def all_finite(variables: Iterable[tf.Variable]) -> tf.Tensor:
    """Whether no number in any of the floating-point variables is NaN or infinite."""
    numbers = [v for v in variables if v.dtype.is_floating]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in numbers])


@contextlib.contextmanager
def explained(trainer: "NoisyStudentTrainer", directory: str) -> Iterator[None]:
    """Adds to `NotFinite` the records of that step; all of them go to `bad_step.json`.

    Args:
        trainer: Knows what it read.
        directory: Of the training.
    """
    try:
        yield
    except NotFinite as error:
        raise FloatingPointError(_explanation(error, trainer, directory)) from error


def _explanation(error: NotFinite, trainer: "NoisyStudentTrainer", directory: str) -> str:
    found = f"The first loss that is not finite is that of step {error.step}"
    if error.what == "weights":
        found = f"The losses are finite, but not the weights after step {error.step}"
    return (
        f"{found}, at learning rate {error.learning_rate:.3g}. The last "
        "checkpoint is from before, and the same command would come to the same step: "
        "lower base_learning_rate, lengthen warmup, or mend the records, in a new "
        f"directory.\n{_records(error, trainer, directory)}"
    )


def _records(error: NotFinite, trainer: "NoisyStudentTrainer", directory: str) -> str:
    by_kind = trainer.data.records_of(error.step)
    if by_kind is None:
        return (
            "Which records the step had is not known: a data service deals them out as "
            "its workers are ready. Train without --data_service to know."
        )
    lines = [f"Records of step {error.step}:"]
    for kind, found in by_kind.items():
        names = ", ".join(record["id"] for record in found[:_NAMED])
        rest = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        lines.append(f"  {kind}: {names}{rest}")
    if is_chief(trainer.strategy):
        path = os.path.join(directory, BAD_STEP)
        what = {"learning_rate": error.learning_rate, "not_finite": error.what}
        files.write_json(path, {"step": error.step, **what, "records": by_kind})
        lines.append(f"All of them, with file and position: {path}")
    return "\n".join(lines)
