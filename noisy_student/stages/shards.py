"""Names of shards: what a stage makes from a shard takes its name."""

import os

from data import files
from data.errors import InputError
from data.records import RecordSet


def shards_by_name(unlabeled: RecordSet, output: str = "") -> dict[str, str]:
    """Paths by file name; predictions and balanced shards take these names.

    Args:
        unlabeled: The images.
        output: Where files of these names will be written.

    Raises:
        InputError: Two files share a name, or one would be written over.
    """
    for path in unlabeled.files:
        directory = os.path.dirname(path)
        if output and _same_directory(directory, output):
            raise InputError(
                f"`output_dir`: expected another directory than that of the images; "
                f"received {output}, where {path} would be written over."
            )
    shards = {os.path.basename(path): path for path in unlabeled.files}
    if len(shards) < len(unlabeled.files):
        raise InputError(
            f"`unlabeled_data`: expected {len(unlabeled.files)} files of different names; "
            f"received {len(shards)} names. Rename files that share a name."
        )
    return shards


def _same_directory(one: str, other: str) -> bool:
    if files.is_local(one) and files.is_local(other):
        return os.path.realpath(one) == os.path.realpath(other)
    return one.rstrip("/") == other.rstrip("/")
