"""The one exception that means: the input is wrong, not the program; and its words."""


class InputError(ValueError):
    """Bad input. The message names the argument, what was expected, what came
    and what to do; scripts print it without a traceback."""


def reason_of(message: str) -> str:
    """TensorFlow's message without the names of its nodes and operations."""
    return message.split("}} ")[-1].split(" [Op:")[0]
