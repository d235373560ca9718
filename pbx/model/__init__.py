"""What things are: a queue visit, a call leg, an agent's ring, an agent event, a segment, a snapshot.

Imports nothing else of `pbx`, and reads no file, socket or database.
"""
