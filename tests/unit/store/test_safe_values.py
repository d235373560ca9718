"""Texts and numbers of any size from outside: each is stored on either database, and takes nothing else with it."""

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


def noise(seed: int) -> str:
    """A text that no database packs smaller, in letters of up to four bytes, with what PostgreSQL refuses."""
    letters = string.ascii_letters + "äß€🔔"
    chosen = random.Random(seed)
    return "\0" + "".join(chosen.choice(letters) for _ in range(9_000))


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))


def leg(uniqueid: str, text: str) -> Leg:
    texts = {one.name: text for one in fields(Leg) if one.type is str} | {"uniqueid": uniqueid, "linkedid": uniqueid}
    times = dict.fromkeys(("answered_at", "ended_at", "bridged_at"), NOON)
    rest = {"duration_s": 1.0, "billsec_s": 1.0, "pdd_s": None, "cause": HUGE, "sequence": HUGE}
    return Leg(**texts | times | rest | {"started_at": NOON})  # type: ignore[arg-type]


def test_what_a_caller_may_write_is_stored_as_far_as_there_is_room(engine: Engine) -> None:
    odd, plain = noise(1), "plain"
    visits = [
        Visit(uniqueid, text, NOON, agent=text, did=text, caller=text, caller_name=text, position=HUGE)
        for uniqueid, text in ((noise(2), odd), ("2.1", plain))
    ]
    rings = [Ring(NOON, text, text, text) for text in (odd, plain)]
    changes = [AgentEvent(NOON, text, text, "pause", text) for text in (odd, plain)]
    legs = [leg(noise(2), odd), leg("2.1", plain)]
    for stored in (2, 0):  # the second time nothing is new
        with writing(engine) as session:
            assert store_visits(session, 1, visits, "live") == stored
            assert store_rings(session, 1, rings) == stored
            assert store_agent_events(session, 1, changes) == stored
            assert store_legs(session, 1, legs, "cdr").legs == stored
    with reading(engine) as session:
        for table in (VisitRow, RingRow, AgentEventRow, LegRow):
            assert len(session.exec(select(table)).all()) == 2
        calls = session.exec(select(CallRow)).all()
        assert {call.queue for call in calls} == {bounded_text(odd), plain}
        assert all(len(call.queue) <= MAX_CHARACTERS for call in calls)
        assert {one.position for one in session.exec(select(VisitRow))} == {HUGE}
        assert {one.cause for one in session.exec(select(LegRow))} == {HUGE}


def test_counters_and_names_of_any_size_leave_their_samples(engine: Engine) -> None:
    name = noise(3)
    member = QueueMember(name=name, interface=name, status=HUGE)
    queue = Queue(name=name, calls=HUGE, longest_wait_s=HUGE, completed=HUGE, abandoned=HUGE, members=(member,))
    found = Snapshot(
        taken_at=NOON,
        system=System(version="22"),
        queues=(queue, Queue(name="601")),
        trunks=(Trunk(name=name, tech="PJSIP", state="registered", registers=True, channels=HUGE),),
        parts={part: SnapshotPart() for part in ("system", "extensions", "trunks", "queues", "active_calls")},
    )
    with writing(engine) as session:
        record_snapshot(session, 1, found)
    with writing(engine) as session:
        record_snapshot(session, 1, found.model_copy(update={"taken_at": NOON + timedelta(minutes=1)}))
    with reading(engine) as session:
        assert {sample.calls for sample in session.exec(select(QueueSample))} == {HUGE, 0}


def test_a_recording_of_more_than_two_gigabytes_has_its_size(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(CallRow(id=1, connection_id=1, linkedid="1.1"))
        session.flush()
        session.add(RecordingRow(connection_id=1, call_id=1, name="x", size_bytes=HUGE))
    with reading(engine) as session:
        assert session.exec(select(RecordingRow.size_bytes)).one() == HUGE


@pytest.mark.parametrize("text", ["", "Zoë", "x" * 255, "ä" * 127, "🔔" * 63])
def test_what_fits_stays_as_it_is(text: str) -> None:
    assert bounded_text(text) == text
    ring = Ring(NOON, text, text, text)
    assert bounded([ring]) == [ring]


@pytest.mark.parametrize("text", ["x" * 256, "ä" * 128, "🔔" * 64, noise(4)])
def test_what_does_not_fit_is_cut_between_letters(text: str) -> None:
    cut = bounded_text(text)
    assert text.replace("\0", "").startswith(cut)
    assert MAX_TEXT_BYTES - 4 < len(cut.encode()) <= MAX_TEXT_BYTES
    (ring,) = bounded([replace(Ring(NOON, "", "", "1.1"), agent=text)])
    assert (ring.agent, ring.uniqueid) == (cut, "1.1")


def test_no_time_is_stored_before_1970() -> None:
    """Where SQL and Python divide days alike."""
    stored = UtcSeconds().process_bind_param(datetime(1709, 1, 1, tzinfo=UTC), None)  # type: ignore[arg-type]
    assert stored == 0
