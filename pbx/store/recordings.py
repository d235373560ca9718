"""The recordings of a PBX and the calls they belong to.

Everything is done in bulk because a PBX can have tens of thousands of recordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, case, func, insert, or_, select, type_coerce, update
from sqlmodel import Session

from pbx.asterisk.formats.recording_names import RecordingName
from pbx.model.recording import RecordingState
from pbx.store.chunks import chunks
from pbx.store.models import LegRow, Table, now
from pbx.store.queues_of_calls import update_call_queues

UNFINISHED_FOR = timedelta(days=1)  # an empty or unreadable file younger than this is possibly unfinished
RETRIED_STATES = ("listed", "downloading", "waiting", "failed")  # tried again at every sync
RETRIED_WHILE_YOUNG = ("empty", "unreadable")  # tried again only while young
_LEFT_OUT = ("unreadable", "too_large", "empty", "missing")
_BY_PRECEDENCE = ("downloaded", "waiting", "downloading", "listed", "failed", *_LEFT_OUT)
_FACTS = ("direction", "from_number", "to_number", "queue", "started_at", "uniqueid")
_MISSING = {"unknown", "", None}

_calls = Table.metadata.tables["calls"]
_recordings = Table.metadata.tables["recordings"]
_connections = Table.metadata.tables["connections"]
_legs = Table.metadata.tables[str(LegRow.__tablename__)]


class ListedRecording(NamedTuple):
    """A recording as the PBX lists it, with the facts contained in its name."""

    name: str
    format: str
    facts: RecordingName


class PendingDownload(NamedTuple):
    """A recording to download or to try again."""

    id: int
    name: str
    format: str
    uniqueid: str
    state: str
    young: bool


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """The result of downloading one recording."""

    id: int
    state: RecordingState
    reason: str = ""
    file: str = ""
    size_bytes: int | None = None
    duration_s: float | None = None
    downloaded_at: datetime | None = None


def known_names(session: Session, connection_id: int) -> dict[str, bool]:
    """Return {name: whether the PBX no longer lists it} for all stored recordings of a PBX."""
    rows = session.connection().execute(
        select(_recordings.c.name, _recordings.c.gone_at.is_not(None)).where(
            _recordings.c.connection_id == connection_id
        )
    )
    return {row[0]: row[1] for row in rows}


def open_recordings(
    session: Session,
    connection_id: int,
    since: datetime | None = None,
    until: datetime | None = None,
    largest_bytes: int = 0,
) -> list[PendingDownload]:
    """Return the recordings on the PBX to download or try again, newest first, with since <= start < until.

    With either limit, recordings whose start is unknown are left out. A recording that was too large is included if it
    is no larger than `largest_bytes`.
    """
    table = _recordings.c
    seen_at = func.coalesce(table.started_at, table.listed_at)
    young = type_coerce(seen_at, BigInteger) > int((now() - UNFINISHED_FOR).timestamp())
    fits_now = (table.state == "too_large") & (table.size_bytes <= largest_bytes)
    wanted = (
        select(table.id, table.name, table.format, table.uniqueid, table.state, young)
        .where(table.connection_id == connection_id, table.gone_at.is_(None))
        .where(or_(table.state.in_(RETRIED_STATES), table.state.in_(RETRIED_WHILE_YOUNG) & young, fits_now))
        .order_by(seen_at.desc(), table.id)
    )
    if since is not None:
        wanted = wanted.where(table.started_at >= since)
    if until is not None:
        wanted = wanted.where(table.started_at < until)
    return [PendingDownload(*row) for row in session.connection().execute(wanted)]


def add_recordings(session: Session, connection_id: int, found: Sequence[ListedRecording]) -> None:
    """Add new recordings as `listed`, each to its call. Recordings that share a uniqueid form one call."""
    call_ids = _calls_of(session, connection_id, found)
    rows = [
        {
            "connection_id": connection_id,
            "call_id": call_ids[_linkedid(item)],
            "name": item.name,
            "format": item.format,
            "type": item.facts.type,
            "uniqueid": item.facts.uniqueid,
            "started_at": item.facts.started_at,
            "state": "listed",
            "reason": "",
            "file": "",
            "listed_at": now(),
        }
        for item in found
    ]
    if rows:
        session.connection().execute(insert(_recordings), rows)
    update_call_queues(session, connection_id, set(call_ids.values()))


def _linkedid(item: ListedRecording) -> str:
    return item.facts.uniqueid or item.name


def _calls_of(session: Session, connection_id: int, found: Sequence[ListedRecording]) -> dict[str, int]:
    """Return {linkedid: call id} for these recordings, and add the calls that don't exist yet."""
    facts_by_linkedid: dict[str, dict[str, Any]] = {}
    for item in found:
        facts = {field: getattr(item.facts, field) for field in _FACTS}
        facts_by_linkedid[_linkedid(item)] = _merged(facts_by_linkedid.get(_linkedid(item), {}), facts)
    ids: dict[str, int] = {}
    columns = [_calls.c[field] for field in ("state", *_FACTS)]
    for chunk in chunks(facts_by_linkedid):
        known = session.connection().execute(
            select(_calls.c.id, _calls.c.linkedid, *columns).where(
                _calls.c.connection_id == connection_id, _calls.c.linkedid.in_(chunk)
            )
        )
        for row in known:
            ids[row.linkedid] = row.id
            _add_facts(session, row._asdict(), facts_by_linkedid[row.linkedid])
        _find_by_leg(
            session, connection_id, [linkedid for linkedid in chunk if linkedid not in ids], facts_by_linkedid, ids
        )
    new_calls = [
        {"connection_id": connection_id, "linkedid": linkedid, "source": "freepbx", "agent": "", "state": "listed"}
        | facts
        for linkedid, facts in facts_by_linkedid.items()
        if linkedid not in ids
    ]
    if new_calls:
        added = session.connection().execute(insert(_calls).returning(_calls.c.linkedid, _calls.c.id), new_calls)
        ids.update((row.linkedid, row.id) for row in added)
    return ids


