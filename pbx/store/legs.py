"""Store legs and the calls they form, in bulk: an import can contain a million legs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, insert, select, update
from sqlmodel import Session

from pbx.asterisk.formats.recording_names import parse_name, without_format
from pbx.model.call import Call
from pbx.model.call_from_legs import LegSource, fold_legs, merge_legs
from pbx.model.history import Leg
from pbx.store.merge_calls import delete_empty_calls, merge_calls
from pbx.store.models import LegRow, SubjectKind, Table
from pbx.store.queues_of_calls import update_call_queues
from pbx.store.safe_values import bounded

_CHUNK = 2000  # legs stored in one step
_calls, _recordings, _subjects = (Table.metadata.tables[name] for name in ("calls", "recordings", "subjects"))
_legs = Table.metadata.tables[str(LegRow.__tablename__)]
_COLUMNS = tuple(one.name for one in fields(Leg) if one.name in _legs.c)
_FACTS = tuple(one.name for one in fields(Call))
_stored_part = attrgetter(*_COLUMNS)
_KEPT = ("queue",)  # not overwritten once set, because visits and recording names are better sources
_LegKey = tuple[str, str, str]


class StoredCounts(NamedTuple):
    """The numbers of new legs and new calls."""

    legs: int
    calls: int


@dataclass(slots=True)
class _LegRow:
    """A leg that is stored or will be stored. `id` and `call_id` are None until then."""

    leg: Leg
    source: str
    id: int | None = None
    call_id: int | None = None
    changed: bool = False


@dataclass(slots=True)
class _Known:
    """The stored calls and legs that a batch of new legs can belong to."""

    calls: dict[str, Mapping[str, Any]]  # by linkedid
    rows: dict[_LegKey, _LegRow] = field(default_factory=dict)  # by linkedid, channel, dst_channel
    by_uniqueid: dict[_LegKey, _LegRow] = field(default_factory=dict)  # by uniqueid, channel, dst_channel
    left: set[int] = field(default_factory=set)  # ids of calls that lost legs to another call


def store_legs(session: Session, connection_id: int, legs: Sequence[Leg], source: LegSource) -> StoredCounts:
    """Store legs, update the calls they belong to, and return how many legs and calls are new.

    Linkedid, channel and dst_channel identify a leg. If live events and the CDR contain the same leg, the CDR wins, and
    fields that only live events have are kept (`pbx.model.call_from_legs.merge_legs`). All legs with the same linkedid
    form one call (`fold_legs`), whose duration is that of its recording if it is known, and whose queues are those of
    its visits. A call that was created for a recording only is merged into the call of the recording's leg, with its
    notes and tags.
    """
    session.flush()  # because SQL statements also move notes and tags
    legs = bounded(legs)
    chunks = [
        _store_chunk(session, connection_id, legs[start : start + _CHUNK], source)
        for start in range(0, len(legs), _CHUNK)
    ]
    return StoredCounts(sum(chunk.legs for chunk in chunks), sum(chunk.calls for chunk in chunks))


def known_trunks(session: Session, connection_id: int) -> frozenset[str]:
    """Return the names of all trunks that this PBX has or had."""
    kind: SubjectKind = "trunk"
    names = select(_subjects.c.name).where(_subjects.c.connection_id == connection_id, _subjects.c.kind == kind)
    return frozenset(session.connection().scalars(names))


def legs_of(session: Session, call_id: int) -> list[LegRow]:
    """Return a call's legs, in order of their start."""
    rows = session.connection().execute(
        select(_legs).where(_legs.c.call_id == call_id).order_by(_legs.c.started_at, _legs.c.sequence, _legs.c.id)
    )
    return [LegRow(**row) for row in rows.mappings()]


def legs_of_linkedids(session: Session, connection_id: int, linkedids: Sequence[str]) -> dict[LegSource, list[Leg]]:
    """Return {source: stored legs} of the calls with these linkedids."""
    found: dict[LegSource, list[Leg]] = {"live": [], "cdr": []}
    wanted = select(_legs).where(_legs.c.connection_id == connection_id, _legs.c.linkedid.in_(linkedids))
    for row in session.connection().execute(wanted).mappings():
        found["cdr" if row["source"] == "cdr" else "live"].append(Leg(**{name: row[name] for name in _COLUMNS}))
    return found


def _store_chunk(session: Session, connection_id: int, legs: Sequence[Leg], source: LegSource) -> StoredCounts:
    known = _known(session, connection_id, legs)
    touched = set(order := [_merge_into_known(known, leg, source).leg.linkedid for leg in legs])
    fresh = dict.fromkeys(linkedid for linkedid in order if linkedid not in known.calls)
    _make_calls(session, connection_id, known, fresh)
    count = _write_legs(session, connection_id, known)
    joined = _join_recordings(session, connection_id, known, touched)
    _write_calls(session, known, (touched - fresh.keys()) | joined)
    _update_calls_that_lost_legs(session, known.left)
    call_ids = {known.calls[linkedid]["id"] for linkedid in joined} | known.left
    call_ids |= {row.call_id for row in known.rows.values() if row.changed and row.call_id is not None}
    update_call_queues(session, connection_id, call_ids)
    return StoredCounts(count, len(fresh))


