"""PBX Notebook: what a FreePBX/Asterisk system did and said, in a local cache that an analyst can question."""

__version__ = "0.1.0"
