"""The listener and alerts with the cache on a real PostgreSQL, to which several threads write."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.alerts.rules import evaluate_rules
from pbx.analytics.queues import FigureFilter, queue_totals
from pbx.analytics.sealing import seal_history
from pbx.live.collect import collect_snapshot
from pbx.model.snapshot import Queue
from pbx.settings import Settings, load_settings
from pbx.store.engine import reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.models import Alert, AlertRule, LegRow, ListeningSpan, VisitRow
from pbx.store.pbx_connections import ActiveConnection
from pbx.store.snapshots import latest_snapshot, record_snapshot
from tests.lab.calls import PlacedCall, place_queue_call, place_trunk_call, start_queue_call
from tests.lab.live_and_imported import environment
from tests.lab.postgres import drop_tables, postgres
from tests.lab.process import wait_until
from tests.lab.scripted_calls import DESK, exclusive_desk
from tests.lab.servers import SERVERS, LabServer
from tests.unit.live.fake_pbx import listening

__all__ = ["postgres"]
pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


@pytest.fixture
def server(lab: None) -> LabServer:
    """Only the newer PBX, because these tests are about the database."""
    return SERVERS[22]


@pytest.fixture
def settings(server: LabServer, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    drop_tables(postgres)
    for name, value in (environment(server) | {"PBX_DATABASE_URL": postgres}).items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
def engine(engine: Engine) -> Engine:
    assert engine.dialect.name == "postgresql"
    return engine


def visit_of(engine: Engine, call: PlacedCall) -> VisitRow | None:
    with reading(engine) as session:
        return session.exec(select(VisitRow).where(VisitRow.uniqueid == call.uniqueid)).one_or_none()


def test_calls_are_stored_while_others_write(server: LabServer, settings: Settings, engine: Engine) -> None:
    since, active = datetime.now(UTC), required_connection(engine, settings)
    with listening(engine), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(place_queue_call, server, outcome, 2) for outcome in ("answered", "abandoned")]
        trunk = pool.submit(place_trunk_call, server, "busy", 2)
        while not all(call.done() for call in (*calls, trunk)):
            collect_snapshot(engine, active, output=None)
            seal_history(engine, active.id)
        time.sleep(2)
    for call in (one.result() for one in calls):
        visit = visit_of(engine, call)
        assert visit is not None
        assert (visit.outcome, visit.queue, visit.source) == (call.outcome, call.queue, "live")
    with reading(engine) as session:
        (leg,) = session.exec(select(LegRow).where(LegRow.linkedid == trunk.result().uniqueid)).all()
        (span,) = session.exec(select(ListeningSpan)).all()
        figures = queue_totals(session, FigureFilter(active.id, since, datetime.now(UTC)))
    assert (leg.trunk, leg.disposition, leg.cause) == ("carrier", "BUSY", 17)
    assert span.end_reason == "It was stopped."
    assert figures.outcomes.get("answered", 0) >= 1


def test_an_alert_starts_and_ends_once_though_several_workers_evaluate_it(
    server: LabServer, settings: Settings, engine: Engine
) -> None:
    active = required_connection(engine, settings)
    with writing(engine) as session:
        session.add(AlertRule(connection_id=active.id, kind="longest_wait", subject=DESK, threshold=1))
    with exclusive_desk(server), listening(engine):
        call = start_queue_call(server, DESK, ANSWER_S=60)
        wait_until("a snapshot shows the wait", lambda: desk_of(engine, active).longest_wait_s > 1)
        assert evaluate_together(engine, settings, active, datetime.now(UTC)) == [(DESK, "started")]
        call.hangup()
        wait_until("a snapshot shows the end", lambda: desk_of(engine, active).calls == 0)
    seen_at = datetime.now(UTC)
    for later_s, ended in ((60, []), (120, [(DESK, "ended")])):  # the second snapshot confirms the end
        at = seen_at + timedelta(seconds=later_s)
        with writing(engine) as session:
            snapshot = latest_snapshot(session, active.id)
            assert snapshot is not None
            record_snapshot(session, active.id, snapshot.model_copy(update={"taken_at": at}))
        assert evaluate_together(engine, settings, active, at) == ended
    with reading(engine) as session:
        (alert,) = session.exec(select(Alert)).all()
    assert alert.ended_at is not None
    assert re.match(r"The first caller has been waiting for \d s, longer than ", alert.description)


def desk_of(engine: Engine, active: ActiveConnection) -> Queue:
    with reading(engine) as session:
        snapshot = latest_snapshot(session, active.id)
    queues = snapshot.queues if snapshot else ()
    return next((queue for queue in queues if queue.name == DESK), Queue(name=DESK))


def evaluate_together(
    engine: Engine, settings: Settings, active: ActiveConnection, at: datetime
) -> list[tuple[str, str]]:
    """The changes when several workers evaluate alerts together."""
    with ThreadPoolExecutor(4) as pool:
        reported = pool.map(lambda _: evaluate_rules(engine, settings, active, at), range(4))
        return [(change.subject, change.event) for changes in reported for change in changes]
