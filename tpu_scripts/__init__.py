"""Entry points: absl flags to one call of the library."""

import logging
import os

# Before TensorFlow is imported: its start-up messages bury the progress lines, and
# without a GPU one of them reads like a failure. What fails raises an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Beam warns of every cloud library that is not installed, once in its own name.
logging.getLogger("apache_beam").setLevel(logging.ERROR)
logging.getLogger().addFilter(lambda record: "apitools" not in str(record.msg))
