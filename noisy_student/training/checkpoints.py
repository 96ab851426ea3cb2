"""Checkpoints of a training: only whole ones are restored, and none is left half.

A machine that goes down may leave files cut off or empty, which
`tf.train.CheckpointManager` would restore, or fail on, without looking. Here
all of a checkpoint is read first; its format holds a checksum of every tensor.
"""

import errno
import os
import re
from collections.abc import Collection
from typing import Any

import tensorflow as tf

from data import files, full_disk
from data.errors import InputError
from data.storage_errors import PASSING, StorageErrors

CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
_STATE = "checkpoint"  # The manager's list of its checkpoints.


class Checkpoints(tf.train.CheckpointManager):
    """Numbered by step, `checkpoints/ckpt-40`; damaged newer ones are set aside.

    Args:
        checkpoint: What is saved and restored.
        directory: Of the training; `checkpoints/` is made in it.
        step: Variable that counts the steps.
        interval: Steps between two checkpoints.
        keep: How many are kept.

    Raises:
        InputError: There are checkpoints, but none that can be restored. On
            saving: the disk is full; earlier checkpoints are as they were.
    """

    def __init__(
        self,
        checkpoint: tf.train.Checkpoint,
        directory: str,
        step: tf.Variable,
        interval: int,
        keep: int,
    ):
        directory = os.path.join(directory, CHECKPOINTS)
        _set_aside_damaged(directory)
        super().__init__(
            checkpoint,
            directory,
            max_to_keep=keep,
            step_counter=step,
            checkpoint_interval=interval,
        )

    def restore_or_initialize(self) -> str | None:
        """Restores the newest checkpoint, if there is one; returns its path.

        TensorFlow's own leaves what it does not find as it is, without a word.
        """
        if self.latest_checkpoint is None:
            return super().restore_or_initialize()
        restore(self.checkpoint, self.latest_checkpoint)
        self._last_checkpoint_step = int(self._step_counter.numpy())
        return self.latest_checkpoint

    def save(self, *args: Any, **options: Any) -> str:
        what = f"the checkpoint of step {int(self._step_counter.numpy())}"
        try:
            with full_disk.explained(self.directory, what):
                return super().save(*args, **options)
        except BaseException:
            _remove_unfinished(self.directory)
            raise


def restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Restores every value that `checkpoint` has.

    Raises:
        InputError: The file at `path` lacks one, or has it in another shape.
    """
    try:
        checkpoint.restore(path).assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        problem = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path}: expected a checkpoint of this network, optimizer and average; "
            f"{problem} It comes from another version of the code, which the manifest.json "
            "of the training names: go on with that one, or delete the training's "
            "directory to start anew."
        ) from error


def newest_whole(directory: str) -> tuple[str | None, dict[str, str]]:
    """The newest checkpoint that can be restored, None where there is none at all.

    Args:
        directory: That of the checkpoints. Nothing in it is changed.

    Returns:
        Its path, and by path what is wrong with newer ones. Of a kill during the
        first save no path, but what is wrong with it.

    Raises:
        InputError: There are checkpoints, but all are damaged.
    """
    damaged: dict[str, str] = {}
    found = {*_with_index(directory), *_recorded(directory)}
    for path in sorted(found, key=_step_of, reverse=True):
        problem = _problem(path)
        if problem is None:
            return path, damaged
        damaged[path] = problem
    if damaged and not _is_first_save_cut_off(directory, found):
        newest, problem = next(iter(damaged.items()))
        raise InputError(
            f"{directory}: expected a checkpoint that can be restored; all {len(damaged)} "
            f"are damaged, the newest, {os.path.basename(newest)}: {problem} Put back a "
            "copy of one, or delete this directory to start the training anew."
        )
    return None, damaged


def _is_first_save_cut_off(directory: str, found: Collection[str]) -> bool:
    """Whether all there is comes from a kill while the first checkpoint was saved.

    TensorFlow writes the index in place, so a kill may leave a part of it. The
    manager's list comes after the first save, and is there from then on.
    """
    return len(found) == 1 and not tf.io.gfile.exists(os.path.join(directory, _STATE))


def _set_aside_damaged(directory: str) -> None:
    """Leaves the manager nothing newer than the newest whole checkpoint."""
    newest, damaged = newest_whole(directory)
    then = f"goes on from {os.path.basename(newest)}" if newest else "starts anew"
    for path, problem in damaged.items():
        _move(path, os.path.join(directory, DAMAGED))
        print(
            f"Warning: the checkpoint {path} is damaged ({problem.rstrip('.')}). It was "
            f"moved to {DAMAGED}/; training {then}."
        )
    if tf.io.gfile.isdir(directory):
        _remove_unfinished(directory)
        _record(directory, newest)


def _with_index(directory: str) -> list[str]:
    """Paths of checkpoints whose saving came to its end: the index is written last."""
    if not tf.io.gfile.isdir(directory):
        return []
    names = (re.fullmatch(r"(ckpt-\d+)\.index", n) for n in tf.io.gfile.listdir(directory))
    found = (os.path.join(directory, match[1]) for match in names if match)
    return sorted(found, key=_step_of)


def _recorded(directory: str) -> list[str]:
    """Paths of the checkpoints that the manager knows of."""
    try:
        state = tf.train.get_checkpoint_state(directory)
    except ValueError:  # The list itself is damaged.
        return []
    if state is None:
        return []
    # By name: the directory may have been moved.
    names = map(os.path.basename, state.all_model_checkpoint_paths)
    return [os.path.join(directory, name) for name in names]


def _step_of(path: str) -> int:
    return int(path.rsplit("-", 1)[-1])


def _problem(path: str) -> str | None:
    """What is wrong with a checkpoint; None if it can be restored."""

    def read() -> None:
        try:
            reader = tf.train.load_checkpoint(path)
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)  # Compares the checksum.
        except tf.errors.OpError as error:
            if os.strerror(errno.EIO) in error.message:  # The reader drops its kind.
                raise tf.errors.UnknownError(None, None, error.message) from error
            raise

    try:
        StorageErrors(path).retry(read)  # One that cannot be read now is not damaged.
    except PASSING:
        raise
    except (tf.errors.OpError, IndexError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error)
        return f"{reason.strip().rstrip('.')}."
    return None


def _move(path: str, to: str) -> None:
    tf.io.gfile.makedirs(to)
    directory, name = os.path.split(path)
    for file in tf.io.gfile.listdir(directory):
        if file.startswith(f"{name}."):
            source, target = os.path.join(directory, file), os.path.join(to, file)
            tf.io.gfile.rename(source, target, overwrite=True)


def _remove_unfinished(directory: str) -> None:
    """Removes what a save left that did not come to its end."""
    if not tf.io.gfile.isdir(directory):
        return
    whole = {os.path.basename(path) for path in _with_index(directory)}
    for name in tf.io.gfile.listdir(directory):
        match = re.match(r"(ckpt-\d+)(_temp|\.data-)", name)
        path = os.path.join(directory, name)
        if match and match[2] == "_temp":
            tf.io.gfile.rmtree(path)
        elif (match and match[1] not in whole) or name.startswith(f"{_STATE}.tmp"):
            tf.io.gfile.remove(path)


def _record(directory: str, newest: str | None) -> None:
    """Makes the manager's list that of the checkpoints there are."""
    there, state = _with_index(directory), os.path.join(directory, _STATE)
    if newest is None and tf.io.gfile.exists(state):
        tf.io.gfile.remove(state)
    if newest is None or there == _recorded(directory):
        return
    times = [tf.io.gfile.stat(f"{path}.index").mtime_nsec / 1e9 for path in there]
    # A CheckpointState in text form; TensorFlow's own function for it is deprecated.
    lines = [f'model_checkpoint_path: "{os.path.basename(newest)}"']
    for path, time in zip(there, times, strict=True):
        lines.append(f'all_model_checkpoint_paths: "{os.path.basename(path)}"')
        lines.append(f"all_model_checkpoint_timestamps: {time}")
    # The manager deletes only those that came after this.
    lines.append(f"last_preserved_timestamp: {min(times) - 1}")
    with files.atomic_open(state) as file:
        file.write("\n".join(lines) + "\n")
