"""The background worker: the jobs it runs, their time limits, and the status of the cache and its jobs.

limits   runs a job on a thread of its own and stops it at its time limit
worker   the process that runs jobs, and `run_inline` for a command that runs a job itself
status   the facts that `python -m pbx status` shows

The queue is in pbx.store.job_queue, so that pages can request jobs without importing the worker.
"""
