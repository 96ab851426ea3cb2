"""Entry points: absl flags to one call of the library."""

import logging
import os

# Before TensorFlow is imported: its start-up messages bury the progress lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Beam warns of every cloud file system that is not installed.
logging.getLogger("apache_beam").setLevel(logging.ERROR)
