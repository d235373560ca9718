"""The demo's past, from its story into its cache: as if somebody had listened and looked for thirty days.

What was seen live stays as it is; what nobody saw is written: the demo has no gap. The same stretch may be written
twice.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Engine, update
from sqlmodel import Session

from pbx.demo.recordings import keep_recordings
from pbx.demo.replay import replay_agents, replay_calls
from pbx.demo.snapshot_rows import BEFORE, write_looks
from pbx.demo.story import calls_between
from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.listening import begin_span, listening_spans, prolong_span
from pbx.store.models import Table
from pbx.store.visits import store_agent_changes, store_rings, store_visits

WRITTEN = "Written from the demo’s story."
STRETCH = timedelta(days=2)  # written at once: other writers wait so long
_GAP = timedelta(seconds=1.5)  # a shorter one is none
_VISITS = Table.metadata.tables["queue_visits"]
_STORY_FILES = (
    *("company.py", "day.py", "shifts.py", "story.py", "timeline.py", "replay.py"),
    "sample_calls/scripts.toml",
)
ProgressReport = Callable[[float], None]


def story_version() -> str:
    """Tells one version of the story from any other: what one wrote, another doesn't go on with."""
    told = ((Path(__file__).parent / name).read_bytes() for name in _STORY_FILES)
    return sha256(b"".join(told)).hexdigest()[:12]


def fill_past(
    engine: Engine, connection_id: int, since: datetime, until: datetime, told: ProgressReport = lambda done: None
) -> None:
    """Write all from `since` up to `until`, the newest first, and the recordings. `told`: how much is done, 0 to 1.

    What `told` raises ends it; raises DataError or StorageFull too.
    """
    for begin_at, end_at in _stretches(since, until):
        with writing(engine) as session:
            write_past(session, connection_id, begin_at, end_at)
            if end_at == until:
                keep_recordings(session, connection_id, until)
        told((until - begin_at) / (until - since))


def fill_gaps(
    engine: Engine,
    connection_id: int,
    since: datetime,
    now: datetime,
    *,
    live: bool = False,
    going_on: Callable[[], bool] = lambda: True,
) -> int:
    """Write what nobody saw since a moment, the newest first; returns how many gaps there were.

    Up to now, or with `live` up to what is being listened to. `going_on` is asked between two stretches. Raises
    DataError or StorageFull.
    """
    with reading(engine) as session:
        spans = listening_spans(session, connection_id, since, now)
    gaps = list(_gaps(spans, since, max((span[1] for span in spans), default=since) if live else now))
    for gap in reversed(gaps):
        for begin_at, end_at in _stretches(*gap):
            if not going_on():
                return len(gaps)
            with writing(engine) as session:
                write_past(session, connection_id, begin_at, end_at)
    with writing(engine) as session:
        keep_recordings(session, connection_id, now)
    return len(gaps)


def write_past(session: Session, connection_id: int, since: datetime, until: datetime) -> None:
    """Write what the story tells of a stretch, as it was known at its end: the calls that go on then go on."""
    calls = list(calls_between(since - BEFORE, until))
    facts = replay_calls((call for call in calls if call.ended_at >= since), until)
    store_visits(session, connection_id, facts.visits, "watch")
    _go_on(session, connection_id, [visit.uniqueid for visit in facts.visits if visit.outcome == "in_progress"])
    store_rings(session, connection_id, facts.rings)
    store_agent_changes(session, connection_id, replay_agents(since, until))
    store_legs(session, connection_id, facts.legs, "watch")
    write_looks(session, connection_id, calls, since, until)
    prolong_span(session, begin_span(session, connection_id, since), until, WRITTEN)


def _go_on(session: Session, connection_id: int, uniqueids: list[str]) -> None:
    """Whoever began to listen while a caller was being answered took his visit for lost: it goes on."""
    lost = _VISITS.c.connection_id == connection_id, _VISITS.c.outcome == "unknown"
    session.connection().execute(
        update(_VISITS).where(*lost, _VISITS.c.uniqueid.in_(uniqueids)).values(outcome="in_progress", ended_at=None)
    )


def _stretches(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The newest first."""
    while until > since:
        begin_at = max(since, until - STRETCH)
        yield begin_at, until
        until = begin_at


def _gaps(
    spans: list[tuple[datetime, datetime]], since: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    reached = since
    for begun_at, ended_at in sorted(spans):
        if begun_at - reached > _GAP:
            yield reached, begun_at
        reached = max(reached, ended_at)
    if until - reached > _GAP:
        yield reached, until
