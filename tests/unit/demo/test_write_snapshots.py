"""The snapshots written for the past show what the demo PBX reports at those moments."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlmodel import Session

from pbx.demo.channels import DEVICE_STATES
from pbx.demo.company import AGENTS, QUEUES, TRUNKS
from pbx.demo.simulated_asterisk import QueueState, member_headers
from pbx.demo.simulated_history import calls_between, trunk_changes_of_day
from pbx.demo.write_snapshots import LONGEST_SHIFT, SNAPSHOT_EVERY, write_snapshots
from pbx.settings import Connection, Settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import Table
from pbx.store.pbx_connections import save_connection
from pbx.store.snapshots import snapshot_gaps
from tests.simulator.pbx_state import PbxState, state_at

SINCE, UNTIL = datetime(2026, 11, 18, 7, tzinfo=UTC), datetime(2026, 11, 18, 13, tzinfo=UTC)
BOOTED_AT = datetime(2026, 11, 15, 4, tzinfo=UTC)
TABLES = Table.metadata.tables


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:

    settings = Settings(_env_file=None, pbx_data_dir=tmp_path_factory.mktemp("snapshots"))  # type: ignore[call-arg]
    opened = open_engine(settings)
    pbx = save_connection(opened, settings, Connection(host="127.0.0.1", ami_port=1, ari_port=1))
    with writing(opened) as session:
        write_snapshots(session, pbx, list(calls_between(SINCE - LONGEST_SHIFT, UNTIL)), SINCE, UNTIL)
    yield opened
    opened.dispose()


@pytest.mark.parametrize("minutes", range(0, 360, 25))
def test_a_snapshot_shows_what_the_pbx_reports(engine: Engine, minutes: int) -> None:
    at = SINCE + timedelta(minutes=minutes)
    state = state_at(at, BOOTED_AT)
    with reading(engine) as session:
        for queue in QUEUES:
            queue_state = next(one for one in state.queues if one.queue == queue)
            assert sample(session, "queue_samples", "queue", queue.number, at) == queue_row(queue_state, at)
        for trunk in TRUNKS:
            found = sample(session, "trunk_samples", "trunk", trunk.name, at)
            channels = sum(channel.endpoint == trunk.name for channel in state.channels)
            assert (found["state"], found["channels"]) == (state.registrations[trunk.name].lower(), channels)
            assert 3 < found["roundtrip_ms"] < 60
        for extension, status in state.devices.items():
            assert last_status(session, "extension_samples", "extension", extension, "", at) == {
                "status": DEVICE_STATES[status]
            }
        for agent in AGENTS:
            for queue_name in agent.queues:
                member = last_status(session, "member_samples", "member", agent.interface, queue_name, at)
                assert member == member_row(state, agent.extension, queue_name)


def queue_row(queue_state: QueueState, at: datetime) -> dict[str, object]:
    counters = queue_state.counters
    wrap_up_s = int(dict(member_headers(queue_state.members[0]))["Wrapuptime"]) if queue_state.members else 0
    wrapping = {
        member.agent.name
        for member in queue_state.members
        if member.last_call_at and at.timestamp() - int(member.last_call_at.timestamp()) < wrap_up_s
    }
    idle = [member for member in queue_state.members if member.status == 1 and not member.paused]
    return {
        "calls": len(queue_state.callers),
        "longest_wait_s": max((caller.wait_s for caller in queue_state.callers), default=0),
        "agents_available": sum(member.agent.name not in wrapping for member in idle),
        "agents": len(queue_state.members),
        "agents_paused": sum(member.paused for member in queue_state.members),
        "completed": counters.completed,
        "abandoned": counters.abandoned,
        "hold_time_s": counters.hold_s,
        "talk_time_s": counters.talk_s,
    }


def member_row(state: PbxState, extension: str, queue: str) -> dict[str, object] | None:
    members = next(one.members for one in state.queues if one.queue.number == queue)
    member = next((one for one in members if one.agent.extension == extension), None)
    if member is None:
        return None
    reported = {"status": member.status, "paused": member.paused, "pause_reason": member.reason}
    return reported | {"in_call": member.in_call}


def sample(session: Session, table: str, kind: str, name: str, at: datetime) -> dict[str, object]:
    found = rows(session, table, kind, name, "", at)
    assert found[-1]["taken_at"] == at
    return {key: value for key, value in found[-1].items() if key not in ("taken_at", "subject_id")}


def last_status(
    session: Session, table: str, kind: str, name: str, parent: str, at: datetime
) -> dict[str, object] | None:
    """The newest row up to a moment; None for a member who is logged out."""
    found = rows(session, table, kind, name, parent, at)
    if not found or found[-1]["status"] is None:
        return None
    return {key: value for key, value in found[-1].items() if key not in ("taken_at", "subject_id")}


def rows(session: Session, table: str, kind: str, name: str, parent: str, at: datetime) -> list[dict[str, object]]:
    of, subject = TABLES[table], TABLES["subjects"].c
    query = select(of).join(TABLES["subjects"], subject.id == of.c.subject_id)
    query = query.where(subject.kind == kind, subject.name == name, subject.parent == parent, of.c.taken_at <= at)
    return [dict(row) for row in session.connection().execute(query.order_by(of.c.taken_at)).mappings()]


def test_there_is_no_gap_between_snapshots(engine: Engine) -> None:
    with reading(engine) as session:
        assert snapshot_gaps(session, 1, SINCE, UNTIL, int(SNAPSHOT_EVERY.total_seconds())) == []


def test_a_trunk_change_is_sampled_at_its_moment(engine: Engine) -> None:

    with reading(engine) as session:
        samples = {
            (row["taken_at"], row["state"])
            for trunk in TRUNKS
            for row in rows(session, "trunk_samples", "trunk", trunk.name, "", UNTIL)
        }
    changes = [one for one in trunk_changes_of_day(SINCE.date()) if SINCE <= one[0] < UNTIL]
    assert changes
    assert {(at.replace(microsecond=0), state.lower()) for at, _, state in changes} <= samples


def test_a_time_range_that_starts_within_a_second_is_first_sampled_after_it(tmp_path: Path) -> None:
    """Its counters start at its beginning; samples before that would look like a restart."""
    begun_at, next_snapshot = SINCE + timedelta(milliseconds=500), SINCE + SNAPSHOT_EVERY
    settings = Settings(_env_file=None, pbx_data_dir=tmp_path)  # type: ignore[call-arg]
    opened = open_engine(settings)
    pbx = save_connection(opened, settings, Connection(host="127.0.0.1", ami_port=1, ari_port=1))
    with writing(opened) as session:
        write_snapshots(session, pbx, list(calls_between(begun_at - LONGEST_SHIFT, UNTIL)), begun_at, UNTIL)
    with reading(opened) as session:
        for queue in QUEUES:
            found = rows(session, "queue_samples", "queue", queue.number, "", next_snapshot)
            assert [row["taken_at"] for row in found] == [next_snapshot]
    opened.dispose()
