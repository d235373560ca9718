"""The times at which the app was listening to the PBX, and the legs that were still in progress."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlmodel import Session

from pbx.model.history import Leg
from pbx.store.models import LegRow, ListeningSpan, Table

MAX_OPEN_DAYS = 2  # an older leg has ended, even if no event reported its end
CUT_OFF_REASON = "The process that listened ended unexpectedly."
_legs = Table.metadata.tables[str(LegRow.__tablename__)]
_spans = Table.metadata.tables[str(ListeningSpan.__tablename__)]
_LEG = tuple(name for name in Leg.__dataclass_fields__ if name in _legs.c)


def begin_span(session: Session, connection_id: int, started_at: datetime) -> int:
    """Add a listening span and return its id."""
    values: dict[str, Any] = {
        "connection_id": connection_id,
        "started_at": started_at,
        "listened_until": started_at,
        "end_reason": "",
    }
    statement = insert(_spans).values(values).returning(_spans.c.id)
    return int(session.connection().execute(statement).scalar_one())


def prolong_span(session: Session, span_id: int, listened_until: datetime, end_reason: str = "") -> None:
    """Record that everything up to `listened_until` is stored, and why the span ended ("" while it continues)."""
    session.connection().execute(
        update(_spans).where(_spans.c.id == span_id).values(listened_until=listened_until, end_reason=end_reason)
    )


def end_spans(session: Session, connection_id: int) -> int:
    """Mark the spans of dead listeners as ended; returns how many. Call this before beginning a new span."""
    mine = _spans.c.connection_id == connection_id, _spans.c.end_reason == ""
    return session.connection().execute(update(_spans).where(*mine).values(end_reason=CUT_OFF_REASON)).rowcount


def listening_since(session: Session, connection_id: int) -> datetime | None:
    """Return when the current span started, or None if there is none. A dead listener's span also counts as current."""
    mine = select(_spans.c.started_at).where(_spans.c.connection_id == connection_id, _spans.c.end_reason == "")
    return session.connection().scalar(mine.order_by(_spans.c.started_at.desc()).limit(1))


def listening_spans(
    session: Session, connection_id: int, since: datetime, until: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the (start, end) times of listening between `since` and `until`, in order."""
    query = (
        select(_spans.c.started_at, _spans.c.listened_until)
        .where(_spans.c.connection_id == connection_id, _spans.c.listened_until > since, _spans.c.started_at < until)
        .order_by(_spans.c.started_at)
    )
    return [(max(begun, since), min(ended, until)) for begun, ended in session.connection().execute(query)]


def open_legs(session: Session, connection_id: int, at: datetime) -> Sequence[Leg]:
    """Return the legs that were still in progress at their last live event."""
    query = select(*(_legs.c[name] for name in _LEG)).where(
        _legs.c.connection_id == connection_id,
        _legs.c.started_at > at - timedelta(days=MAX_OPEN_DAYS),
        _legs.c.source == "live",
        _legs.c.disposition == "",
        _legs.c.ended_at.is_(None),
    )
    return [Leg(**row) for row in session.connection().execute(query).mappings()]
