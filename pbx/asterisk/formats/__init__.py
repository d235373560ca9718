"""The formats Asterisk and FreePBX write: queue_log, CDR, CEL, Master.csv, and the names of recordings."""
