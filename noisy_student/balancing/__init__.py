"""Predictions to pseudo-labeled shards: which images, and how many copies of each."""
