"""The background worker: which jobs it runs, how long each may take, and the status of the cache and its jobs.

limits   run a job on a thread of its own, and stop it past its time limit
worker   the process that runs jobs, and `run_inline` for a job that a command runs itself
status   the facts that `python -m pbx status` shows

The queue is in pbx.store.job_queue, so that pages can request jobs without importing the worker.
"""
