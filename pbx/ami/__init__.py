"""AMI: how the PBX stands, and what happens on it."""
