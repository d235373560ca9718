"""Snapshots are stored as samples, and the history of a period is read from them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from pbx.analytics.trunk_status import trunk_history
from pbx.model.snapshot import ActiveCall, Extension, Queue, QueueMember, Snapshot, SnapshotPart, System, Trunk
from pbx.store.engine import reading, writing
from pbx.store.models import (
    ExtensionSample,
    LatestSnapshot,
    MemberSample,
    PbxConnection,
    QueueSample,
    SampledSubject,
    SnapshotRow,
    TrunkSample,
)
from pbx.store.snapshots import latest_snapshot, queue_history, record_snapshot, snapshot_gaps

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OK = SnapshotPart()
ANNA = QueueMember(name="Anna", interface="PJSIP/1001", status=1)
BOB = QueueMember(name="Bob", interface="PJSIP/1002", status=2, paused=True, pause_reason="Lunch")
SALES = Queue(name="sales", calls=2, longest_wait_s=30, completed=7, members=(ANNA, BOB))
CARRIER = Trunk(name="carrier", tech="PJSIP", state="registered", roundtrip_ms=12.5, channels=3)
PHONE = Extension(extension="1001", tech="PJSIP", status="Not in use")


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def snapshot_at(minutes: float, **changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "taken_at": at(minutes),
        "queues": (SALES,),
        "trunks": (CARRIER,),
        "extensions": (PHONE,),
        "parts": dict.fromkeys(("system", "queues", "trunks", "extensions", "active_calls"), OK),
    }
    return Snapshot(**values | changes)


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    with writing(engine) as session:
        session.add_all([PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other")])


def record(engine: Engine, *snapshots: Snapshot, connection_id: int = 1) -> None:
    for snapshot in snapshots:
        with writing(engine) as session:
            record_snapshot(session, connection_id, snapshot)


def minutes_of(engine: Engine, model: type[Any]) -> list[float]:
    with reading(engine) as session:
        return [
            (row.taken_at - NOON).total_seconds() / 60 for row in session.exec(select(model).order_by(model.taken_at))
        ]


def with_members(*members: QueueMember) -> dict[str, Any]:
    return {"queues": (SALES.model_copy(update={"members": members}),)}


def test_each_part_of_a_snapshot_is_stored(engine: Engine) -> None:
    system = System(version="22.10.0", channels=4)
    call = ActiveCall(linkedid="1.1", channel="PJSIP/1001-1", caller_id="1001", channels=("a", "b"))
    record(engine, snapshot_at(0, system=system, active_calls=(call,), took_ms=80))
    with reading(engine) as session:
        row = session.exec(select(SnapshotRow)).one()
        assert (row.taken_at, row.took_ms, row.active_calls, row.channels, row.incomplete_parts) == (NOON, 80, 1, 4, {})
        queue = session.exec(select(QueueSample)).one()
        assert (queue.calls, queue.longest_wait_s, queue.completed) == (2, 30, 7)
        assert (queue.agents, queue.agents_available, queue.agents_paused) == (2, 1, 1)
        trunk = session.exec(select(TrunkSample)).one()
        assert (trunk.state, trunk.roundtrip_ms, trunk.channels) == ("registered", 12.5, 3)
        members = session.exec(select(MemberSample).order_by(col(MemberSample.subject_id))).all()
        assert [(m.status, m.paused, m.pause_reason) for m in members] == [(1, False, ""), (2, True, "Lunch")]
        assert session.exec(select(ExtensionSample)).one().status == "Not in use"
        subjects = session.exec(select(SampledSubject).order_by(col(SampledSubject.id))).all()
        assert [(s.kind, s.name, s.tech, s.parent, s.label) for s in subjects] == [
            ("queue", "sales", "", "", ""),
            ("member", "PJSIP/1001", "", "sales", "Anna"),
            ("member", "PJSIP/1002", "", "sales", "Bob"),
            ("trunk", "carrier", "", "", ""),
            ("extension", "1001", "PJSIP", "", ""),
        ]


def test_members_and_extensions_are_stored_only_when_they_change(engine: Engine) -> None:
    busy = ANNA.model_copy(update={"status": 2})
    ringing = PHONE.model_copy(update={"status": "Ringing"})
    record(
        engine,
        snapshot_at(0),
        snapshot_at(1),
        snapshot_at(2, **with_members(busy, BOB)),
        snapshot_at(3, extensions=(ringing,)),
        snapshot_at(4),
    )
    assert minutes_of(engine, QueueSample) == [0, 1, 2, 3, 4]
    assert minutes_of(engine, TrunkSample) == [0, 1, 2, 3, 4]
    assert minutes_of(engine, MemberSample) == [0, 0, 2, 3]
    assert minutes_of(engine, ExtensionSample) == [0, 3, 4]


def test_leaving_and_returning_members_are_stored_once_each(engine: Engine) -> None:
    without_anna = with_members(BOB) | {"extensions": ()}
    record(engine, snapshot_at(0), snapshot_at(1, **without_anna), snapshot_at(2, **without_anna), snapshot_at(3))
    with reading(engine) as session:
        anna = (
            select(MemberSample)
            .join(SampledSubject, col(SampledSubject.id) == MemberSample.subject_id)
            .where(SampledSubject.label == "Anna")
        )
        stored = session.exec(anna.order_by(col(MemberSample.taken_at))).all()
        assert [(row.taken_at, row.status) for row in stored] == [(at(0), 1), (at(1), None), (at(3), 1)]
        phones = session.exec(select(ExtensionSample).order_by(col(ExtensionSample.taken_at))).all()
        assert [(row.taken_at, row.status) for row in phones] == [
            (at(0), "Not in use"),
            (at(1), ""),
            (at(3), "Not in use"),
        ]


@pytest.mark.parametrize("state", ["denied", "absent", "failed"])
def test_an_unavailable_part_adds_no_sample(engine: Engine, state: str) -> None:
    part = SnapshotPart.model_validate({"state": state, "reason": "the class `agent` is missing"})
    unavailable = dict.fromkeys(("queues", "trunks", "extensions"), part)
    record(
        engine, snapshot_at(0), snapshot_at(1, queues=(), trunks=(), extensions=(), parts=unavailable), snapshot_at(2)
    )
    assert minutes_of(engine, SnapshotRow) == [0, 1, 2]
    assert minutes_of(engine, QueueSample) == [0, 2]
    assert minutes_of(engine, TrunkSample) == [0, 2]
    assert minutes_of(engine, MemberSample) == [0, 0]  # no member left meanwhile
    assert minutes_of(engine, ExtensionSample) == [0]
    with reading(engine) as session:
        row = session.exec(select(SnapshotRow).where(SnapshotRow.taken_at == at(1))).one()
        assert row.incomplete_parts == {
            name: {"state": state, "reason": "the class `agent` is missing"} for name in unavailable
        }


def test_a_part_that_was_not_requested_adds_no_sample(engine: Engine) -> None:
    record(engine, snapshot_at(0), snapshot_at(1, queues=(), extensions=(), parts={"trunks": OK}))
    assert minutes_of(engine, MemberSample) == [0, 0]
    assert minutes_of(engine, TrunkSample) == [0, 1]


def test_an_empty_queue_has_a_sample_with_no_agents(engine: Engine) -> None:
    record(engine, snapshot_at(0, queues=(Queue(name="sales"),)))
    with reading(engine) as session:
        assert session.exec(select(QueueSample)).one().agents == 0


def test_a_member_that_changes_name_keeps_its_history(engine: Engine) -> None:
    record(engine, snapshot_at(0), snapshot_at(1, **with_members(ANNA.model_copy(update={"name": "Anna-Lena"}), BOB)))
    with reading(engine) as session:
        labels = session.exec(
            select(SampledSubject.label).where(SampledSubject.kind == "member").order_by(col(SampledSubject.id))
        ).all()
    assert labels == ["Anna-Lena", "Bob"]


def test_a_member_of_two_queues_is_two_subjects(engine: Engine) -> None:
    other = Queue(name="support", members=(ANNA,))
    record(engine, snapshot_at(0, queues=(SALES, other)))
    with reading(engine) as session:
        rows = session.exec(
            select(SampledSubject.parent, SampledSubject.name)
            .where(SampledSubject.kind == "member")
            .order_by(SampledSubject.parent)
        )
        assert rows.all() == [("sales", "PJSIP/1001"), ("sales", "PJSIP/1002"), ("support", "PJSIP/1001")]


def test_each_pbx_has_its_own_history(engine: Engine) -> None:
    record(engine, snapshot_at(0))
    record(engine, snapshot_at(0, queues=(SALES.model_copy(update={"calls": 9}),)), connection_id=2)
    with reading(engine) as session:
        for number, calls in ((1, 2), (2, 9)):
            assert [p.calls for p in queue_history(session, number, "sales", at(0), at(1))] == [calls]


def test_the_second_snapshot_within_a_second_is_dropped(engine: Engine) -> None:
    record(engine, snapshot_at(0), snapshot_at(0.001, queues=(SALES.model_copy(update={"calls": 9}),)))
    assert minutes_of(engine, SnapshotRow) == [0]
    assert minutes_of(engine, QueueSample) == [0]


def test_the_latest_snapshot_is_read_back_unchanged(engine: Engine) -> None:
    unusual = QueueMember(name='Zoë "Zo" <O\'Brien> 日本 🙂\nx', interface="Local/4001@agents/n", status=6)
    newest = snapshot_at(5, **with_members(unusual))
    record(engine, snapshot_at(0), newest)
    with reading(engine) as session:
        assert latest_snapshot(session, 1) == newest.model_copy(update={"taken_at": at(5)})
        assert latest_snapshot(session, 2) is None


def test_an_older_snapshot_stored_late_does_not_become_the_latest(engine: Engine) -> None:
    record(engine, snapshot_at(5), snapshot_at(1, extensions=()))
    with reading(engine) as session:
        latest = latest_snapshot(session, 1)
    assert latest is not None
    assert latest.taken_at == at(5)


def test_a_latest_snapshot_from_the_future_is_replaced(engine: Engine) -> None:
    """The app's clock was set back: live pages must not freeze until the clock has caught up."""
    ahead_minutes = (datetime.now(UTC) + timedelta(hours=5) - NOON).total_seconds() / 60
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot_at(ahead_minutes))
        record_snapshot(session, 1, snapshot_at(5))
        latest = latest_snapshot(session, 1)
    assert latest is not None
    assert latest.taken_at == at(5)


