"""Searches transcripts for words and phrases."""
