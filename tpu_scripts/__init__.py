"""Entry points: absl flags to one call of the library."""

import logging
import os

# Before TensorFlow is imported: its start-up messages bury the progress lines, and
# without a GPU one of them reads like a failure. What fails raises an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By itself TensorFlow uses oneDNN only on CPUs with AVX-512 VNNI or AMX. On CPUs with
# AVX2 alone oneDNN halves the time of a step too: docs/performance.md.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Beam warns of every cloud library that is not installed, once in its own name.
logging.getLogger("apache_beam").setLevel(logging.ERROR)
logging.getLogger().addFilter(lambda record: "apitools" not in str(record.msg))