def _known(session: Session, connection_id: int, legs: Sequence[Leg]) -> _Known:
    """Read the stored legs of these legs' calls, and other calls that have legs with the same uniqueids."""
    linkedids = list({leg.linkedid for leg in legs})
    known = _Known(_read_calls(session, connection_id, linkedids))
    _read_legs(session, connection_id, known, _legs.c.linkedid.in_(linkedids))
    _read_legs(session, connection_id, known, _legs.c.uniqueid.in_(list({leg.uniqueid for leg in legs})))
    elsewhere = list({row.leg.linkedid for row in known.rows.values()} - set(linkedids))
    if elsewhere:
        _read_legs(session, connection_id, known, _legs.c.linkedid.in_(elsewhere))
        known.calls |= _read_calls(session, connection_id, elsewhere)
    return known


def _read_legs(session: Session, connection_id: int, known: _Known, which: ColumnElement[bool]) -> None:
    wanted = select(_legs).where(_legs.c.connection_id == connection_id, which)
    for values in session.connection().execute(wanted).mappings():
        leg = Leg(**{name: values[name] for name in _COLUMNS})
        if _key(leg) not in known.rows:
            _add(known, _LegRow(leg, values["source"], values["id"], values["call_id"]))


def _read_calls(session: Session, connection_id: int, linkedids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    columns = [_calls.c[name] for name in ("id", "linkedid", *_FACTS)]
    wanted = select(*columns).where(_calls.c.connection_id == connection_id, _calls.c.linkedid.in_(linkedids))
    return {row.linkedid: row._asdict() for row in session.connection().execute(wanted)}


def _key(leg: Leg) -> _LegKey:
    return leg.linkedid, leg.channel, leg.dst_channel


def _add(known: _Known, row: _LegRow) -> None:
    known.rows[_key(row.leg)] = row
    known.by_uniqueid[row.leg.uniqueid, row.leg.channel, row.leg.dst_channel] = row


def _merge_into_known(known: _Known, leg: Leg, source: LegSource) -> _LegRow:
    """Merge a leg into its known row, or add a row for it. Returns the row."""
    row = known.rows.get(_key(leg)) or known.by_uniqueid.get((leg.uniqueid, leg.channel, leg.dst_channel))
    if row is None:
        row = _LegRow(leg, source, changed=True)
        _add(known, row)
        return row
    if source == row.source and _stored_part(leg) == _stored_part(row.leg):
        return row
    merged = merge_legs(row.leg, row.source, leg, source)
    better = "cdr" if "cdr" in (row.source, source) else "live"
    if (merged, better) == (row.leg, row.source):
        return row
    if merged.linkedid != row.leg.linkedid:
        if (taken := (merged.linkedid, merged.channel, merged.dst_channel)) in known.rows:
            merged = replace(merged, linkedid=row.leg.linkedid)  # both legs are stored already; each stays in its call
        else:
            del known.rows[_key(row.leg)]
            known.rows[taken] = row
            if row.call_id is not None:
                known.left.add(row.call_id)
            row.call_id = None
    row.leg, row.source, row.changed = merged, better, True
    return row


def _make_calls(session: Session, connection_id: int, known: _Known, fresh: Iterable[str]) -> None:
    """Add the missing calls, with facts from their legs, and assign each leg to its call."""
    folded = _folded(known, fresh)
    rest = {"connection_id": connection_id, "source": "freepbx", "state": "none"}
    rows = [rest | facts | {"linkedid": linkedid, "uniqueid": linkedid} for linkedid, facts in folded.items()]
    if rows:
        made = session.connection().execute(insert(_calls).returning(_calls.c.id, _calls.c.linkedid), rows)
        known.calls |= {row.linkedid: folded[row.linkedid] | {"id": row.id} for row in made}
    for row in known.rows.values():
        if row.call_id is None:
            row.call_id = known.calls[row.leg.linkedid]["id"]


def _folded(known: _Known, linkedids: Iterable[str]) -> dict[str, dict[str, Any]]:
    legs: dict[str, list[Leg]] = {linkedid: [] for linkedid in linkedids}
    for row in known.rows.values():
        if row.leg.linkedid in legs:
            legs[row.leg.linkedid].append(row.leg)
    return {linkedid: _values(fold_legs(of_call)) for linkedid, of_call in legs.items()}


def _values(facts: Call) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in _FACTS}


