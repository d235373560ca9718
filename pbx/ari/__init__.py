"""ARI: the recordings."""
