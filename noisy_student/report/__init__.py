"""Pages and pictures of a run."""
