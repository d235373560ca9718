"""The simulated PBX's AMI, used by the app's client, snapshots and listener, and by clients that misbehave."""

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.ami.subscription import ConnectionGap
from pbx.demo import ami_server
from pbx.demo.company import AGENTS, QUEUES, TRUNKS
from pbx.demo.simulated_asterisk import registrations_at
from pbx.errors import AmiActionError, AmiLoginError, DataError, Deadline, Unreachable
from pbx.live import snapshot_poller
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import LegRow, RingRow, VisitRow
from tests.simulator.asterisk_22 import ASTERISK_22, RELEASES
from tests.simulator.faults import Fault
from tests.simulator.pbx_state import state_at
from tests.simulator.running_pbx import Clock, RawConnection, running_pbx
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import SimulatedRecordings
from tests.unit.asterisk.ami.replay_server import wait_until
from tests.unit.live.fake_pbx import listening


@pytest.fixture(params=RELEASES)
def demo(request: pytest.FixtureRequest) -> Iterator[tuple[SimulatedPbx, Clock]]:
    with running_pbx(RELEASES[request.param]) as both:
        yield both


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami_server, "REFUSAL_S", 0.05)


@pytest.fixture
def pbx() -> Iterator[SimulatedPbx]:
    with running_pbx() as (pbx, _):
        yield pbx


def test_a_snapshot_shows_the_simulated_state(demo: tuple[SimulatedPbx, Clock]) -> None:
    pbx, clock = demo
    state = state_at(clock.at, pbx.asterisk.booted_at)
    with AmiClient.connect(pbx.connection()) as client:
        snapshot = take_snapshot(client)
    assert {name: part.state for name, part in snapshot.parts.items()} == dict.fromkeys(snapshot.parts, "ok")
    assert snapshot.system is not None
    assert snapshot.system.version == pbx.release.version
    assert (snapshot.system.started_at, snapshot.system.utc_offset_s) == (pbx.asterisk.booted_at, 0)
    assert snapshot.system.channels == len(state.channels)
    assert [trunk.name for trunk in snapshot.trunks] == [trunk.name for trunk in TRUNKS]
    assert {trunk.state for trunk in snapshot.trunks} == {"registered"}
    assert sum(trunk.channels for trunk in snapshot.trunks) == sum(
        1 for channel in state.channels if channel.endpoint in {trunk.name for trunk in TRUNKS}
    )
    assert [one.extension for one in snapshot.extensions][:12] == [agent.extension for agent in AGENTS]
    assert len(snapshot.extensions) == 17
    assert [one.status for one in snapshot.extensions if one.extension == "224"] == ["Unavailable"]
    assert [queue.name for queue in snapshot.queues] == [queue.number for queue in QUEUES]
    for queue, queue_state in zip(snapshot.queues, state.queues, strict=True):
        assert (queue.completed, queue.abandoned) == (queue_state.counters.completed, queue_state.counters.abandoned)
        assert [member.name for member in queue.members] == [member.agent.name for member in queue_state.members]
        assert [caller.uniqueid for caller in queue.callers] == [
            waiter.channel.uniqueid for waiter in queue_state.callers
        ]
    assert {call.linkedid for call in snapshot.active_calls} == {channel.linkedid for channel in state.channels}
    assert any(queue.completed > 100 for queue in snapshot.queues)


def test_a_snapshot_shows_waiting_callers() -> None:
    for minute in range(0, 120, 2):
        at = Clock().at + timedelta(minutes=minute)
        with_callers = [queue for queue in state_at(at, at - timedelta(days=2)).queues if queue.callers]
        if with_callers:
            break
    with running_pbx(at=at) as (pbx, _), AmiClient.connect(pbx.connection()) as client:
        queues = {queue.name: queue for queue in take_snapshot(client, ["queues"]).queues}
    for queue in with_callers:
        found = [(one.position, one.wait_s) for one in queues[queue.queue.number].callers]
        assert found == [(waiter.position, waiter.wait_s) for waiter in queue.callers]


def test_a_snapshot_shows_an_unregistered_trunk(pbx: SimulatedPbx) -> None:
    clock = pbx.clock
    assert isinstance(clock, Clock)
    while registrations_at(clock.at)["harbour-sip"] == "Registered":
        clock.at += timedelta(minutes=1)
    with AmiClient.connect(pbx.connection()) as client:
        states = {trunk.name: trunk.state for trunk in take_snapshot(client, ["trunks"]).trunks}
    assert states["albion-voice"] == "registered"
    assert states["harbour-sip"] in ("unregistered", "rejected")


