"""Watch: from a manager interface's bytes to rows, whatever is cut off on the way."""

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
from pbx.live import listener as watch
from pbx.live import snapshot_poller as looks
from pbx.live.listener import LISTENER_SLOT, listen_inline, listener_alive
from pbx.process_lock import take_process_lock
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.listening_spans import CUT_OFF_REASON, begin_span
from pbx.store.models import AgentEventRow, Job, LatestSnapshot, LegRow, ListeningSpan, RingRow, SnapshotRow, VisitRow
from tests.operating_systems import needs_posix
from tests.unit.asterisk.ami.replay import VERSIONS, raw, wait_until
from tests.unit.live.fake_pbx import Line, entry, listening, pbx_on_line


@pytest.fixture(params=VERSIONS)
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(looks, "QUIET_INTERVAL_S", 60.0)  # no look but those asked for
    with pbx_on_line(monkeypatch, request.param) as (line, _):
        line.version = request.param  # type: ignore[attr-defined]
        yield line


@pytest.fixture
def engine(line: Line) -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def events(line: Line) -> bytes:
    return raw(line.version, "events")  # type: ignore[attr-defined]


def visits(engine: Engine) -> list[VisitRow]:
    with reading(engine) as session:
        return list(session.exec(select(VisitRow).order_by(col(VisitRow.joined_at), col(VisitRow.id))))


def spans(engine: Engine) -> list[ListeningSpan]:
    with reading(engine) as session:
        return list(session.exec(select(ListeningSpan).order_by(col(ListeningSpan.id))))


def count(engine: Engine, model: type) -> int:
    with reading(engine) as session:
        return len(session.exec(select(model)).all())


def heard(line: Line, at: watch.Listener, data: bytes) -> None:
    """Say it, and wait until it was heard and stored."""
    before, new = at.events, data.count(b"\r\n\r\n")
    line.say(data, 777)
    wait_until(lambda: at.events >= before + new and not at.queued.waiting)


def heard_again(line: Line, at: watch.Listener) -> None:
    """Wait until the second connection is listened to: what it asked for first is asked for again."""
    wait_until(lambda: line.asked.count("Filter") == 2 and line.asked.count("QueueStatus") >= 3 and at._listening)


def test_a_captured_stream_becomes_rows(line: Line, engine: Engine) -> None:
    with listening(engine) as at:
        heard(line, at, events(line))
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
    assert at.queued.dropped == at.writer.dropped == 0


def test_the_same_twice_changes_nothing(line: Line, engine: Engine) -> None:
    with listening(engine) as at:
        heard(line, at, events(line))
        once = (count(engine, VisitRow), count(engine, LegRow), count(engine, RingRow))
        heard(line, at, events(line).replace(b"Event: QueueCallerJoin", b"Event: QueueCallerJoined"))
    wait_until(lambda: at.writer.waiting == 0)
    assert count(engine, VisitRow) == 4
    assert once[1:] <= (count(engine, LegRow), 1)


def test_a_stream_cut_amid_a_message_leaves_a_gap_and_no_invented_end(line: Line, engine: Engine) -> None:
    whole = events(line)
    join = whole.rindex(b"Event: QueueCallerJoin")
    cut = whole.index(b"\r\n\r\n", join) + 4 + 30  # some callers are in a queue, the next message is half there
    with listening(engine) as at:
        heard(line, at, whole[: cut - 30])
        line.say(whole[cut - 30 : cut])
        line.hang_up()
        heard_again(line, at)
        heard(line, at, b"Event: QueueCallerJoin\r\nUniqueid: 9.9\r\nQueue: sales\r\n\r\n")
    open_at_the_cut = [visit for visit in visits(engine) if visit.outcome == "unknown"]
    assert open_at_the_cut
    assert all(visit.ended_at is None for visit in open_at_the_cut)
    assert [visit.uniqueid for visit in visits(engine) if visit.outcome == "in_progress"] == ["9.9"]
    first, second = spans(engine)
    assert first.end_reason
    assert first.end_reason != CUT_OFF_REASON
    assert second.started_at >= first.listened_until


def test_who_still_waits_after_a_gap_goes_on(line: Line, engine: Engine) -> None:
    join = events(line)[events(line).index(b"Event: QueueCallerJoin") :].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    uniqueid = join.partition(b"\r\nUniqueid: ")[2].partition(b"\r\n")[0].decode()
    with listening(engine) as at:
        heard(line, at, join)
        line.entries = entry(uniqueid, "sales", 5) + entry("77.7", "support", 60)
        line.hang_up()
        heard_again(line, at)
    found = {visit.uniqueid: visit for visit in visits(engine)}
    assert {name: visit.outcome for name, visit in found.items()} == {uniqueid: "in_progress", "77.7": "in_progress"}
    assert (spans(engine)[1].started_at - found["77.7"].joined_at).total_seconds() == pytest.approx(60, abs=2)


def test_a_user_who_may_not_filter_hears_all_the_same(line: Line, engine: Engine) -> None:
    line.may_filter = False
    with listening(engine) as at:
        heard(line, at, events(line))
    assert len(visits(engine)) == 4
    assert "Events" not in line.asked


