"""Jobs: one plain function each, callable from tests, the command line and the queue.

sync.sync_recordings(...)    the PBX's recordings into the cache and data/audio
collect.collect_snapshot(...)  one AMI snapshot into the cache
transcribe.transcribe_queued(...)  claimed recordings through a speech engine into the store
here.transcribe_here(...)    recordings transcribed by this process, now
queue                        who does which job when, all in the table `jobs`; what the pages import
slots                        which processes are alive
worker                       the process that does the jobs
transcriber                  the process that holds the speech model; speech: the worker's part in that
status                       how the cache and its jobs stand
"""
