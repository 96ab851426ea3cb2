"""What all stages share: the record of what is done, layout, names of shards, progress."""
