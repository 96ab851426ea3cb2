"""Benchmarks of a finished model: accuracy, robustness, adversaries, calibration."""
