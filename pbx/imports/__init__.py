"""Imports queue_log, CDR and CEL from files and databases.

From a queue_log file to figures: the job (`job.import_history`) opens the file at its cursor (`run.ImportRun`) and
reads blocks of lines (`files.read_lines`). `pbx.asterisk.formats.queue_log` parses each line to an event,
`visits_from_queue_log` folds the events into visits, and `queue_log_writer` stores them together with the new cursor.
`pbx.analytics.sealing` then copies the days that changed to Parquet files, and `pbx.analytics.queues` calculates the
figures from them.
"""
