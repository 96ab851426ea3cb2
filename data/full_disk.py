"""A disk that is full, said in words."""

import contextlib
import errno
import os
from collections.abc import Iterator

from data.errors import InputError

# No space, no quota, no larger file allowed. TensorFlow and h5py keep of the number
# only its text, and TensorFlow's error type is the one of a device out of memory.
_REASONS = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@contextlib.contextmanager
def explained(directory: str, what: str) -> Iterator[None]:
    """Makes an `InputError` of what a full disk raises in the block.

    Args:
        directory: Where is written.
        what: What is written, such as `the model`.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = getattr(error, "message", None) or str(error)
        reason = next((reason for reason in _REASONS if reason in text), None)
        if reason is None:
            raise
        raise InputError(
            f"{directory}: expected room for {what}; received: {reason}. Free some of the "
            "disk or raise the quota, then run the same command again: it goes on from "
            "what is finished. Of training a lower --keep_checkpoints needs less."
        ) from error
