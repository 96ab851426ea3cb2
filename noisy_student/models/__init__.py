"""Models on disk, and the predictions of one in memory."""
