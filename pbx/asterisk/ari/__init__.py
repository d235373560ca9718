"""ARI, Asterisk's REST interface: lists and downloads recordings."""
