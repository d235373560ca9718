"""Analyses transcripts: summary, key phrases, questions, topics and measures of the conversation."""
