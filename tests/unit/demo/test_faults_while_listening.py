"""The listener with faults of the PBX: missed time is a gap with a reason, and no end of a visit is invented."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from pbx.demo import simulated_history
from pbx.live import listener as watch
from pbx.live import snapshot_poller
from pbx.live.listener import Listener
from pbx.store.engine import reading
from pbx.store.models import ListeningSpan, VisitRow
from pbx.store.snapshots import latest_snapshot
from tests.simulator.app_on_pbx import AppOnPbx, app_on
from tests.simulator.faults import Fault, FaultKind
from tests.simulator.running_pbx import Clock, running_pbx
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.unit.asterisk.ami.replay_server import wait_until
from tests.unit.live.fake_pbx import listening

MINUTES = timedelta(minutes=25)


@pytest.fixture
def demo() -> Iterator[tuple[SimulatedPbx, Clock]]:
    with running_pbx() as both:
        yield both


@pytest.fixture
def app(demo: tuple[SimulatedPbx, Clock], monkeypatch: pytest.MonkeyPatch) -> Iterator[AppOnPbx]:
    monkeypatch.setattr(watch, "HAND_OVER_S", 0.02)
    monkeypatch.setattr(snapshot_poller, "QUIET_INTERVAL_S", 0.2)
    monkeypatch.setattr(snapshot_poller, "MIN_INTERVAL_S", 0.1)
    with app_on(demo[0], monkeypatch) as app_on_pbx:
        yield app_on_pbx


def spans(app: AppOnPbx) -> list[ListeningSpan]:
    with reading(app.engine) as session:
        return list(session.exec(select(ListeningSpan).order_by(col(ListeningSpan.id))))


def visits(app: AppOnPbx) -> dict[str, VisitRow]:
    with reading(app.engine) as session:
        return {row.uniqueid: row for row in session.exec(select(VisitRow))}


def wait_for_new_span(app: AppOnPbx, at: Listener, since: int = 1) -> None:
    """Wait until the listener has more than `since` spans and is connected."""
    wait_until(lambda: at._listening and len(spans(app)) > since and at.client.connected)


def let_events_arrive(pbx: SimulatedPbx, clock: Clock, at: Listener) -> None:
    """Move the clock forward, and wait until the listener has stored the events of that time."""
    began_at, clock.at = clock.at, clock.at + MINUTES
    names = ("QueueCallerJoin", "AgentConnect", "AgentComplete", "QueueCallerAbandon")
    wanted = sum(event.name in names for event in pbx.asterisk.events_between(began_at, clock.at))
    assert wanted > 20
    before = at.events
    wait_until(lambda: at.events >= before + wanted and not at.queued.waiting and not at.writer.waiting)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", "ami/events", after_bytes=3000),
        Fault("cut", "ami/events", after_bytes=0),
        Fault("cut", "ami/CoreShowChannels", after_bytes=100),
    ],
    ids=lambda fault: f"{fault.where} {fault.after_bytes}",
)
def test_a_lost_connection_is_a_gap_and_no_end_is_invented(
    app: AppOnPbx, demo: tuple[SimulatedPbx, Clock], fault: Fault
) -> None:
    pbx, clock = demo
    first_at = clock.at
    with listening(app.engine, app.settings) as at:
        pbx.faults.arm(fault)
        clock.at += MINUTES
        wait_for_new_span(app, at)
        second_at = clock.at
        let_events_arrive(pbx, clock, at)
        until_at = clock.at
        planned = [call for call in pbx.asterisk.calls_between(first_at, until_at) if call.queue and call.joined_at]
        ended = {call.uniqueid: call for call in planned if call.left_at and call.left_at <= until_at}
        calls_after_gap = [call for call in ended.values() if call.joined_at and call.joined_at > second_at]
        assert len(calls_after_gap) > 5
        # `let_events_arrive` may have counted earlier events that arrived over the new connection.
        wait_until(lambda: all((row := visits(app).get(call.uniqueid)) and row.ended_at for call in calls_after_gap))
    first, *later = spans(app)
    assert first.end_reason
    assert [span.end_reason for span in later][-1] == "It was stopped."
    found = visits(app)
    for uniqueid, row in found.items():
        if row.ended_at is not None:
            assert row.outcome == ended[uniqueid].outcome
    assert not [row for uniqueid, row in found.items() if row.outcome == "in_progress" and uniqueid in ended]


@pytest.mark.parametrize("action", ["QueueStatus", "CoreShowChannels", "SIPpeers"])
@pytest.mark.parametrize("kind", ["headless", "endless"])
def test_a_list_without_beginning_or_end_does_not_end_the_listening(
    app: AppOnPbx, demo: tuple[SimulatedPbx, Clock], monkeypatch: pytest.MonkeyPatch, kind: FaultKind, action: str
) -> None:
    monkeypatch.setattr("pbx.asterisk.ami.pending_action.MAX_ANSWER_BYTES", 300_000)
    monkeypatch.setattr("pbx.asterisk.ami.client.TOO_LARGE_PAUSE_S", 0.5)
    pbx, clock = demo
    with listening(app.engine, app.settings) as at:
        pbx.faults.arm(Fault(kind, f"ami/{action}"))
        wait_until(lambda: pbx.faults.taken.get(kind) == 1)
        if kind == "endless":
            wait_for_new_span(app, at)
        taken = at.poller.taken
        wait_until(lambda: at.poller.taken > taken + 1)
        let_events_arrive(pbx, clock, at)
    with reading(app.engine) as session:
        newest = latest_snapshot(session, 1)
    assert newest is not None
    assert {part.state for part in newest.parts.values()} <= {"ok", "absent"}


def test_caller_names_that_are_not_utf_8_are_decoded_as_cp1252(
    demo: tuple[SimulatedPbx, Clock], app: AppOnPbx, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbx, clock = demo
    monkeypatch.setattr("pbx.demo.simulated_day.caller_of", lambda index: (f"07700900{index:03}", "Zo\udceb \udcff"))
    simulated_history.calls_of_day.cache_clear()
    try:
        with listening(app.engine, app.settings) as at:
            let_events_arrive(pbx, clock, at)
        app.run("collect")
    finally:
        simulated_history.calls_of_day.cache_clear()
    names = {row.caller_name for row in visits(app).values()}
    assert names == {"Zoë ÿ"}


def test_a_pbx_that_stops_answering_is_a_gap(app: AppOnPbx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KEEPALIVE_S", 0.3)
    monkeypatch.setattr(snapshot_poller, "QUIET_INTERVAL_S", 60.0)
    with listening(app.engine, app.settings) as at:
        app.pbx.faults.arm(Fault("mute", "ami/Ping"))
        wait_for_new_span(app, at)
    assert "no answer to a ping" in spans(app)[0].end_reason
    assert app.pbx.faults.taken == {"mute": 1}


def test_a_restart_is_a_gap_and_visits_in_progress_become_unknown(
    app: AppOnPbx, demo: tuple[SimulatedPbx, Clock]
) -> None:
    pbx, clock = demo
    with listening(app.engine, app.settings) as at:
        clock.at += MINUTES
        current_calls = {
            call.uniqueid for call in pbx.asterisk.calls_between(clock.at, clock.at + timedelta(seconds=1))
        }
        wait_until(lambda: current_calls & visits(app).keys())
        waiting = {one for one, row in visits(app).items() if row.outcome == "in_progress"}
        pbx.restart()
        wait_for_new_span(app, at)
        wait_until(lambda: not at.writer.waiting)
        found = visits(app)
        assert {found[one].outcome for one in waiting} <= {"unknown"}
        assert all(found[one].ended_at is None for one in waiting)
        let_events_arrive(pbx, clock, at)
    assert spans(app)[0].end_reason
    assert any(row.ended_at and uniqueid not in found for uniqueid, row in visits(app).items())


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1)], ids=["forward", "back"])
def test_setting_the_pbx_clock_starts_a_new_span(
    app: AppOnPbx, demo: tuple[SimulatedPbx, Clock], monkeypatch: pytest.MonkeyPatch, by: timedelta
) -> None:
    monkeypatch.setattr(snapshot_poller, "CLOCK_INTERVAL_S", 0.0)
    pbx, _ = demo

    def pbx_clock() -> datetime:
        return datetime.now(UTC) + (pbx.pbx_now() - real_at)

    with listening(app.engine, app.settings) as at:
        real_at = datetime.now(UTC)
        visits_before = set(visits(app))
        pbx.jump_clock(by)
        wait_for_new_span(app, at)
        reported_at = at._now()
        assert abs((reported_at - pbx_clock()).total_seconds()) < 5
    assert [span.end_reason for span in spans(app)] == ["The PBX's clock was set.", "It was stopped."]
    assert visits_before <= set(visits(app))
    first, second = spans(app)
    moved_s = (second.started_at - first.listened_until).total_seconds()
    assert moved_s == pytest.approx(by.total_seconds(), abs=20)
    for row in visits(app).values():
        assert row.ended_at is None or row.ended_at >= (row.connected_at or row.joined_at)
