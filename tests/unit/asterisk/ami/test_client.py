import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.subscription import ConnectionGap, Subscription
from pbx.errors import AmiActionError, AmiDenied, AmiPlainLogin, Deadline, SettingsError, Unreachable
from tests.unit.asterisk.ami.replay_server import VERSIONS, Script, Session, raw, replay, wait_until

EVENT = b"Event: Hangup\r\nCause: 16\r\nUniqueid: %d\r\n\r\n"
PONG = b"Response: Success\r\nActionID: x\r\nPing: Pong\r\nTimestamp: 1795249038.672896\r\n\r\n"


@contextmanager
def client_of(
    *scripts: Script, version: int = 22, prefix: str = "", plain: bool = False, events: str = "off", **timing: float
) -> Iterator[AmiClient]:
    """A client connected to a server that runs these scripts, one per connection."""
    with (
        replay(*scripts, version=version, prefix=prefix) as server,
        AmiClient.connect(
            server.connection(ami_plain_login=plain), events=events, timing=AmiTiming(**{"retry_s": 0.01} | timing)
        ) as client,
    ):
        yield client


def silent(session: Session) -> None:
    """Log in, then read and never answer."""
    session.log_in()
    for _ in session.actions():
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_the_login_proves_the_secret_and_never_sends_it(version: int) -> None:
    seen: list[dict[str, str]] = []

    def watch(session: Session) -> None:
        session.send(raw(version, "login").split(b"\r\n")[0] + b"\r\n")
        challenge, accepted = raw(version, "login").split(b"\r\n\r\n")[:2]
        for answer in (challenge.partition(b"\r\n")[2], accepted):
            seen.append(session.next_action())
            session.reply(seen[-1], answer + b"\r\n\r\n")
        silent_rest = list(session.actions())
        assert silent_rest == []

    with client_of(watch, version=version, events="call,agent") as client:
        assert client.connected
        assert client.ami_version == {16: "5.0.4", 22: "11.0.0"}[version]
    challenge = Message(raw(version, "login").split(b"\r\n\r\n")[0].partition(b"\r\n")[2]).get("Challenge")
    assert seen[0]["AuthType"] == "MD5"
    assert seen[1]["Key"] == hashlib.md5(f"{challenge}lab-ami-secret".encode()).hexdigest()
    assert seen[1]["Events"] == "call,agent"
    assert "lab-ami-secret" not in str(seen)


def without_challenge(seen: list[dict[str, str]]) -> Script:
    """Asterisk's refusal of an AuthType it doesn't know, then a login that is accepted."""

    def old(session: Session) -> None:
        session.send(b"Asterisk Call Manager/1.0\r\n")
        session.reply(
            session.next_action(), b"Response: Error\r\nActionID: x\r\nMessage: Authentication not supported\r\n\r\n"
        )
        for action in session.actions():
            seen.append(action)
            session.reply(action, b"Response: Success\r\nActionID: x\r\nMessage: Authentication accepted\r\n\r\n")

    return old


def test_without_a_challenge_the_secret_is_sent_only_where_the_settings_allow_it() -> None:
    seen: list[dict[str, str]] = []
    with pytest.raises(AmiPlainLogin, match="was not sent") as caught, client_of(without_challenge(seen)):
        pass
    assert seen == []
    assert "FREEPBX_AMI_PLAIN_LOGIN=true" in caught.value.fix
    assert "FREEPBX_AMI_TLS" in caught.value.fix
    with client_of(without_challenge(seen), plain=True):
        assert (seen[0]["Username"], seen[0]["Secret"]) == ("notebook", "lab-ami-secret")


@pytest.mark.parametrize("version", VERSIONS)
def test_replies_come_whole_and_to_the_right_action(version: int) -> None:
    names = ["PJSIPShowEndpoints", "CoreStatus", "QueueStatus", "NoSuchAction", "PJSIPShowContacts", "Ping"]
    with client_of(version=version) as client:
        futures = [client.submit(name) for name in names]
        replies = {name: future.result(20) for name, future in zip(names, futures, strict=True)}
    for name, reply in replies.items():
        assert len(reply.messages) == raw(version, name).count(b"\r\n\r\n")
        assert {message.action_id for message in reply.messages} == {reply.response.action_id}
    assert replies["PJSIPShowEndpoints"].items[-1].event == "EndpointListComplete"
    assert replies["NoSuchAction"].absent


