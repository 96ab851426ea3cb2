"""Accuracy on labeled images."""
