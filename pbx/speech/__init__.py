"""Sound: what was recorded, made fit to hear."""
