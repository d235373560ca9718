"""What a transcript contains: topics, sentiment, summary, key phrases."""
