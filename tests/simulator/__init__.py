"""A PBX that misbehaves on demand: the demo PBX with faults, restarts, other versions and many recordings."""
