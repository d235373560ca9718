"""Recordings: from the PBX's list, into the cache, to the player."""
