"""Parsers for what Asterisk and FreePBX write: queue_log, CDR, CEL, Master.csv, recordings and their names."""
