"""A visit is stored in one row, whatever its sources, their order and the number of times it is stored."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from sqlalchemy import Engine, func
from sqlmodel import col, select

from pbx.model.history import AgentEvent, Ring, Visit
from pbx.store.engine import reading, writing
from pbx.store.models import AgentEventRow, PbxConnection, RingRow, VisitRow
from pbx.store.visits import VisitSource, open_visits, store_agent_events, store_rings, store_visits

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
JOINED = Visit("9.1", "sales", AT, caller="+4930123", original_position=2)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


ANSWERED_VISIT = replace(
    JOINED, connected_at=after(12), ended_at=after(72), outcome="answered", wait_s=12.0, ring_s=3.0, talk_s=60.0,
    agent="Eve", ended_by="agent",
)  # fmt: skip
SEEN_LIVE = replace(  # the same visit, from live events
    ANSWERED_VISIT, joined_at=after(0.9), wait_s=11.7, talk_s=60.3, ring_s=2.9, ended_at=after(72.8),
    interface="PJSIP/1001", caller_name="Mara", original_position=None,
)  # fmt: skip


@pytest.fixture
def pbx(engine: Engine) -> int:
    with writing(engine) as session:
        row = PbxConnection(host="pbx")
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id


def store(engine: Engine, pbx: int, *visits: Visit, source: VisitSource = "queue_log") -> int:
    with writing(engine) as session:
        return store_visits(session, pbx, visits, source)


def rows(engine: Engine) -> list[VisitRow]:
    with reading(engine) as session:
        return list(session.exec(select(VisitRow).order_by(col(VisitRow.joined_at), col(VisitRow.id))))


def test_a_visit_is_stored_unchanged_and_once(engine: Engine, pbx: int) -> None:
    assert store(engine, pbx, ANSWERED_VISIT) == 1
    assert store(engine, pbx, ANSWERED_VISIT) == 0
    (row,) = rows(engine)
    expected = {name: getattr(ANSWERED_VISIT, name) for name in Visit.__dataclass_fields__}
    assert row.model_dump(exclude={"id", "connection_id"}) == expected | {"source": "queue_log"}


def test_the_same_visit_of_another_pbx_is_a_second_row(engine: Engine, pbx: int) -> None:
    store(engine, pbx, ANSWERED_VISIT)
    with writing(engine) as session:
        other = PbxConnection(host="other")
        session.add(other)
        session.flush()
        assert other.id is not None
        store_visits(session, other.id, [ANSWERED_VISIT], "queue_log")
    assert len(rows(engine)) == 2


def test_live_and_imported_data_become_one_visit_in_any_order(engine: Engine, pbx: int) -> None:
    reports: list[tuple[Visit, VisitSource]] = [
        (replace(JOINED, joined_at=after(0.9), caller_name="Mara", original_position=None), "live"),
        (SEEN_LIVE, "live"),
        (JOINED, "queue_log"),
        (ANSWERED_VISIT, "queue_log"),
    ]
    orders = list(permutations(reports))
    for number, order in enumerate(orders):
        for visit, source in order:
            store(engine, pbx, replace(visit, uniqueid=f"9.{number}"), source=source)
    found = rows(engine)
    assert len(found) == len(orders)
    for row in found:
        assert (row.outcome, row.source, row.wait_s, row.talk_s, row.ring_s) == ("answered", "queue_log", 12, 60, 3)
        assert (row.joined_at, row.caller_name, row.interface, row.original_position) == (AT, "Mara", "PJSIP/1001", 2)


@pytest.mark.parametrize("source", ["live", "queue_log"])
@pytest.mark.parametrize("open_outcome", ["in_progress", "unknown"])
def test_either_source_completes_a_visit_without_an_end(
    engine: Engine, pbx: int, source: VisitSource, open_outcome: str
) -> None:
    other: VisitSource = "live" if source == "queue_log" else "queue_log"
    store(engine, pbx, replace(JOINED, outcome=open_outcome), source=other)
    store(engine, pbx, replace(JOINED, outcome="abandoned", ended_at=after(30), wait_s=30), source=source)
    store(engine, pbx, replace(JOINED, outcome=open_outcome), source=other)  # the same again, without new facts
    (row,) = rows(engine)
    assert (row.outcome, row.wait_s, row.caller) == ("abandoned", 30, "+4930123")


def test_the_outcome_of_queue_log_replaces_the_live_outcome(engine: Engine, pbx: int) -> None:
    store(engine, pbx, SEEN_LIVE, source="live")
    store(engine, pbx, replace(JOINED, outcome="abandoned", ended_at=after(13), wait_s=13.0))
    (row,) = rows(engine)
    assert (row.outcome, row.agent, row.talk_s, row.connected_at) == ("abandoned", "", None, None)
    assert (row.caller_name, row.interface) == ("Mara", "PJSIP/1001")


def test_a_caller_who_returns_immediately_has_two_visits(engine: Engine, pbx: int) -> None:
    first = replace(JOINED, outcome="exit_empty", ended_at=AT, wait_s=0.0)
    second = replace(first, joined_at=after(1), ended_at=after(1))
    for visits in ((first, second), (first,), (second,), (second, first)):
        store(engine, pbx, *visits)
    assert [row.joined_at for row in rows(engine)] == [AT, after(1)]


def test_two_states_of_a_visit_stored_together_become_one_row(engine: Engine, pbx: int) -> None:
    assert store(engine, pbx, JOINED, ANSWERED_VISIT) == 1
    assert [row.outcome for row in rows(engine)] == ["answered"]


def test_storing_an_end_again_without_its_start_changes_nothing(engine: Engine, pbx: int) -> None:
    store(engine, pbx, ANSWERED_VISIT)
    without_start = replace(ANSWERED_VISIT, joined_at=after(1), caller="", connected_at=after(13), ring_s=None)
    assert store(engine, pbx, without_start) == 0


def test_open_visits_are_returned_by_source(engine: Engine, pbx: int) -> None:
    waiting = replace(JOINED, uniqueid="9.2")
    store(engine, pbx, ANSWERED_VISIT, waiting)
    store(engine, pbx, replace(JOINED, uniqueid="9.3"), source="live")
    with reading(engine) as session:
        assert open_visits(session, pbx, "queue_log") == [waiting]


def test_storing_thousands_of_visits_again_adds_none(engine: Engine, pbx: int) -> None:
    many = [replace(ANSWERED_VISIT, uniqueid=f"9.{n}", caller="5551234") for n in range(3000)]
    assert store(engine, pbx, *many) == 3000
    assert store(engine, pbx, *many) == 0
    assert store(engine, pbx, *(replace(visit, did="100") for visit in many[:10])) == 10


def test_a_ring_from_two_sources_is_stored_once_and_two_rings_twice(engine: Engine, pbx: int) -> None:
    ring = Ring(AT, "Eve", "sales", "9.1", 5.0)
    from_other_source = replace(ring, rung_at=after(1.2), ring_s=4.9)
    again = replace(ring, rung_at=after(6))
    immediate = [Ring(after(n), "Max", "sales", "9.1", 0.0) for n in (0, 1, 2)]  # a telephone that is unreachable
    for events, added in (
        ([ring], 1),
        ([from_other_source, again], 1),
        ([again, ring], 0),
        (immediate, 3),
        (immediate, 0),
        ([], 0),
    ):
        with writing(engine) as session:
            assert store_rings(session, pbx, events) == added
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(RingRow)).one() == 5


def test_an_agent_event_from_two_sources_is_stored_once(engine: Engine, pbx: int) -> None:
    pause = AgentEvent(AT, "Eve", "sales", "pause", "Lunch")
    back, again = replace(pause, happened_at=after(1), kind="unpause"), replace(pause, happened_at=after(2))
    from_other_source = replace(pause, happened_at=after(0.9))
    for events, added in (
        ([pause, back], 2),
        ([from_other_source], 0),
        ([again], 1),
        ([pause, back, again], 0),
        ([], 0),
    ):
        with writing(engine) as session:
            assert store_agent_events(session, pbx, events) == added
    with reading(engine) as session:
        found = session.exec(select(AgentEventRow).order_by(col(AgentEventRow.happened_at))).all()
    assert [(row.kind, row.reason) for row in found] == [("pause", "Lunch"), ("unpause", "Lunch"), ("pause", "Lunch")]
