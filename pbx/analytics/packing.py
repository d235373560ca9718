"""Past days of history packed for the figures, a few at a time so that nobody who writes waits long."""

import threading

from sqlalchemy import Engine

from pbx.analytics.packs import pack_days
from pbx.store.engine import writing

DAYS_AT_ONCE = 5  # of a busy PBX, a tenth of a second


def pack_history(engine: Engine, connection_id: int, stop: threading.Event | None = None) -> int:
    """Pack all days before today (UTC) that are not packed, and return how many were. A set `stop` ends it soon.

    Raises DataError or StorageFull when the cache can't be written.
    """
    packed = 0
    while stop is None or not stop.is_set():
        with writing(engine) as session:
            done = pack_days(session, connection_id, limit=DAYS_AT_ONCE)
        packed += done
        if done < DAYS_AT_ONCE:
            break
    return packed
