"""Finds words and phrases in transcripts."""