def test_all_actions_are_on_their_way_before_the_first_is_answered() -> None:
    def patient(session: Session) -> None:
        session.log_in()
        waiting = [session.next_action() for _ in range(20)]
        for action in reversed(waiting):
            session.reply(action, PONG)

    with client_of(patient) as client:
        futures = [client.submit("Ping") for _ in range(20)]
        assert [future.result(20).response.get("Ping") for future in futures] == ["Pong"] * 20


@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_gives_its_lines_or_its_error(version: int) -> None:
    with client_of(version=version) as client:
        assert client.command("core show version")[0].startswith(f"Asterisk {version}.")
        with pytest.raises(AmiActionError, match="No such command"):
            client.request("Command-unknown")
        with pytest.raises(AmiActionError, match="Unable to retrieve endpoint nobody"):
            client.request("PJSIPShowEndpoint", [("Endpoint", "nobody")])
    with client_of(version=version, prefix="denied-") as client:
        with pytest.raises(AmiDenied, match="CoreStatus: it lacks the class system or reporting") as caught:
            client.request("CoreStatus")
        with pytest.raises(AmiDenied, match="Command: it lacks the class command"):
            client.command("core show version")
    assert "manager.conf" in caught.value.fix


def test_an_empty_list_is_no_error() -> None:
    with client_of() as client:
        for name in ("bare-PJSIPShowEndpoints", "ConfbridgeListRooms", "bare-QueueStatus"):
            reply = client.request(name)
            assert [item for item in reply.items if item.get("EventList") != "Complete"] == []


def test_an_old_command_reply_gives_its_lines() -> None:
    def old(session: Session) -> None:
        session.log_in(greeting=b"Asterisk Call Manager/2.10.4")
        output = b"System uptime: 5\n\r\n\r\nLast reload: 5\n--END COMMAND--\r\n\r\n"
        session.reply(session.next_action(), b"Response: Follows\r\nPrivilege: Command\r\nActionID: x\r\n" + output)
        silent_until_end = list(session.actions())
        assert silent_until_end == []

    with client_of(old) as client:
        assert client.command("core show uptime") == ["System uptime: 5", "", "", "Last reload: 5"]


def test_line_breaks_reach_no_socket() -> None:
    seen: list[dict[str, str]] = []

    def watch(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            seen.append(action)
            session.answer(action)

    with client_of(watch) as client:
        for value in ("core show version\r\nAction: Logoff", "a\nb", "x" * 2000):
            with pytest.raises(SettingsError):
                client.command(value)
        assert client.request("Ping").response.get("Ping") == "Pong"
    assert [action["Action"] for action in seen] == ["Ping"]


def test_a_call_has_a_total_and_an_idle_deadline_and_its_late_reply_harms_nobody() -> None:
    resume = threading.Event()

    def slow(session: Session) -> None:
        session.log_in()
        late = session.next_action()
        resume.wait(20)
        session.reply(late, raw(22, "PJSIPShowEndpoints"))
        for action in session.actions():
            session.answer(action)

    with client_of(slow) as client:
        events = client.subscribe()
        with pytest.raises(Deadline, match="PJSIPShowEndpoints"):
            client.request("PJSIPShowEndpoints", deadline_s=60, idle_s=0.05)
        resume.set()
        assert len(client.request("QueueStatus").messages) == raw(22, "QueueStatus").count(b"\r\n\r\n")
        assert events.get(0.01) is None
        assert client.gaps == type(client.gaps)()


def test_a_trickle_does_not_outlive_the_total_deadline() -> None:
    def trickle(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        start, item = raw(22, "PJSIPShowEndpoints").split(b"\r\n\r\n")[:2]
        session.reply(action, start + b"\r\n\r\n")
        while True:
            session.reply(action, item + b"\r\n\r\n")
            threading.Event().wait(0.01)

    with client_of(trickle) as client, pytest.raises(Deadline):
        client.request("PJSIPShowEndpoints", deadline_s=0.3, idle_s=60)


def test_a_lost_connection_fails_what_is_in_flight_never_repeats_it_and_reports_the_gap() -> None:
    seen: list[list[str]] = []

    def dies(session: Session) -> None:
        session.log_in()
        seen.append([session.next_action()["Action"]])
        session.send(EVENT % 1)

    def lives(session: Session) -> None:
        session.log_in()
        session.send(EVENT % 2)
        seen.append([])
        for action in session.actions():
            seen[-1].append(action["Action"])
            session.answer(action)

    with client_of(dies, lives, events="on") as client:
        events = client.subscribe()
        with pytest.raises(Unreachable, match="Asterisk closed it") as caught:
            client.request("Originate", [("Channel", "Local/1")])
        assert not isinstance(caught.value, Deadline)
        first, gap, second = events.get(20), events.get(20), events.get(20)
        assert isinstance(first, Message)
        assert isinstance(second, Message)
        assert (first.get("Uniqueid"), second.get("Uniqueid")) == ("1", "2")
        assert client.request("Ping").response.get("Ping") == "Pong"
        assert isinstance(gap, ConnectionGap)
        assert list(client.gaps) == [gap]
        assert gap.from_at <= gap.to_at
        assert gap.reason == "Asterisk closed it"
    assert seen == [["Originate"], ["Ping"]]


def test_while_the_connection_is_away_actions_fail_at_once_and_reconnects_are_tried_again() -> None:
    def dies(session: Session) -> None:
        session.log_in()

    def greets_wrongly(session: Session) -> None:
        session.send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")

    with (
        replay(dies, greets_wrongly, greets_wrongly, Session.serve) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=0.1)) as client,
    ):
        wait_until(lambda: not client.connected)
        with pytest.raises(Unreachable, match="was not sent"):
            client.request("Ping")
        wait_until(lambda: client.connected)
        assert client.request("Ping").response.get("Ping") == "Pong"
        assert server.sessions == 4
        assert len(client.gaps) == 1


