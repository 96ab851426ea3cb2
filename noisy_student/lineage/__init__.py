"""What a model comes from, read and verified from what the stages put on record."""
