"""Turns recordings into searchable transcripts: the processes that transcribe the queue, the analysis, the search."""
