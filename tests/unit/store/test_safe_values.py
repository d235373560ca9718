"""Texts and numbers of any size are stored in both databases, and don't prevent other rows from being stored."""

import random
import string
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.model.history import AgentEvent, Leg, Ring, Visit
from pbx.model.snapshot import Queue, QueueMember, Snapshot, SnapshotPart, System, Trunk
from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.models import (
    AgentEventRow,
    CallRow,
    LegRow,
    PbxConnection,
    QueueSample,
    RecordingRow,
    RingRow,
    UtcSeconds,
    VisitRow,
)
from pbx.store.queues_of_calls import MAX_CHARACTERS
from pbx.store.safe_values import MAX_TEXT_BYTES, bounded, bounded_text
from pbx.store.snapshots import record_snapshot
from pbx.store.visits import store_agent_events, store_rings, store_visits

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HUGE = 2**33


def random_text(seed: int) -> str:
    """An incompressible text in letters of up to four bytes, with a NUL, which PostgreSQL refuses."""
    letters = string.ascii_letters + "äß€🔔"
    generator = random.Random(seed)
    return "\0" + "".join(generator.choice(letters) for _ in range(9_000))


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))


def leg(uniqueid: str, text: str) -> Leg:
    texts = {one.name: text for one in fields(Leg) if one.type is str} | {"uniqueid": uniqueid, "linkedid": uniqueid}
    times = dict.fromkeys(("answered_at", "ended_at", "bridged_at"), NOON)
    rest = {"duration_s": 1.0, "billsec_s": 1.0, "pdd_s": None, "cause": HUGE, "sequence": HUGE}
    return Leg(**texts | times | rest | {"started_at": NOON})  # type: ignore[arg-type]


def test_long_texts_in_visits_rings_events_and_legs_are_cut_and_stored(engine: Engine) -> None:
    long, plain = random_text(1), "plain"
    visits = [
        Visit(uniqueid, text, NOON, agent=text, did=text, caller=text, caller_name=text, position=HUGE)
        for uniqueid, text in ((random_text(2), long), ("2.1", plain))
    ]
    rings = [Ring(NOON, text, text, text) for text in (long, plain)]
    agent_events = [AgentEvent(NOON, text, text, "pause", text) for text in (long, plain)]
    legs = [leg(random_text(2), long), leg("2.1", plain)]
    for stored in (2, 0):  # the second time, nothing is new
        with writing(engine) as session:
            assert store_visits(session, 1, visits, "live") == stored
            assert store_rings(session, 1, rings) == stored
            assert store_agent_events(session, 1, agent_events) == stored
            assert store_legs(session, 1, legs, "cdr").legs == stored
    with reading(engine) as session:
        for table in (VisitRow, RingRow, AgentEventRow, LegRow):
            assert len(session.exec(select(table)).all()) == 2
        calls = session.exec(select(CallRow)).all()
        assert {call.queue for call in calls} == {bounded_text(long), plain}
        assert all(len(call.queue) <= MAX_CHARACTERS for call in calls)
        assert {one.position for one in session.exec(select(VisitRow))} == {HUGE}
        assert {one.cause for one in session.exec(select(LegRow))} == {HUGE}


def test_a_snapshot_with_huge_counters_and_long_names_is_stored(engine: Engine) -> None:
    name = random_text(3)
    member = QueueMember(name=name, interface=name, status=HUGE)
    queue = Queue(name=name, calls=HUGE, longest_wait_s=HUGE, completed=HUGE, abandoned=HUGE, members=(member,))
    snapshot = Snapshot(
        taken_at=NOON,
        system=System(version="22"),
        queues=(queue, Queue(name="601")),
        trunks=(Trunk(name=name, tech="PJSIP", state="registered", registers=True, channels=HUGE),),
        parts={part: SnapshotPart() for part in ("system", "extensions", "trunks", "queues", "active_calls")},
    )
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot)
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot.model_copy(update={"taken_at": NOON + timedelta(minutes=1)}))
    with reading(engine) as session:
        assert {sample.calls for sample in session.exec(select(QueueSample))} == {HUGE, 0}


def test_the_size_of_a_recording_may_exceed_two_gigabytes(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(CallRow(id=1, connection_id=1, linkedid="1.1"))
        session.flush()
        session.add(RecordingRow(connection_id=1, call_id=1, name="x", size_bytes=HUGE))
    with reading(engine) as session:
        assert session.exec(select(RecordingRow.size_bytes)).one() == HUGE


@pytest.mark.parametrize("text", ["", "Zoë", "x" * 255, "ä" * 127, "🔔" * 63])
def test_texts_that_fit_are_unchanged(text: str) -> None:
    assert bounded_text(text) == text
    ring = Ring(NOON, text, text, text)
    assert bounded([ring]) == [ring]


@pytest.mark.parametrize("text", ["x" * 256, "ä" * 128, "🔔" * 64, random_text(4)])
def test_texts_that_are_too_long_are_cut_between_letters(text: str) -> None:
    cut = bounded_text(text)
    assert text.replace("\0", "").startswith(cut)
    assert MAX_TEXT_BYTES - 4 < len(cut.encode()) <= MAX_TEXT_BYTES
    (ring,) = bounded([replace(Ring(NOON, "", "", "1.1"), agent=text)])
    assert (ring.agent, ring.uniqueid) == (cut, "1.1")


def test_times_before_1970_are_stored_as_1970() -> None:
    """From 1970, SQL and Python divide seconds into the same days."""
    stored = UtcSeconds().process_bind_param(datetime(1709, 1, 1, tzinfo=UTC), None)  # type: ignore[arg-type]
    assert stored == 0
