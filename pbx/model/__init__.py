"""What the app is about: calls, legs, visits to queues, rings, agent events, recordings, transcripts, snapshots.

Imports nothing else of `pbx`, and reads no file, socket or database. `pbx.store.models` derives its tables from these.
"""
