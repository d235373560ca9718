"""The listener turns AMI events into database rows, also after a dropped connection or a killed process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.errors import DataError, Unreachable
from pbx.live import listener as listener_module
from pbx.live import snapshot_poller
from pbx.live.listener import LISTENER_SLOT, Listener, listen_inline, listener_alive
from pbx.process_lock import take_process_lock
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.listening_spans import CUT_OFF_REASON, begin_span
from pbx.store.models import AgentEventRow, Job, LatestSnapshot, LegRow, ListeningSpan, RingRow, SnapshotRow, VisitRow
from tests.operating_systems import needs_posix
from tests.unit.asterisk.ami.replay_server import VERSIONS, raw, wait_until
from tests.unit.live.fake_pbx import FakePbx, listening, queue_entry, start_fake_pbx


@pytest.fixture(params=VERSIONS)
def pbx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePbx]:
    monkeypatch.setattr(snapshot_poller, "QUIET_INTERVAL_S", 60.0)  # no snapshots except those that events request
    with start_fake_pbx(monkeypatch, request.param) as (pbx, _):
        pbx.version = request.param  # type: ignore[attr-defined]
        yield pbx


@pytest.fixture
def engine(pbx: FakePbx) -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def events(pbx: FakePbx) -> bytes:
    return raw(pbx.version, "events")  # type: ignore[attr-defined]


def visits(engine: Engine) -> list[VisitRow]:
    with reading(engine) as session:
        return list(session.exec(select(VisitRow).order_by(col(VisitRow.joined_at), col(VisitRow.id))))


def spans(engine: Engine) -> list[ListeningSpan]:
    with reading(engine) as session:
        return list(session.exec(select(ListeningSpan).order_by(col(ListeningSpan.id))))


def count(engine: Engine, model: type) -> int:
    with reading(engine) as session:
        return len(session.exec(select(model)).all())


def send_and_wait(pbx: FakePbx, listener: Listener, data: bytes) -> None:
    """Send events and wait until the listener has stored them."""
    before, new = listener.events, data.count(b"\r\n\r\n")
    pbx.send_events(data, 777)
    wait_until(lambda: listener.events >= before + new and not listener.queued.waiting)


def wait_for_reconnect(pbx: FakePbx, listener: Listener) -> None:
    """Wait until the listener has reconnected and repeated its first requests."""
    wait_until(
        lambda: pbx.requests.count("Filter") == 2 and pbx.requests.count("QueueStatus") >= 3 and listener._listening
    )


def test_captured_events_become_rows(pbx: FakePbx, engine: Engine) -> None:
    with listening(engine) as listener:
        send_and_wait(pbx, listener, events(pbx))
    found = sorted((visit.queue, visit.outcome) for visit in visits(engine))
    assert found == [("sales", "answered"), ("sales", "answered"), ("support", "abandoned"), ("support", "timeout")]
    with reading(engine) as session:
        legs = session.exec(select(LegRow)).all()
    assert sorted(leg.disposition for leg in legs if leg.last_app == "Dial") == [
        "ANSWERED",
        "ANSWERED",
        "BUSY",
        "NO ANSWER",
    ]
    assert count(engine, AgentEventRow) == 2
    assert count(engine, RingRow) == 1
    (span,) = spans(engine)
    assert span.end_reason == "It was stopped."
    assert span.listened_until >= span.started_at
    assert listener.queued.dropped == listener.writer.dropped == 0


def test_repeated_events_add_no_visits(pbx: FakePbx, engine: Engine) -> None:
    with listening(engine) as listener:
        send_and_wait(pbx, listener, events(pbx))
        once = (count(engine, VisitRow), count(engine, LegRow), count(engine, RingRow))
        send_and_wait(pbx, listener, events(pbx).replace(b"Event: QueueCallerJoin", b"Event: QueueCallerJoined"))
    wait_until(lambda: listener.writer.waiting == 0)
    assert count(engine, VisitRow) == 4
    assert once[1:] <= (count(engine, LegRow), 1)


def test_a_connection_lost_within_a_message_leaves_visits_without_an_end(pbx: FakePbx, engine: Engine) -> None:
    stream = events(pbx)
    join = stream.rindex(b"Event: QueueCallerJoin")
    cut = stream.index(b"\r\n\r\n", join) + 4 + 30  # callers are waiting, and the next message is incomplete
    with listening(engine) as listener:
        send_and_wait(pbx, listener, stream[: cut - 30])
        pbx.send_events(stream[cut - 30 : cut])
        pbx.hang_up()
        wait_for_reconnect(pbx, listener)
        send_and_wait(pbx, listener, b"Event: QueueCallerJoin\r\nUniqueid: 9.9\r\nQueue: sales\r\n\r\n")
    open_at_the_cut = [visit for visit in visits(engine) if visit.outcome == "unknown"]
    assert open_at_the_cut
    assert all(visit.ended_at is None for visit in open_at_the_cut)
    assert [visit.uniqueid for visit in visits(engine) if visit.outcome == "in_progress"] == ["9.9"]
    first, second = spans(engine)
    assert first.end_reason
    assert first.end_reason != CUT_OFF_REASON
    assert second.started_at >= first.listened_until


def test_a_caller_who_still_waits_after_a_gap_stays_in_progress(pbx: FakePbx, engine: Engine) -> None:
    join = events(pbx)[events(pbx).index(b"Event: QueueCallerJoin") :].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    uniqueid = join.partition(b"\r\nUniqueid: ")[2].partition(b"\r\n")[0].decode()
    with listening(engine) as listener:
        send_and_wait(pbx, listener, join)
        pbx.entries = queue_entry(uniqueid, "sales", 5) + queue_entry("77.7", "support", 60)
        pbx.hang_up()
        wait_for_reconnect(pbx, listener)
    found = {visit.uniqueid: visit for visit in visits(engine)}
    assert {name: visit.outcome for name, visit in found.items()} == {uniqueid: "in_progress", "77.7": "in_progress"}
    assert (spans(engine)[1].started_at - found["77.7"].joined_at).total_seconds() == pytest.approx(60, abs=2)


def test_a_user_without_the_right_to_filter_still_receives_events(pbx: FakePbx, engine: Engine) -> None:
    pbx.may_filter = False
    with listening(engine) as listener:
        send_and_wait(pbx, listener, events(pbx))
    assert len(visits(engine)) == 4
    assert "Events" not in pbx.requests


def test_an_event_updates_the_latest_snapshot_without_adding_to_the_history(pbx: FakePbx, engine: Engine) -> None:
    with listening(engine) as listener:
        taken = listener.poller.taken
        send_and_wait(pbx, listener, events(pbx)[: events(pbx).rindex(b"Event: Registry")])
        wait_until(lambda: listener.poller.taken > taken)
    with reading(engine) as session:
        assert session.exec(select(LatestSnapshot)).one().taken_at
        assert session.exec(select(SnapshotRow)).first() is None


def test_the_end_of_a_recording_queues_a_sync(pbx: FakePbx, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "SYNC_AFTER_S", 0.0)
    monkeypatch.setenv("FREEPBX_ARI_USERNAME", "notebook")
    with listening(engine) as listener:
        send_and_wait(pbx, listener, b"Event: MixMonitorStop\r\nUniqueid: 1.1\r\n\r\n")
        wait_until(lambda: count(engine, Job) == 1)
    with reading(engine) as session:
        job = session.exec(select(Job)).one()
    assert (job.kind, job.requested_by, job.state) == ("sync", "listener", "queued")


def test_a_second_listener_is_refused(pbx: FakePbx, engine: Engine) -> None:
    settings = load_settings()
    assert not listener_alive(settings)
    with take_process_lock(settings.pbx_data_dir, "watch") as process_lock:
        assert process_lock.name == LISTENER_SLOT
        assert listener_alive(settings)
        with pytest.raises(DataError, match="already listens to the PBX"):
            listen_inline(settings, engine, threading.Event())


@pytest.mark.parametrize("pbx", [22], indirect=True)
def test_a_restart_after_a_kill_resumes_the_visits_that_go_on(pbx: FakePbx, engine: Engine) -> None:
    data = events(pbx)
    cut = data.index(b"\r\n\r\n", data.rindex(b"Event: QueueCallerJoin")) + 4
    command = [sys.executable, "-m", "pbx", "watch", "--quiet"]
    with subprocess.Popen(command, env=os.environ.copy()) as process:
        wait_until(lambda: bool(pbx.requests) and "Events" in pbx.requests and count(engine, ListeningSpan) == 1)
        pbx.send_events(data[:cut])
        wait_until(lambda: len([one for one in visits(engine) if one.outcome == "in_progress"]) >= 2)
        process.kill()
    in_progress = {visit.uniqueid for visit in visits(engine) if visit.outcome == "in_progress"}
    waiting = next(visit for visit in visits(engine) if visit.uniqueid in in_progress and visit.connected_at is None)
    pbx.entries = queue_entry(waiting.uniqueid, waiting.queue, 30)
    with listening(engine):
        wait_until(lambda: len(spans(engine)) == 2)
    assert spans(engine)[0].end_reason == CUT_OFF_REASON
    outcomes = {visit.uniqueid: visit.outcome for visit in visits(engine) if visit.uniqueid in in_progress}
    assert outcomes.pop(waiting.uniqueid) == "in_progress"
    assert set(outcomes.values()) == {"unknown"}
    assert all(visit.ended_at is None for visit in visits(engine) if visit.outcome == "unknown")
    with reading(engine) as session:
        assert not session.exec(select(LegRow).where(LegRow.disposition == "")).all()


@pytest.mark.parametrize("pbx", [16], indirect=True)
def test_a_killed_listeners_span_ends_even_if_the_pbx_is_unreachable(
    pbx: FakePbx, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a page would show no gap for as long as the listener fails to reconnect."""
    monkeypatch.setenv("FREEPBX_AMI_PORT", "1")  # a closed port
    settings = load_settings()
    connection = required_connection(engine, settings)
    with writing(engine) as session:
        begin_span(session, connection.id, datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(Unreachable):
        Listener(engine, settings, connection).run(threading.Event())
    assert [span.end_reason for span in spans(engine)] == [CUT_OFF_REASON]


@needs_posix
@pytest.mark.parametrize("pbx", [16], indirect=True)
def test_a_signal_stops_the_listener_with_exit_code_0(pbx: FakePbx, engine: Engine) -> None:
    with subprocess.Popen([sys.executable, "-m", "pbx", "watch", "--quiet"], env=os.environ.copy()) as process:
        wait_until(lambda: count(engine, ListeningSpan) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert spans(engine)[0].end_reason == "It was stopped."
    assert time.time() >= spans(engine)[0].listened_until.timestamp()


def test_an_impossible_number_of_concurrent_calls_makes_the_listener_reconnect(
    engine: Engine, pbx: FakePbx, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pbx.live.events.MAX_OPEN", 50)
    monkeypatch.setattr(listener_module, "RETRY_S", 0.05)
    stop = threading.Event()
    thread = threading.Thread(target=listen_inline, args=(load_settings(), engine, stop))
    thread.start()
    try:
        wait_until(lambda: pbx.connections == 1 and bool(spans(engine)))
        new = b"Event: Newchannel\r\nChannel: PJSIP/x-%d\r\nUniqueid: 1.%d\r\nLinkedid: 1.%d\r\n\r\n"
        pbx.send_events(b"".join(new % (n, n, n) for n in range(100)))
        wait_until(lambda: pbx.connections >= 2 and len(spans(engine)) >= 2)
    finally:
        stop.set()
        thread.join(20)
    assert "concurrent calls, which no PBX has" in caplog.text
    assert spans(engine)[0].end_reason
