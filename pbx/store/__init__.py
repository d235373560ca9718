"""The cache: all that is known of a PBX, in one database."""
