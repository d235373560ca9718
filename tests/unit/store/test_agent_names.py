"""Agents that queue_log names by their interface get the name of the queue member with that interface."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from pbx.analytics.agents import agent_figures, agent_sessions
from pbx.analytics.queues import FigureFilter
from pbx.model.snapshot import Queue, QueueMember, Snapshot, SnapshotPart
from pbx.store.agent_names import agent_names, extension_names
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection
from pbx.store.snapshots import record_snapshot, store_latest
from tests.unit.store.history_rows import agent_event, read_both_ways, ring, store, visit

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = FigureFilter(1, NOON, NOON + timedelta(hours=12))


def snapshot_at(minute: int, **members: str) -> Snapshot:
    """A snapshot at a minute after noon. `members` maps interfaces to names; each member has a queue of its own."""
    queues = tuple(
        Queue(name=f"q{number}", members=(QueueMember(interface=f"PJSIP/{interface[1:]}", name=name, status=1),))
        for number, (interface, name) in enumerate(members.items())
    )
    return Snapshot(taken_at=NOON + timedelta(minutes=minute), queues=queues, parts={"queues": SnapshotPart()})


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other"))


def names(engine: Engine) -> dict[str, str]:
    with reading(engine) as session:
        return agent_names(session, 1)


def test_snapshots_give_the_agent_name_of_an_interface(engine: Engine) -> None:
    assert names(engine) == {}
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot_at(0, p1001="Anna", p1002="Bob", p1003="PJSIP/1003"))
        record_snapshot(session, 1, snapshot_at(5, p1001="Anna"))  # Bob has logged out
        record_snapshot(session, 2, snapshot_at(5, p1004="Cleo"))
    assert names(engine) == {"PJSIP/1001": "Anna", "PJSIP/1002": "Bob"}


def test_an_interface_with_a_new_agent_gets_the_new_name(engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot_at(0, p1001="Anna"))
        store_latest(session, 1, snapshot_at(5, p1001="Bob"))
    assert names(engine) == {"PJSIP/1001": "Bob"}


def test_an_interface_with_two_current_names_has_no_name(engine: Engine) -> None:
    queues = [Queue(name=name, members=(QueueMember(interface="PJSIP/1", name=name, status=1),)) for name in "ab"]
    with writing(engine) as session:
        store_latest(session, 1, Snapshot(taken_at=NOON, queues=tuple(queues), parts={}))
    assert names(engine) == {}


def test_an_extension_gets_the_name_of_the_interface_that_contains_it(engine: Engine) -> None:
    interfaces = {"PJSIP/201": "Anna", "Local/202@from-queue/n": "Bob", "SIP/front-desk": "Cleo"}
    ambiguous = {"PJSIP/203": "Dan", "Local/203@from-queue/n": "Eve"}
    members = tuple(QueueMember(interface=key, name=name, status=1) for key, name in (interfaces | ambiguous).items())
    with writing(engine) as session:
        store_latest(session, 1, Snapshot(taken_at=NOON, queues=(Queue(name="q", members=members),), parts={}))
    with reading(engine) as session:
        assert extension_names(session, 1) == {"201": "Anna", "202": "Bob", "front-desk": "Cleo"}


def test_an_agent_logged_by_name_and_by_interface_counts_as_one(engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot_at(0, p1001="Anna", p1002="Bob"))
    hour = timedelta(hours=1)
    store(
        engine,
        agent_event(NOON, "PJSIP/1001", "login"),  # ADDMEMBER of queue_log
        agent_event(NOON + timedelta(seconds=1), "Anna", "login"),  # the same login, from a live event
        agent_event(NOON + hour, "Anna", "pause", reason="Lunch"),
        agent_event(NOON + 2 * hour, "PJSIP/1001", "logout"),
        visit(NOON + hour / 2, agent="Anna", talk_s=360.0),
        visit(NOON + hour / 2, agent="PJSIP/1001", talk_s=360.0, uniqueid="x"),
        ring(NOON + hour / 2, agent="Bob"),
    )
    anna, bob = read_both_ways(engine, lambda session: agent_figures(session, DAY))
    assert (anna.agent, anna.calls, anna.talk_s) == ("Anna", 2, 720.0)
    assert (anna.logged_in_s, anna.paused_s, anna.sessions) == (7200.0, 3600.0, 1)
    assert (bob.agent, bob.non_response) == ("Bob", 1)
    with reading(engine) as session:
        sessions = agent_sessions(session, replace(DAY, agent="Anna"))
    assert [(one.agent, one.until_at) for one in sessions] == [("Anna", NOON + 2 * hour)]