def test_silence_is_broken_by_a_ping_and_its_missing_answer_is_a_gap() -> None:
    pings: list[str] = []

    def answers_one(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            pings.append(action["Action"])
            if len(pings) == 1:
                session.reply(action, PONG)

    with client_of(answers_one, Session.serve, keepalive_s=0.1, idle_s=0.1) as client:
        wait_until(lambda: len(client.gaps) == 1)
        assert pings[:2] == ["Ping", "Ping"]
        assert "ping" in client.gaps[0].reason
        assert client.request("Ping").response.get("Ping") == "Pong"


def test_a_consumer_that_sleeps_blocks_nobody_and_is_told_what_it_missed() -> None:
    def floods(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        session.send(b"".join(EVENT % number for number in range(20_000)))
        session.reply(action, PONG)
        for _ in session.actions():
            pass

    with client_of(floods, events="on") as client:
        slow, wide = client.subscribe(limit=100), client.subscribe(limit=50_000)
        client.request("Ping")
        assert slow.dropped == 19_900
        assert wide.dropped == 0
        client.close()
        assert [item.get("Uniqueid") for item in slow if isinstance(item, Message)] == [str(n) for n in range(100)]
        assert [item.get("Uniqueid") for item in wide if isinstance(item, Message)] == [str(n) for n in range(20_000)]


def test_the_captured_events_all_arrive_in_order_whatever_the_pieces() -> None:
    stream = raw(16, "events") + raw(22, "events")

    def pieces(session: Session) -> None:
        session.log_in()
        session.next_action()
        for start in range(0, len(stream), 997):
            session.send(stream[start : start + 997])

    with client_of(pieces, events="on") as client:
        events = client.subscribe()
        future = client.submit("Ping")
        wait_until(future.done)
        client.close()
        heard = [item.raw for item in events if isinstance(item, Message)]
    assert heard == [frame.lstrip() for frame in stream.split(b"\r\n\r\n") if frame.strip()]


def test_a_gap_is_reported_even_to_a_full_subscription() -> None:
    subscription = Subscription(limit=1)
    subscription.offer([b"Event: A", b"Event: B"])
    gap = ConnectionGap(datetime.now(UTC), datetime.now(UTC), "closed")
    subscription.report(gap)
    subscription.close()
    assert [item if isinstance(item, ConnectionGap) else item.event for item in subscription] == ["A", gap]
    assert subscription.dropped == 1


def test_closing_ends_calls_subscriptions_and_the_thread() -> None:
    with client_of(silent) as client:
        events, future = client.subscribe(), client.submit("Ping")
        waiting = threading.Thread(target=list, args=(events,))
        waiting.start()
        client.close()
        waiting.join(20)
        assert not waiting.is_alive()
        with pytest.raises(Unreachable, match="it was closed"):
            future.result(20)
        with pytest.raises(Unreachable):
            client.request("Ping")
        assert list(client.subscribe()) == []
        assert not client.connected


def test_an_action_larger_than_the_sockets_buffers_is_sent_whole() -> None:
    sent = threading.Event()

    def sleepy(session: Session) -> None:
        session.log_in()
        sent.wait(20)
        for action in session.actions():
            session.reply(action, PONG)

    with client_of(sleepy) as client:
        futures = [client.submit("Getvar", [("Variable", "x" * 1000)] * 100) for _ in range(100)]
        sent.set()
        assert all(future.result(20).response.response == "Success" for future in futures)
