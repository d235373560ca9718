"""The AMI client: logins, actions and their replies, events, deadlines and reconnects."""

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


def never_answer(session: Session) -> None:
    """Log the client in, then read its actions and never answer."""
    session.log_in()
    for _ in session.actions():
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_the_login_sends_a_hash_instead_of_the_secret(version: int) -> None:
    received: list[dict[str, str]] = []

    def record_login(session: Session) -> None:
        session.send(raw(version, "login").split(b"\r\n")[0] + b"\r\n")
        challenge, accepted = raw(version, "login").split(b"\r\n\r\n")[:2]
        for answer in (challenge.partition(b"\r\n")[2], accepted):
            received.append(session.next_action())
            session.reply(received[-1], answer + b"\r\n\r\n")
        further_actions = list(session.actions())
        assert further_actions == []

    with client_of(record_login, version=version, events="call,agent") as client:
        assert client.connected
        assert client.ami_version == {16: "5.0.4", 22: "11.0.0"}[version]
    challenge = Message(raw(version, "login").split(b"\r\n\r\n")[0].partition(b"\r\n")[2]).get("Challenge")
    assert received[0]["AuthType"] == "MD5"
    assert received[1]["Key"] == hashlib.md5(f"{challenge}lab-ami-secret".encode()).hexdigest()
    assert received[1]["Events"] == "call,agent"
    assert "lab-ami-secret" not in str(received)


def without_challenge(received: list[dict[str, str]]) -> Script:
    """Refuse the AuthType as an Asterisk that doesn't know it, then accept the login."""

    def serve_old_asterisk(session: Session) -> None:
        session.send(b"Asterisk Call Manager/1.0\r\n")
        session.reply(
            session.next_action(), b"Response: Error\r\nActionID: x\r\nMessage: Authentication not supported\r\n\r\n"
        )
        for action in session.actions():
            received.append(action)
            session.reply(action, b"Response: Success\r\nActionID: x\r\nMessage: Authentication accepted\r\n\r\n")

    return serve_old_asterisk


def test_without_a_challenge_the_secret_is_sent_only_if_the_settings_allow_it() -> None:
    received: list[dict[str, str]] = []
    with pytest.raises(AmiPlainLogin, match="was not sent") as caught, client_of(without_challenge(received)):
        pass
    assert received == []
    assert "FREEPBX_AMI_PLAIN_LOGIN=true" in caught.value.fix
    assert "FREEPBX_AMI_TLS" in caught.value.fix
    with client_of(without_challenge(received), plain=True):
        assert (received[0]["Username"], received[0]["Secret"]) == ("notebook", "lab-ami-secret")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_action_gets_its_own_complete_reply(version: int) -> None:
    names = ["PJSIPShowEndpoints", "CoreStatus", "QueueStatus", "NoSuchAction", "PJSIPShowContacts", "Ping"]
    with client_of(version=version) as client:
        futures = [client.submit(name) for name in names]
        replies = {name: future.result(20) for name, future in zip(names, futures, strict=True)}
    for name, reply in replies.items():
        assert len(reply.messages) == raw(version, name).count(b"\r\n\r\n")
        assert {message.action_id for message in reply.messages} == {reply.response.action_id}
    assert replies["PJSIPShowEndpoints"].items[-1].event == "EndpointListComplete"
    assert replies["NoSuchAction"].absent


def test_actions_are_sent_without_waiting_for_earlier_replies() -> None:
    def answer_in_reverse(session: Session) -> None:
        session.log_in()
        waiting = [session.next_action() for _ in range(20)]
        for action in reversed(waiting):
            session.reply(action, PONG)

    with client_of(answer_in_reverse) as client:
        futures = [client.submit("Ping") for _ in range(20)]
        assert [future.result(20).response.get("Ping") for future in futures] == ["Pong"] * 20


@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_returns_its_output_or_raises_its_error(version: int) -> None:
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


def test_an_empty_list_is_not_an_error() -> None:
    with client_of() as client:
        for name in ("bare-PJSIPShowEndpoints", "ConfbridgeListRooms", "bare-QueueStatus"):
            reply = client.request(name)
            assert [item for item in reply.items if item.get("EventList") != "Complete"] == []


def test_an_old_asterisks_command_reply_is_read() -> None:
    def serve_old_asterisk(session: Session) -> None:
        session.log_in(greeting=b"Asterisk Call Manager/2.10.4")
        output = b"System uptime: 5\n\r\n\r\nLast reload: 5\n--END COMMAND--\r\n\r\n"
        session.reply(session.next_action(), b"Response: Follows\r\nPrivilege: Command\r\nActionID: x\r\n" + output)
        further_actions = list(session.actions())
        assert further_actions == []

    with client_of(serve_old_asterisk) as client:
        assert client.command("core show uptime") == ["System uptime: 5", "", "", "Last reload: 5"]


