"""Writes the simulated history into the demo's cache, as if a worker had listened and taken snapshots for thirty days.

It fills the gaps between the times when a worker really listened. Writing a time range twice does no harm.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Engine, update
from sqlmodel import Session

from pbx.demo.history_from_events import history_of_agents, history_of_calls
from pbx.demo.simulated_history import calls_between
from pbx.demo.write_recordings import add_transcribed_recordings
from pbx.demo.write_snapshots import LONGEST_SHIFT, write_snapshots
from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.listening_spans import begin_span, listening_spans, prolong_span
from pbx.store.models import Table
from pbx.store.visits import store_agent_events, store_rings, store_visits

END_REASON = "Written by the demo from its simulated history."  # of the listening spans that it writes
BATCH = timedelta(days=2)  # written in one transaction, during which other writers wait
_SHORTEST_GAP = timedelta(seconds=1.5)
_VISITS = Table.metadata.tables["queue_visits"]
_HISTORY_FILES = (  # in pbx/
    "demo/call_events.py",
    "demo/channels.py",
    "demo/company.py",
    "demo/history_from_events.py",
    "demo/queue_counters.py",
    "demo/recording_dir.py",
    "demo/sample_calls/scripts.toml",
    "demo/shifts_and_outages.py",
    "demo/simulated_day.py",
    "demo/simulated_history.py",
    "live/events.py",
    "live/legs.py",
    "live/visit_in_progress.py",
    "live/visits.py",
)
ProgressReport = Callable[[float], None]


def history_version() -> str:
    """A hash of what decides the history. A demo with another version is replaced, not continued."""
    contents = ((Path(__file__).parents[1] / name).read_bytes() for name in _HISTORY_FILES)
    return sha256(b"".join(contents)).hexdigest()[:12]


def write_history(
    engine: Engine, connection_id: int, since: datetime, until: datetime, report: ProgressReport = lambda share: None
) -> None:
    """Write the history from `since` up to `until`, latest days first, and the recordings.

    Calls `report` with the finished share, 0 to 1. Raises what `report` raises, DataError and StorageFull.
    """
    for start_at, end_at in _batches(since, until):
        with writing(engine) as session:
            write_time_range(session, connection_id, start_at, end_at)
            if end_at == until:
                add_transcribed_recordings(session, connection_id, until)
        report((until - start_at) / (until - since))


def fill_gaps(
    engine: Engine,
    connection_id: int,
    since: datetime,
    now: datetime,
    *,
    live: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Write the history of all times since `since` when no worker listened, latest first. Returns their number.

    The last one ends now, or with `live` where the latest listening span ends. Stops early when `go_on` returns False.
    Raises DataError or StorageFull.
    """
    with reading(engine) as session:
        spans = listening_spans(session, connection_id, since, now)
    gaps = list(_gaps(spans, since, max((span[1] for span in spans), default=since) if live else now))
    for gap in reversed(gaps):
        for start_at, end_at in _batches(*gap):
            if not go_on():
                return len(gaps)
            with writing(engine) as session:
                write_time_range(session, connection_id, start_at, end_at)
    with writing(engine) as session:
        add_transcribed_recordings(session, connection_id, now)
    return len(gaps)


def write_time_range(session: Session, connection_id: int, since: datetime, until: datetime) -> None:
    """Write one time range as a listener knew it at its end: calls that end later are in progress."""
    calls = list(calls_between(since - LONGEST_SHIFT, until))
    updates = history_of_calls((call for call in calls if call.ended_at >= since), until)
    store_visits(session, connection_id, updates.visits, "live")
    _reopen(session, connection_id, [visit.uniqueid for visit in updates.visits if visit.outcome == "in_progress"])
    store_rings(session, connection_id, updates.rings)
    store_agent_events(session, connection_id, history_of_agents(since, until))
    store_legs(session, connection_id, updates.legs, "live")
    write_snapshots(session, connection_id, calls, since, until)
    prolong_span(session, begin_span(session, connection_id, since), until, END_REASON)


def _reopen(session: Session, connection_id: int, uniqueids: list[str]) -> None:
    """Set visits back to in progress that a listener marked as unknown because it started during them."""
    unknown = _VISITS.c.connection_id == connection_id, _VISITS.c.outcome == "unknown"
    session.connection().execute(
        update(_VISITS).where(*unknown, _VISITS.c.uniqueid.in_(uniqueids)).values(outcome="in_progress", ended_at=None)
    )


def _batches(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The time range in parts of BATCH, latest first."""
    while until > since:
        start_at = max(since, until - BATCH)
        yield start_at, until
        until = start_at


def _gaps(
    spans: list[tuple[datetime, datetime]], since: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    reached = since
    for begun_at, ended_at in sorted(spans):
        if begun_at - reached > _SHORTEST_GAP:
            yield reached, begun_at
        reached = max(reached, ended_at)
    if until - reached > _SHORTEST_GAP:
        yield reached, until
