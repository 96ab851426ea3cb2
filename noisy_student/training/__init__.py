"""Teacher and student: step, loss, optimizer, loop, checkpoints; FixRes after it."""
