"""Names of classes from a file of a user's."""

import tensorflow as tf

from data import files
from data.errors import InputError


def read_class_names(path: str) -> tuple[str, ...]:
    """Class names from a JSON list, or from a file with one name a line.

    Raises:
        InputError: There is no such file, or no list of different names in it.
    """
    if not tf.io.gfile.exists(path):
        raise InputError(f"`class_names`: expected a file; received {path}, which is none.")
    try:
        if path.endswith(".json"):
            names = files.read_json(path)
        else:
            with tf.io.gfile.GFile(path) as file:
                names = [line.strip() for line in file.read().splitlines() if line.strip()]
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"`class_names` {path}: expected a text file, a name a line, or JSON, a list "
            f"of names; {error}."
        ) from error
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or not names or len(set(names)) < len(names):
        raise InputError(
            f"`class_names` {path}: expected a list of different names, in the order of "
            f"the probabilities; received {str(names)[:100]}."
        )
    return tuple(names)