def test_the_listener_stores_the_planned_calls(
    demo: tuple[SimulatedPbx, Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    pbx, clock = demo
    monkeypatch.setattr(snapshot_poller, "QUIET_INTERVAL_S", 60.0)
    for name, value in (("HOST", "127.0.0.1"), ("AMI_PORT", pbx.ami_port), ("AMI_USERNAME", pbx.username)):
        monkeypatch.setenv(f"FREEPBX_{name}", str(value))
    monkeypatch.setenv("FREEPBX_AMI_PASSWORD", pbx.password)
    begun_at, until_at = clock.at, clock.at + timedelta(minutes=50)
    planned = [call for call in pbx.asterisk.calls_between(begun_at, until_at) if call.started_at > begun_at]
    ended = {call.uniqueid: call for call in planned if call.queue and call.left_at and call.left_at < until_at}
    engine = open_engine(load_settings())
    with listening(engine) as at:
        reported = pbx.asterisk.events_between(begun_at, until_at)
        wanted = len([one for one in reported if one.group in ("call", "agent", "system") or one.name == "VarSet"])
        clock.at = until_at
        wait_until(lambda: at.events >= wanted and not at.queued.waiting)
    with reading(engine) as session:
        visits = {one.uniqueid: one for one in session.exec(select(VisitRow)).all()}
        legs = session.exec(select(LegRow).where(col(LegRow.answered_at).is_not(None))).all()
        rings = session.exec(select(RingRow)).all()
    engine.dispose()
    assert len(ended) > 15
    for uniqueid, call in ended.items():
        visit = visits[uniqueid]
        assert (visit.queue, visit.outcome, visit.did) == (call.queue, call.outcome, call.did)
        assert visit.agent == (call.agent.name if call.agent else "")
        assert visit.talk_s == (pytest.approx(call.talk_s, abs=1) if call.answered_at else None)
        assert visit.ended_by == call.ended_by
    missed = Counter(
        ring.agent.name
        for call in planned
        for ring in call.rings
        if not ring.answered and not ring.cancelled and ring.at + timedelta(seconds=ring.ring_s) <= until_at
    )
    assert Counter(ring.agent for ring in rings) >= missed
    answered = [call for call in planned if call.answered_at and call.answered_at <= until_at]
    assert {call.linkedid for call in answered} <= {leg.linkedid for leg in legs}


def test_actions_that_arrive_byte_by_byte_get_the_same_replies(pbx: SimulatedPbx) -> None:
    with RawConnection(pbx) as in_one_piece, RawConnection(pbx) as byte_by_byte:
        answers = []
        for connection, piece in ((in_one_piece, 1 << 20), (byte_by_byte, 1)):
            connection.log_in()
            connection.send("Action: QueueStatus\nActionID: a\n\nAction: CoreShowChannels\nActionID: b\n\n", piece)
            answers.append(connection.until(rb"Event: CoreShowChannelsComplete.*?\r\n\r\n"))
    assert answers[0] == answers[1]
    assert answers[0].count(b"ActionID: a\r\n") > 15


def test_a_snapshot_from_slow_replies_is_the_same(pbx: SimulatedPbx) -> None:
    with AmiClient.connect(pbx.connection()) as client:
        before = take_snapshot(client, ["queues", "active_calls"])
        pbx.faults.arm(Fault("trickle", "ami/*"), times=None)
        after = take_snapshot(client, ["queues", "active_calls"])
    assert (after.queues, after.active_calls) == (before.queues, before.active_calls)
    assert pbx.faults.taken["trickle"] == 3  # also for the clock, which shows who is in wrap-up


def test_two_clients_are_served_at_the_same_time(demo: tuple[SimulatedPbx, Clock]) -> None:
    pbx, clock = demo
    snapshots, received = [], []

    def take_queues(client: AmiClient) -> None:
        snapshots.append(take_snapshot(client).queues)

    with AmiClient.connect(pbx.connection(), events="call,agent") as one, AmiClient.connect(pbx.connection()) as two:
        with_events, without_events = one.subscribe(), two.subscribe()
        threads = [threading.Thread(target=take_queues, args=(client,)) for client in (one, two, one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        clock.at += timedelta(minutes=2)
        wanted = pbx.asterisk.events_between(clock.at - timedelta(minutes=2), clock.at)
        wanted = tuple(event for event in wanted if event.group in ("call", "agent"))
        for _ in wanted:
            event = with_events.get(10)
            assert event is not None
            assert not isinstance(event, ConnectionGap)
            received.append((event.event, event.get("Uniqueid")))
        assert without_events.get(0) is None
    assert len(snapshots) == 4
    assert all(queues == snapshots[0] for queues in snapshots)
    assert received == [(event.name, dict(event.headers).get("Uniqueid", "")) for event in wanted]
    assert len(wanted) > 5


def test_a_client_gets_the_events_of_its_classes_and_filters(pbx: SimulatedPbx) -> None:
    clock = pbx.clock
    assert isinstance(clock, Clock)
    with RawConnection(pbx) as connection:
        assert b"Event: FullyBooted" in connection.log_in("on") + connection.until(rb"Fully Booted\r\n\r\n")
        connection.send("Action: Filter\nOperation: Add\nFilter: ^Event: (Hangup)[[:cntrl:]]\n\n")
        connection.send(
            "Action: Filter\nOperation: Add\nFilter: ^Event: VarSet[[:cntrl:]].*Variable: (ABANDONED)[[:cntrl:]]\n\n"
        )
        connection.until(rb"(Message: Success\r\n\r\n.*){2}")
        begun_at = clock.at
        clock.at += timedelta(minutes=60)
        events = pbx.asterisk.events_between(begun_at, clock.at)
        wanted = [event for event in events if event.name == "Hangup" or ("Variable", "ABANDONED") in event.headers]
        received = connection.until(
            b".*".join(b"Uniqueid: " + dict(one.headers)["Uniqueid"].encode() for one in wanted)
        )
        assert received.count(b"Event: ") == len(wanted)
        connection.send("Action: Events\nEventMask: off\nActionID: x\n\n")
        connection.until(rb"ActionID: x\r\nEvents: Off\r\n\r\n")
        clock.at += timedelta(minutes=60)
        connection.send("Action: Ping\nActionID: y\n\n")
        assert b"Event:" not in connection.until(rb"ActionID: y\r\nPing: Pong")


@pytest.mark.parametrize("wrong", [{"ami_username": "nobody"}, {"ami_password": SecretStr("wrong")}])
def test_a_refused_login_gives_no_hint(
    pbx: SimulatedPbx, wrong: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AmiLoginError):
        AmiClient.connect(pbx.connection().model_copy(update=wrong))
    replies = []
    for proof in ("Secret: wrong", f"Secret: {pbx.password}x", "AuthType: MD5\nKey: 00", "Secret: ä"):
        with RawConnection(pbx) as connection:
            connection.until(rb"\r\n")
            connection.send(f"Action: Login\nUsername: {wrong.get('ami_username', pbx.username)}\n{proof}\n\n")
            replies.append(connection.rest())
    assert set(replies) == {b"Response: Error\r\nMessage: Authentication failed\r\n\r\n"}
    assert pbx.password not in caplog.text


def test_a_challenge_is_valid_for_one_session_only(pbx: SimulatedPbx) -> None:
    with RawConnection(pbx) as one, RawConnection(pbx) as two:
        for connection in (one, two):
            connection.until(rb"\r\n")
            connection.send("Action: Challenge\nAuthType: MD5\n\n")
        challenge = one.until(rb"Challenge: \d+\r\n\r\n").split()[-1].decode()
        key = hashlib.md5((challenge + pbx.password).encode()).hexdigest()
        login = f"Action: Login\nAuthType: MD5\nUsername: {pbx.username}\nKey: {key}\nEvents: off\n\n"
        one.send(login)
        assert b"Authentication accepted" in one.until(rb"\r\n\r\n")
        two.send(login)
        assert b"Authentication failed" in two.rest()


def test_nothing_is_reported_before_the_login(pbx: SimulatedPbx) -> None:
    with RawConnection(pbx) as connection:
        connection.until(rb"\r\n")
        connection.send("Action: QueueStatus\nActionID: q\n\nFoo: bar\nActionID: z\n\n")
        reported = connection.until(rb"ActionID: z\r\nMessage: Missing action in request\r\n\r\n")
    assert reported.startswith(b"Response: Error\r\nActionID: q\r\nMessage: Permission denied\r\n\r\n")


def test_unknown_actions_and_endless_lines_are_errors(demo: tuple[SimulatedPbx, Clock]) -> None:
    pbx, _ = demo
    with AmiClient.connect(pbx.connection()) as client:
        with pytest.raises(AmiActionError, match="doesn't know NoSuchAction"):
            client.request("NoSuchAction")
        with pytest.raises(AmiActionError, match="No such command"):
            client.command("no such command")
        assert client.command("core show version")[0].startswith(f"Asterisk {pbx.release.version} ")
        assert client.submit("SIPpeers").result().failed == (pbx.release is ASTERISK_22)
    with RawConnection(pbx) as connection:
        connection.log_in()
        connection.send(f"Action: Ping\nJunk: {'x' * 2000}\nActionID: l\n\nAction: Ping\nActionID: m\n\n")
        reported = connection.until(rb"ActionID: m\r\nPing: Pong")
    assert b"Failed to parse message: line too long" in reported


def test_the_clock_is_reported_with_its_time_zone(pbx: SimulatedPbx) -> None:
    with RawConnection(pbx) as connection:
        connection.log_in()
        pbx.jump_clock(timedelta(hours=-2))
        connection.send(
            "Action: Getvar\nVariable: STRFTIME(,,%s.%3q)\n\nAction: Getvar\nVariable: STRFTIME(1782900000,,%z %s)\n\n"
        )
        reported = connection.until(rb"Value: \+.*?\r\n\r\n").decode()
    at = Clock().at - timedelta(hours=2)
    assert f"Value: {int(at.timestamp())}.000\r\n" in reported
    assert "Value: +0100 1782900000\r\n" in reported, "July is summer time"


def test_a_new_password_is_valid_immediately(pbx: SimulatedPbx) -> None:
    old = pbx.connection()
    with AmiClient.connect(old) as client:
        assert pbx.change_password() != old.ami_password.get_secret_value()
        assert client.request("Ping")
        with pytest.raises(AmiLoginError):
            AmiClient.connect(old)
        with AmiClient.connect(pbx.connection()) as again:
            assert again.request("Ping")


def test_a_restart_ends_calls_and_connections_and_resets_counters(pbx: SimulatedPbx) -> None:
    with AmiClient.connect(pbx.connection(), events="call", timing=AmiTiming(retry_s=0.05)) as client:
        events = client.subscribe()
        assert take_snapshot(client).active_calls
        pbx.restart()
        gap = events.get(20)
        assert isinstance(gap, ConnectionGap)
        wait_until(lambda: client.connected)
        snapshot = take_snapshot(client)
    assert snapshot.active_calls == ()
    assert [(queue.completed, queue.abandoned, queue.callers) for queue in snapshot.queues] == [(0, 0, ())] * 3
    assert all(queue.members for queue in snapshot.queues)
    assert snapshot.system is not None
    assert snapshot.system.uptime_s == 0


def test_armed_faults_happen_at_their_action(pbx: SimulatedPbx) -> None:
    with AmiClient.connect(pbx.connection(), timing=AmiTiming(retry_s=0.05)) as client:
        pbx.faults.arm(Fault("mute", "ami/QueueStatus"))
        with pytest.raises(Deadline):
            client.request("QueueStatus", deadline_s=0.3)
        assert client.request("QueueStatus")
        pbx.faults.arm(Fault("cut", "ami/QueueStatus", after_bytes=200))
        with pytest.raises(Unreachable):
            client.request("QueueStatus")
        wait_until(lambda: client.connected)
        assert client.request("QueueStatus")
        pbx.faults.arm(Fault("stall", "ami/QueueSummary", after_bytes=10, seconds=0.2))
        pbx.faults.arm(Fault("slow_list", "ami/QueueSummary", seconds=0.1))
        assert client.request("QueueSummary")
    pbx.faults.arm(Fault("refuse", "ami"))
    with pytest.raises(Unreachable):
        AmiClient.connect(pbx.connection())
    assert pbx.faults.taken == {"mute": 1, "cut": 1, "stall": 1, "slow_list": 1, "refuse": 1}


def test_a_port_in_use_is_an_error_with_a_fix(pbx: SimulatedPbx) -> None:
    with pytest.raises(DataError) as raised, SimulatedPbx(ami_port=pbx.ami_port, clock=Clock()):
        pass
    assert "chooses free ports" in raised.value.fix


def test_the_simulated_pbx_stops_while_clients_are_connected() -> None:
    with running_pbx() as (pbx, _):
        connections = [RawConnection(pbx) for _ in range(3)]
        for connection in connections:
            connection.log_in("on")
        threads = {thread.name for thread in threading.enumerate()}
        assert "demo-pbx" in threads
    assert "demo-pbx" not in {thread.name for thread in threading.enumerate()}
    for connection in connections:
        with pytest.raises((ConnectionError, EOFError)):
            connection.until(rb"never")
        connection.sock.close()


def test_a_simulated_pbx_that_never_started_can_be_closed() -> None:
    pbx = SimulatedPbx(clock=Clock(), recordings=SimulatedRecordings())
    pbx.drop_connections()
    pbx.close()
    assert pbx.ami_port == 0
