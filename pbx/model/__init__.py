"""The app's domain classes: calls, legs, queue visits, rings, agent events, recordings, transcripts, snapshots.

This package imports nothing else from `pbx`, and reads no file, socket or database. `pbx.store.models` derives its
tables from these classes.
"""
