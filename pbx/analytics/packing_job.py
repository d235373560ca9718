"""Packs past days of history for the figures, a few per transaction, so that other writers wait only briefly."""

import threading

from sqlalchemy import Engine

from pbx.analytics.packed_days import pack_days
from pbx.store.engine import writing

DAYS_PER_TRANSACTION = 5  # takes about 0.1 s on a busy PBX


def pack_history(engine: Engine, connection_id: int, stop: threading.Event | None = None) -> int:
    """Pack all days before today (UTC) that are not packed, and return how many were. It ends early when `stop` is set.

    Raises DataError or StorageFull when the cache can't be written.
    """
    packed = 0
    while stop is None or not stop.is_set():
        with writing(engine) as session:
            done = pack_days(session, connection_id, limit=DAYS_PER_TRANSACTION)
        packed += done
        if done < DAYS_PER_TRANSACTION:
            break
    return packed