def test_a_latest_snapshot_in_an_unknown_format_is_ignored(engine: Engine) -> None:
    record(engine, snapshot_at(0))
    with writing(engine) as session:
        row = session.get(LatestSnapshot, 1)
        assert row is not None
        row.document = '{"taken_at": "yesterday"}'
        session.add(row)
    with reading(engine) as session:
        assert latest_snapshot(session, 1) is None


def test_a_snapshot_is_stored_completely_or_not_at_all(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as session:
            record_snapshot(session, 1, snapshot_at(0))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    for model in (SnapshotRow, QueueSample, LatestSnapshot, ExtensionSample):
        assert minutes_of(engine, model) == []


def queue_points(session: Session, since: float, until: float, points: int) -> list[tuple[float, int, int, int]]:
    history = queue_history(session, 1, "sales", at(since), at(until), points)
    return [((p.taken_at - NOON).total_seconds() / 60, p.calls, p.longest_wait_s, p.agents_available) for p in history]


def test_a_queues_history_has_every_snapshot_while_they_fit(engine: Engine) -> None:
    record(engine, *(snapshot_at(m, queues=(SALES.model_copy(update={"calls": m}),)) for m in range(4)))
    with reading(engine) as session:
        assert queue_points(session, 1, 3, 1500) == [(1, 1, 30, 1), (2, 2, 30, 1)]
        assert queue_history(session, 1, "nobody", at(0), at(9)) == []


def test_a_long_history_is_reduced_to_buckets(engine: Engine) -> None:
    calls = [0, 5, 1, 2, 2, 9]
    waits = [0, 10, 90, 0, 0, 5]
    available = QueueMember(name="A", interface="a", status=1)
    for minute, (waiting, wait_s) in enumerate(zip(calls, waits, strict=True)):
        members = (available,) * 0 if minute == 4 else (available,)
        queue = Queue(name="sales", calls=waiting, longest_wait_s=wait_s, members=members)
        record(engine, snapshot_at(minute, queues=(queue,)))
    with reading(engine) as session:
        assert queue_points(session, 0, 6, 2) == [(0, 5, 90, 1), (3, 9, 5, 0)]


def test_a_trunks_history_keeps_every_change_of_state(engine: Engine) -> None:
    states = ["registered"] * 4 + ["rejected"] + ["registered"] * 5
    for minute, state in enumerate(states):
        record(
            engine, snapshot_at(minute, trunks=(Trunk(name="carrier", tech="PJSIP", state=state, channels=minute % 4),))
        )
    with reading(engine) as session:
        history = trunk_history(session, 1, "carrier", at(0), at(60), points=1)
    assert [(p.taken_at, p.state, p.channels) for p in history] == [
        (at(0), "registered", 3),
        (at(4), "rejected", 0),
        (at(5), "registered", 3),
    ]


def test_a_trunk_that_changes_technology_keeps_its_history(engine: Engine) -> None:
    record(
        engine,
        snapshot_at(0),
        snapshot_at(1, trunks=(CARRIER.model_copy(update={"tech": "SIP", "roundtrip_ms": 13.5}),)),
    )
    with reading(engine) as session:
        (point,) = trunk_history(session, 1, "carrier", at(0), at(60), points=1)
    assert (point.taken_at, point.roundtrip_ms) == (at(0), 13.0)


@pytest.mark.parametrize(
    ("minutes", "since", "until", "gaps"),
    [
        ([0, 1, 2, 3, 4], 0, 5, []),
        ([0, 1, 3, 4], 0, 5, []),  # one missing snapshot is no gap
        ([0, 1, 4, 5], 0, 5, [(1, 4)]),
        ([], 0, 5, [(0, 5)]),
        ([4, 5], 0, 6, [(0, 4)]),  # no earlier snapshot
        ([0, 1], 0, 6, [(1, 6)]),
        ([0, 20], 5, 10, [(5, 10)]),  # both snapshots are outside the period
        ([-1, 1, 6.5], 0, 5, [(1, 5)]),
        ([-1, 1, 3], 0, 4, []),
        ([0], 5, 5, []),
    ],
)
def test_gaps_are_periods_without_snapshots(
    engine: Engine, minutes: list[float], since: float, until: float, gaps: list[tuple[float, float]]
) -> None:
    record(engine, *map(snapshot_at, minutes))
    with reading(engine) as session:
        assert snapshot_gaps(session, 1, at(since), at(until), 60) == [(at(start), at(end)) for start, end in gaps]


def test_the_future_is_not_a_gap(engine: Engine) -> None:
    just_now = datetime.now(UTC).replace(microsecond=0)
    record(engine, snapshot_at(0, taken_at=just_now))
    with reading(engine) as session:
        assert snapshot_gaps(session, 1, just_now, just_now + timedelta(days=1), 60) == []
        assert snapshot_gaps(session, 1, just_now + timedelta(days=1), just_now + timedelta(days=2), 60) == []
