"""The things that the app is about: a call, a leg, a visit to a queue, a ring, an agent event, a recording, a snapshot.

Imports nothing else of `pbx`, and reads no file, socket or database. `pbx.store.models` derives its tables from these.
"""
