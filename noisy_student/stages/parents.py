"""What a stage was made from: where it lay, and what it was."""

import dataclasses
import os

from data import files
from data.records import RecordSet

_LEVELS_UP = 2  # From a stage to its run: `work_dir/generation_1/predictions`.


@dataclasses.dataclass(frozen=True)
class Parent:
    """An input of a stage.

    Attributes:
        directory: Where it lies.
        digest: Tells its content: of a model `weights_sha256`, of records their
            fingerprint, skipped ones included, of predictions `manifest.shards_digest`.
    """

    directory: str
    digest: str

    def stored(self, near: str) -> dict:
        """JSON values, the directory relative to the stage's own, `near`.

        What lies within the same run moves with it; the path of anything else
        stays as it is.
        """
        return {"directory": relative(self.directory, near), "digest": self.digest}


def parent_records(examples: RecordSet, fingerprint: str | None = None) -> Parent:
    """The parent of a stage that reads these records.

    Args:
        examples: The records; of several directories the first is named.
        fingerprint: Theirs, where it was computed before.
    """
    if examples.skipped:  # Which ones is on no record: nobody could compute it again.
        fingerprint = dataclasses.replace(examples, skipped=()).fingerprint()
    directory = os.path.dirname(examples.files[0])
    return Parent(directory, fingerprint or examples.fingerprint())


def relative(directory: str, near: str) -> str:
    """The path from `near` where both are parts of one run; else the whole path."""
    whole = directory
    if files.is_local(directory):
        whole = os.path.abspath(directory)
    if files.is_local(directory) != files.is_local(near):
        return whole
    path = os.path.relpath(directory, near)
    return whole if path.split("/").count("..") > _LEVELS_UP else path


def resolved(path: str, near: str) -> str:
    """The directory that `relative` was given."""
    if not files.is_local(path) or os.path.isabs(path):
        return path
    scheme, separator, rest = near.rpartition("://")
    return scheme + separator + os.path.normpath(os.path.join(rest, path))
