"""A PBX for tests: the demo PBX with faults on demand, restarts, Asterisk 22's messages and many recordings."""
