"""Data sets to TFRecord shards: splits, checks, duplicates of evaluation images."""