def _find_by_leg(
    session: Session,
    connection_id: int,
    uniqueids: Sequence[str],
    facts_by_linkedid: Mapping[str, Any],
    ids: dict[str, int],
) -> None:
    """Add to `ids` the calls that have one of these uniqueids as a later leg, and store their recordings' facts."""
    columns = [_calls.c[field] for field in ("id", "state", *_FACTS)]
    found = session.connection().execute(
        select(_legs.c.uniqueid.label("of_leg"), *columns)
        .join(_calls, _calls.c.id == _legs.c.call_id)
        .where(_legs.c.connection_id == connection_id, _legs.c.uniqueid.in_(uniqueids))
        .order_by(_legs.c.id)
    )
    for row in found:
        if row.of_leg not in ids:
            ids[row.of_leg] = row.id
            _add_facts(session, row._asdict(), facts_by_linkedid[row.of_leg])


def _add_facts(session: Session, call: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Store the facts from a call's recordings in the call."""
    before = {field: call[field] for field in ("state", *_FACTS)}
    after = _merged(before, facts) | {"state": "listed" if call["state"] == "none" else call["state"]}
    if after != before:
        session.connection().execute(update(_calls).where(_calls.c.id == call["id"]).values(after))


def _merged(known: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the facts of two recordings of a call: `known`, completed from `more` where facts are missing."""
    return {field: more[field] if known.get(field) in _MISSING else known[field] for field in more}


def mark_gone(session: Session, connection_id: int, names: Sequence[str]) -> int:
    """Mark recordings that the PBX no longer lists; returns how many became `missing` because they weren't downloaded.

    Downloaded files are kept.
    """
    table = _recordings.c
    lost: list[int] = []
    for chunk in chunks(names):
        these = (table.connection_id == connection_id) & table.name.in_(chunk)
        lost += session.connection().scalars(select(table.id).where(these, table.state.in_(RETRIED_STATES)))
        session.connection().execute(update(_recordings).where(these).values(gone_at=now()))
    reason = "The PBX deleted it before it was downloaded."
    store_outcomes(session, [DownloadResult(id_, "missing", reason) for id_ in lost])
    return len(lost)


def mark_listed_again(session: Session, connection_id: int, names: Sequence[str]) -> None:
    """Mark recordings that the PBX lists again."""
    table = _recordings.c
    for chunk in chunks(names):
        these = (table.connection_id == connection_id) & table.name.in_(chunk)
        back = case((table.state == "missing", "listed"), else_=table.state)
        session.connection().execute(update(_recordings).where(these).values(gone_at=None, state=back))


def mark_downloading(session: Session, ids: Sequence[int]) -> None:
    """Mark recordings as being downloaded."""
    session.connection().execute(update(_recordings).where(_recordings.c.id.in_(ids)).values(state="downloading"))


def unmark_downloading(session: Session, connection_id: int) -> None:
    """Reset downloads that a sync started but didn't finish to `listed`."""
    table = _recordings.c
    session.connection().execute(
        update(_recordings)
        .where(table.connection_id == connection_id, table.state == "downloading")
        .values(state="listed")
    )


def store_outcomes(session: Session, outcomes: Sequence[DownloadResult]) -> None:
    """Store download results, and update the state and duration of the calls."""
    if not outcomes:
        return
    names = [field.name for field in fields(DownloadResult)]
    rows = [{f"new_{name}": getattr(outcome, name) for name in names} for outcome in outcomes]
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names if name != "id"}
    statement = update(_recordings).where(_recordings.c.id == bindparam("new_id")).values(values)
    session.connection().execute(statement, rows)
    for chunk in chunks(outcome.id for outcome in outcomes):
        update_call_states(session, chunk)


def update_call_states(session: Session, recording_ids: Sequence[int]) -> None:
    """Set the state of these recordings' calls by precedence, and the duration to that of the longest recording."""
    table = _recordings.c
    calls = select(table.call_id).where(table.id.in_(recording_ids))
    rows = session.connection().execute(
        select(table.call_id, table.state, table.duration_s).where(table.call_id.in_(calls))
    )
    states: dict[int, list[str]] = {}
    durations_s: dict[int, float] = {}
    for call_id, state, duration_s in rows:
        states.setdefault(call_id, []).append(state)
        if duration_s is not None:
            durations_s[call_id] = max(duration_s, durations_s.get(call_id, 0))
    rolled_up = [
        {"call": call_id, "first_state": min(held, key=_BY_PRECEDENCE.index), "longest_s": durations_s.get(call_id)}
        for call_id, held in states.items()
    ]
    duration_s = func.coalesce(bindparam("longest_s"), _calls.c.duration_s)
    session.connection().execute(
        update(_calls)
        .where(_calls.c.id == bindparam("call"))
        .values(state=bindparam("first_state"), duration_s=duration_s),
        rolled_up,
    )


def utc_offset_s(session: Session, connection_id: int) -> int | None:
    """Return how many seconds the PBX's clock is ahead of UTC, or None if no recording name has shown it yet."""
    statement = select(_connections.c.utc_offset_s).where(_connections.c.id == connection_id)
    return session.connection().scalar(statement)


def learn_utc_offset(session: Session, connection_id: int, offset_s: int) -> None:
    """Save how many seconds the PBX's clock is ahead of UTC."""
    statement = update(_connections).where(_connections.c.id == connection_id).values(utc_offset_s=offset_s)
    session.connection().execute(statement)
