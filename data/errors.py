"""The one exception that means: the input is wrong, not the program."""


class InputError(ValueError):
    """Bad input. The message names the argument, what was expected, what came
    and what to do; scripts print it without a traceback."""
