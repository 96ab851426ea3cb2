"""Measurements that docs/ quotes, one command each."""
