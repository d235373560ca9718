"""The cache: everything known about a PBX, in one database."""
