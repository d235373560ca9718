"""Recordings: list them on the PBX, download them into the cache, and prepare them for the player."""