def test_actions_with_line_breaks_are_never_sent() -> None:
    received: list[dict[str, str]] = []

    def record_login(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            received.append(action)
            session.answer(action)

    with client_of(record_login) as client:
        for value in ("core show version\r\nAction: Logoff", "a\nb", "x" * 2000):
            with pytest.raises(SettingsError):
                client.command(value)
        assert client.request("Ping").response.get("Ping") == "Pong"
    assert [action["Action"] for action in received] == ["Ping"]


def test_a_late_reply_after_the_idle_deadline_disturbs_no_other_action() -> None:
    resume = threading.Event()

    def answer_late(session: Session) -> None:
        session.log_in()
        late = session.next_action()
        resume.wait(20)
        session.reply(late, raw(22, "PJSIPShowEndpoints"))
        for action in session.actions():
            session.answer(action)

    with client_of(answer_late) as client:
        events = client.subscribe()
        with pytest.raises(Deadline, match="PJSIPShowEndpoints"):
            client.request("PJSIPShowEndpoints", deadline_s=60, idle_s=0.05)
        resume.set()
        assert len(client.request("QueueStatus").messages) == raw(22, "QueueStatus").count(b"\r\n\r\n")
        assert events.get(0.01) is None
        assert client.gaps == type(client.gaps)()


def test_the_total_deadline_ends_a_reply_that_trickles_in() -> None:
    def send_slowly(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        start, item = raw(22, "PJSIPShowEndpoints").split(b"\r\n\r\n")[:2]
        session.reply(action, start + b"\r\n\r\n")
        while True:
            session.reply(action, item + b"\r\n\r\n")
            threading.Event().wait(0.01)

    with client_of(send_slowly) as client, pytest.raises(Deadline):
        client.request("PJSIPShowEndpoints", deadline_s=0.3, idle_s=60)


def test_a_lost_connection_fails_pending_actions_without_repeating_them_and_reports_a_gap() -> None:
    received: list[list[str]] = []

    def disconnect(session: Session) -> None:
        session.log_in()
        received.append([session.next_action()["Action"]])
        session.send(EVENT % 1)

    def serve_after_reconnect(session: Session) -> None:
        session.log_in()
        session.send(EVENT % 2)
        received.append([])
        for action in session.actions():
            received[-1].append(action["Action"])
            session.answer(action)

    with client_of(disconnect, serve_after_reconnect, events="on") as client:
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
    assert received == [["Originate"], ["Ping"]]


def test_while_disconnected_actions_fail_immediately_and_the_client_keeps_reconnecting() -> None:
    def disconnect(session: Session) -> None:
        session.log_in()

    def send_wrong_greeting(session: Session) -> None:
        session.send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")

    with (
        replay(disconnect, send_wrong_greeting, send_wrong_greeting, Session.serve) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=0.1)) as client,
    ):
        wait_until(lambda: not client.connected)
        with pytest.raises(Unreachable, match="was not sent"):
            client.request("Ping")
        wait_until(lambda: client.connected)
        assert client.request("Ping").response.get("Ping") == "Pong"
        assert server.sessions == 4
        assert len(client.gaps) == 1


def test_an_unanswered_ping_during_silence_is_a_gap() -> None:
    pings: list[str] = []

    def answer_first_ping(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            pings.append(action["Action"])
            if len(pings) == 1:
                session.reply(action, PONG)

    with client_of(answer_first_ping, Session.serve, keepalive_s=0.1, idle_s=0.1) as client:
        wait_until(lambda: len(client.gaps) == 1)
        assert pings[:2] == ["Ping", "Ping"]
        assert "ping" in client.gaps[0].reason
        assert client.request("Ping").response.get("Ping") == "Pong"


def test_a_slow_subscriber_blocks_nobody_and_counts_its_dropped_events() -> None:
    def flood(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        session.send(b"".join(EVENT % number for number in range(20_000)))
        session.reply(action, PONG)
        for _ in session.actions():
            pass

    with client_of(flood, events="on") as client:
        small, large = client.subscribe(limit=100), client.subscribe(limit=50_000)
        client.request("Ping")
        assert small.dropped == 19_900
        assert large.dropped == 0
        client.close()
        assert [item.get("Uniqueid") for item in small if isinstance(item, Message)] == [str(n) for n in range(100)]
        assert [item.get("Uniqueid") for item in large if isinstance(item, Message)] == [str(n) for n in range(20_000)]


def test_all_captured_events_arrive_in_order_in_any_pieces() -> None:
    stream = raw(16, "events") + raw(22, "events")

    def send_in_pieces(session: Session) -> None:
        session.log_in()
        session.next_action()
        for start in range(0, len(stream), 997):
            session.send(stream[start : start + 997])

    with client_of(send_in_pieces, events="on") as client:
        events = client.subscribe()
        future = client.submit("Ping")
        wait_until(future.done)
        client.close()
        received_events = [item.raw for item in events if isinstance(item, Message)]
    assert received_events == [frame.lstrip() for frame in stream.split(b"\r\n\r\n") if frame.strip()]


def test_a_full_subscription_still_reports_a_gap() -> None:
    subscription = Subscription(limit=1)
    subscription.offer([b"Event: A", b"Event: B"])
    gap = ConnectionGap(datetime.now(UTC), datetime.now(UTC), "closed")
    subscription.report(gap)
    subscription.close()
    assert [item if isinstance(item, ConnectionGap) else item.event for item in subscription] == ["A", gap]
    assert subscription.dropped == 1


def test_close_ends_pending_actions_subscriptions_and_the_thread() -> None:
    with client_of(never_answer) as client:
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


def test_actions_larger_than_the_socket_buffers_are_sent_completely() -> None:
    sent = threading.Event()

    def read_late(session: Session) -> None:
        session.log_in()
        sent.wait(20)
        for action in session.actions():
            session.reply(action, PONG)

    with client_of(read_late) as client:
        futures = [client.submit("Getvar", [("Variable", "x" * 1000)] * 100) for _ in range(100)]
        sent.set()
        assert all(future.result(20).response.response == "Success" for future in futures)