def test_a_look_is_taken_after_an_event_and_is_no_history(line: Line, engine: Engine) -> None:
    with listening(engine) as at:
        taken = at.poller.taken
        heard(line, at, events(line)[: events(line).rindex(b"Event: Registry")])
        wait_until(lambda: at.poller.taken > taken)
    with reading(engine) as session:
        assert session.exec(select(LatestSnapshot)).one().taken_at
        assert session.exec(select(SnapshotRow)).first() is None


def test_a_recording_that_ended_asks_for_a_sync(line: Line, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SYNC_AFTER_S", 0.0)
    monkeypatch.setenv("FREEPBX_ARI_USERNAME", "notebook")
    with listening(engine) as at:
        heard(line, at, b"Event: MixMonitorStop\r\nUniqueid: 1.1\r\n\r\n")
        wait_until(lambda: count(engine, Job) == 1)
    with reading(engine) as session:
        job = session.exec(select(Job)).one()
    assert (job.kind, job.requested_by, job.state) == ("sync", "listener", "queued")


def test_only_one_listens(line: Line, engine: Engine) -> None:
    settings = load_settings()
    assert not listener_alive(settings)
    with take_process_lock(settings.pbx_data_dir, "watch") as slot:
        assert slot.name == LISTENER_SLOT
        assert listener_alive(settings)
        with pytest.raises(DataError, match="already listens to the PBX"):
            listen_inline(settings, engine, threading.Event())


@pytest.mark.parametrize("line", [22], indirect=True)
def test_killed_and_started_again(line: Line, engine: Engine) -> None:
    data = events(line)
    cut = data.index(b"\r\n\r\n", data.rindex(b"Event: QueueCallerJoin")) + 4
    command = [sys.executable, "-m", "pbx", "watch", "--quiet"]
    with subprocess.Popen(command, env=os.environ.copy()) as process:
        wait_until(lambda: bool(line.asked) and "Events" in line.asked and count(engine, ListeningSpan) == 1)
        line.say(data[:cut])
        wait_until(lambda: len([one for one in visits(engine) if one.outcome == "in_progress"]) >= 2)
        process.kill()
    left = {visit.uniqueid for visit in visits(engine) if visit.outcome == "in_progress"}
    stays = next(visit for visit in visits(engine) if visit.uniqueid in left and visit.connected_at is None)
    line.entries = entry(stays.uniqueid, stays.queue, 30)
    with listening(engine):
        wait_until(lambda: len(spans(engine)) == 2)
    assert spans(engine)[0].end_reason == CUT_OFF_REASON
    outcomes = {visit.uniqueid: visit.outcome for visit in visits(engine) if visit.uniqueid in left}
    assert outcomes.pop(stays.uniqueid) == "in_progress"
    assert set(outcomes.values()) == {"unknown"}
    assert all(visit.ended_at is None for visit in visits(engine) if visit.outcome == "unknown")
    with reading(engine) as session:
        assert not session.exec(select(LegRow).where(LegRow.disposition == "")).all()


@pytest.mark.parametrize("line", [16], indirect=True)
def test_what_a_killed_listener_heard_ends_though_the_pbx_is_away(
    line: Line, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a page says that there was no break, for as long as somebody tries in vain to listen."""
    monkeypatch.setenv("FREEPBX_AMI_PORT", "1")  # nobody answers there
    settings = load_settings()
    pbx = required_connection(engine, settings)
    with writing(engine) as session:
        begin_span(session, pbx.id, datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(Unreachable):
        watch.Listener(engine, settings, pbx).run(threading.Event())
    assert [span.end_reason for span in spans(engine)] == [CUT_OFF_REASON]


@needs_posix
@pytest.mark.parametrize("line", [16], indirect=True)
def test_stopped_by_a_signal_it_ends_well(line: Line, engine: Engine) -> None:
    with subprocess.Popen([sys.executable, "-m", "pbx", "watch", "--quiet"], env=os.environ.copy()) as process:
        wait_until(lambda: count(engine, ListeningSpan) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert spans(engine)[0].end_reason == "It was stopped."
    assert time.time() >= spans(engine)[0].listened_until.timestamp()


def test_more_calls_than_any_pbx_has_end_the_connection_and_it_is_tried_again(
    engine: Engine, line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pbx.live.events.MAX_OPEN", 50)
    monkeypatch.setattr(watch, "RETRY_S", 0.05)
    stop = threading.Event()
    thread = threading.Thread(target=listen_inline, args=(load_settings(), engine, stop))
    thread.start()
    try:
        wait_until(lambda: line.connections == 1 and bool(spans(engine)))
        new = b"Event: Newchannel\r\nChannel: PJSIP/x-%d\r\nUniqueid: 1.%d\r\nLinkedid: 1.%d\r\n\r\n"
        line.say(b"".join(new % (n, n, n) for n in range(100)))
        wait_until(lambda: line.connections >= 2 and len(spans(engine)) >= 2)
    finally:
        stop.set()
        thread.join(20)
    assert "concurrent calls, which no PBX has" in caplog.text
    assert spans(engine)[0].end_reason
