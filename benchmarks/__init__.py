"""Measurements that docs/ quotes, one command each."""

import tpu_scripts  # noqa: F401  (silences start-up messages before TensorFlow)
