"""What all stages share: the record of what is done, names of shards, progress."""
