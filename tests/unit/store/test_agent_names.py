"""An agent whom queue_log names by his interface is the member of that name."""

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
from tests.unit.store.history_rows import change, read_both_ways, ring, store, visit

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = FigureFilter(1, NOON, NOON + timedelta(hours=12))


def look(minute: int, **members: str) -> Snapshot:
    """Members of one queue each: interface → name."""
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


def test_snapshots_tell_who_is_behind_an_interface(engine: Engine) -> None:
    assert names(engine) == {}
    with writing(engine) as session:
        record_snapshot(session, 1, look(0, p1001="Anna", p1002="Bob", p1003="PJSIP/1003"))
        record_snapshot(session, 1, look(5, p1001="Anna"))  # Bob has gone home
        record_snapshot(session, 2, look(5, p1004="Cleo"))
    assert names(engine) == {"PJSIP/1001": "Anna", "PJSIP/1002": "Bob"}


def test_a_telephone_taken_over_is_whose_it_is_now(engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, 1, look(0, p1001="Anna"))
        store_latest(session, 1, look(5, p1001="Bob"))
    assert names(engine) == {"PJSIP/1001": "Bob"}


def test_two_names_at_once_are_nobody_s(engine: Engine) -> None:
    both = [Queue(name=name, members=(QueueMember(interface="PJSIP/1", name=name, status=1),)) for name in "ab"]
    with writing(engine) as session:
        store_latest(session, 1, Snapshot(taken_at=NOON, queues=tuple(both), parts={}))
    assert names(engine) == {}


def test_an_extension_is_whose_its_interface_is(engine: Engine) -> None:
    interfaces = {"PJSIP/201": "Anna", "Local/202@from-queue/n": "Bob", "SIP/front-desk": "Cleo"}
    several = {"PJSIP/203": "Dan", "Local/203@from-queue/n": "Eve"}
    members = tuple(QueueMember(interface=key, name=name, status=1) for key, name in (interfaces | several).items())
    with writing(engine) as session:
        store_latest(session, 1, Snapshot(taken_at=NOON, queues=(Queue(name="q", members=members),), parts={}))
    with reading(engine) as session:
        assert extension_names(session, 1) == {"201": "Anna", "202": "Bob", "front-desk": "Cleo"}


def test_one_agent_is_not_two(engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, 1, look(0, p1001="Anna", p1002="Bob"))
    hour = timedelta(hours=1)
    store(
        engine,
        change(NOON, "PJSIP/1001", "login"),  # ADDMEMBER of queue_log
        change(NOON + timedelta(seconds=1), "Anna", "login"),  # the same, heard live
        change(NOON + hour, "Anna", "pause", reason="Lunch"),
        change(NOON + 2 * hour, "PJSIP/1001", "logout"),
        visit(NOON + hour / 2, agent="Anna", talk_s=360.0),
        visit(NOON + hour / 2, agent="PJSIP/1001", talk_s=360.0, uniqueid="x"),
        ring(NOON + hour / 2, agent="Bob"),
    )
    anna, bob = read_both_ways(engine, lambda session: agent_figures(session, DAY))
    assert (anna.agent, anna.calls, anna.talk_s) == ("Anna", 2, 720.0)
    assert (anna.logged_in_s, anna.paused_s, anna.sessions) == (7200.0, 3600.0, 1)
    assert (bob.agent, bob.non_response) == ("Bob", 1)
    with reading(engine) as session:
        only = agent_sessions(session, replace(DAY, agent="Anna"))
    assert [(one.agent, one.until_at) for one in only] == [("Anna", NOON + 2 * hour)]
