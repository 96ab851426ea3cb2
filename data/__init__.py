"""Bytes to tensors and back: sources, records, crops, augmentation, tf.data.

Knows nothing of networks, of flags, or of the method.
"""
