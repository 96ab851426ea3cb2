"""Measurements that docs/ quotes; a module with `--output` is a command."""

import tpu_scripts  # noqa: F401  (silences start-up messages before TensorFlow)