def _write_legs(session: Session, connection_id: int, known: _Known) -> int:
    changed = [row for row in known.rows.values() if row.changed]
    values = [
        {name: getattr(row.leg, name) for name in _COLUMNS} | {"source": row.source, "call_id": row.call_id}
        for row in changed
    ]
    fresh = [one | {"connection_id": connection_id} for one, row in zip(values, changed, strict=True) if row.id is None]
    again = [one | {"leg_id": row.id} for one, row in zip(values, changed, strict=True) if row.id is not None]
    if fresh:
        session.connection().execute(insert(_legs), fresh)
    if again:
        session.connection().execute(update(_legs).where(_legs.c.id == bindparam("leg_id")), again)
    return len(fresh)


def _write_calls(session: Session, known: _Known, linkedids: set[str]) -> None:
    """Derive the facts of these calls from their legs, and update the calls that differ."""
    changed = []
    measured = _with_known_duration(session, [known.calls[linkedid]["id"] for linkedid in linkedids])
    for linkedid, folded in _folded(known, linkedids).items():
        call = known.calls[linkedid]
        keep = {name for name in _FACTS if folded[name] in (None, "") or (name in _KEPT and call[name])}
        if call["id"] in measured:
            keep.add("duration_s")
        after = {name: call[name] if name in keep else folded[name] for name in _FACTS}
        if any(after[name] != call[name] for name in _FACTS):
            changed.append({"call_id": call["id"]} | after)
    if changed:
        session.connection().execute(update(_calls).where(_calls.c.id == bindparam("call_id")), changed)


def _with_known_duration(session: Session, call_ids: Sequence[int]) -> set[int]:
    """Return the ids of the calls that have a recording with a known duration."""
    table = _recordings.c
    wanted = select(table.call_id).where(table.call_id.in_(call_ids), table.duration_s.is_not(None))
    return set(session.connection().scalars(wanted))


def _join_recordings(session: Session, connection_id: int, known: _Known, touched: set[str]) -> set[str]:
    """Merge calls that consist only of a recording into the call of its leg. Returns the linkedids of the latter."""
    of_uniqueid: dict[str, int] = {}
    of_file: dict[str, int] = {}
    for row in known.rows.values():
        leg, call_id = row.leg, row.call_id
        if leg.linkedid not in touched or call_id is None:
            continue
        if leg.uniqueid != leg.linkedid:
            of_uniqueid[leg.uniqueid] = call_id
        if not (file := without_format(leg.recording_file)):
            continue
        named = parse_name(file)
        if named.uniqueid and named.uniqueid not in (leg.uniqueid, leg.linkedid):
            of_uniqueid[named.uniqueid] = call_id
        # Not a FreePBX name: the recording may have been listed without a uniqueid.
        if not (named.from_number and named.to_number):
            of_file[file] = call_id
    into = _calls_without_legs(session, connection_id, of_uniqueid) | _calls_by_file(session, connection_id, of_file)
    if not into:
        return set()
    merge_calls(session, into)
    remain = set(into.values())
    joined = {linkedid for linkedid in touched if known.calls[linkedid]["id"] in remain}
    known.calls |= _read_calls(session, connection_id, list(joined))
    return joined


def _calls_without_legs(session: Session, connection_id: int, of_uniqueid: Mapping[str, int]) -> dict[int, int]:
    """Return {id of a call without legs: id of the call that has a leg whose uniqueid is the former's linkedid}."""
    has_legs = select(_legs.c.id).where(_legs.c.call_id == _calls.c.id).exists()
    wanted = select(_calls.c.id, _calls.c.linkedid).where(
        _calls.c.connection_id == connection_id, _calls.c.linkedid.in_(list(of_uniqueid)), ~has_legs
    )
    found = session.connection().execute(wanted)
    return {row.id: of_uniqueid[row.linkedid] for row in found if row.id != of_uniqueid[row.linkedid]}


def _calls_by_file(session: Session, connection_id: int, of_file: Mapping[str, int]) -> dict[int, int]:
    """Return {call id of a recording not named by FreePBX: id of the call that has a leg with its file name}."""
    if not of_file:
        return {}
    table = _recordings.c
    wanted = (
        select(table.name, table.call_id)
        .join(_calls, _calls.c.id == table.call_id)
        .where(table.connection_id == connection_id, table.uniqueid == "", _calls.c.linkedid == table.name)
    )
    found = {row.call_id: of_file.get(row.name.rpartition("/")[2]) for row in session.connection().execute(wanted)}
    return {call_id: to_id for call_id, to_id in found.items() if to_id is not None}


def _update_calls_that_lost_legs(session: Session, call_ids: set[int]) -> None:
    """Update calls that lost legs from their remaining ones. Delete calls without legs, recordings, notes or tags."""
    for call_id in delete_empty_calls(session, call_ids) if call_ids else ():
        found = session.connection().execute(select(_legs).where(_legs.c.call_id == call_id)).mappings()
        legs = [Leg(**{name: row[name] for name in _COLUMNS}) for row in found]
        if legs:
            folded = {name: value for name, value in _values(fold_legs(legs)).items() if value not in (None, "")}
            session.connection().execute(update(_calls).where(_calls.c.id == call_id).values(folded))
