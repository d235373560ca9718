"""The cache: one database with everything the app knows about a PBX."""
