"""A faulty or hostile AMI server causes one of the project's own errors, within bounded time and memory."""

import itertools
import re
import socket
import threading
import time
import tracemalloc

import pytest

from pbx.asterisk.ami import client as client_module
from pbx.asterisk.ami import connection as connection_module
from pbx.asterisk.ami import pending_action
from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.connection import open_link
from pbx.asterisk.ami.protocol import AmiParser, Message
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.ami.subscription import ConnectionGap, Subscription
from pbx.errors import AmiProtocolError, AmiTooLarge, Deadline, PbxError, Unreachable
from tests.unit.asterisk.ami.replay_server import Session, raw, replay, replying, wait_until

ITEM = b"Event: QueueMember\r\nActionID: x\r\nQueue: sales\r\nName: %s\r\n\r\n"
START = b"Response: Success\r\nActionID: x\r\nEventList: start\r\nMessage: Queue status will follow\r\n\r\n"
END = b"Event: QueueStatusComplete\r\nActionID: x\r\nEventList: Complete\r\nListItems: 1\r\n\r\n"


def send_endlessly(session: Session, action: dict[str, str], size: int = 1000) -> None:
    """Send a list that never ends, as fast as the client reads it."""
    session.reply(action, START)
    items = re.sub(rb"ActionID: x", b"ActionID: " + action["ActionID"].encode(), ITEM % (b"x" * size)) * 50
    while True:
        session.send(items)


@pytest.fixture
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_action, "MAX_ANSWER_BYTES", 200_000)
    monkeypatch.setattr(pending_action, "MAX_HELD_BYTES", 400_000)


@pytest.mark.usefixtures("low_limits")
def test_an_endless_list_fails_alone_and_the_rest_of_the_snapshot_is_complete() -> None:
    received: list[str] = []

    def send_list(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            received.append(action["Action"])
            if action["Action"] == "QueueStatus":
                send_endlessly(session, action)
            session.answer(action)

    with (
        replay(send_list) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=0.01)) as client,
    ):
        snapshot = take_snapshot(client)
        again = take_snapshot(client)
        assert len(client.gaps) == 1
        with pytest.raises(AmiTooLarge, match="QueueStatus is too large"):
            client.request("QueueStatus")
    for found in (snapshot, again):
        assert {name for name, part in found.parts.items() if part.state != "ok"} == {"queues"}
        assert "too large" in found.parts["queues"].reason
        assert len(found.trunks) == 4
        assert found.system is not None
    assert received.count("QueueStatus") == 1


@pytest.mark.usefixtures("low_limits")
def test_the_total_size_of_pending_replies_is_limited() -> None:
    def send_lists(session: Session) -> None:
        session.log_in()
        actions = [session.next_action() for _ in range(5)]
        for action in actions:
            session.reply(action, START)
        for name in itertools.count():
            for action in actions:
                session.reply(action, ITEM % (b"%d" % name) + ITEM % (b"y" * 1000))

    with (
        replay(send_lists) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=60)) as client,
    ):
        futures = [client.submit("QueueStatus") for _ in range(5)]
        errors = [future.exception(20) for future in futures]
    assert sorted(type(error).__name__ for error in errors) == ["AmiTooLarge", *["Unreachable"] * 4]


def test_the_number_of_list_items_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_action, "MAX_ITEMS", 500)

    def send_list(session: Session) -> None:
        session.log_in()
        send_endlessly(session, session.next_action(), size=1)

    with (
        replay(send_list) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=60)) as client,
        pytest.raises(AmiTooLarge),
    ):
        client.request("QueueStatus")


def test_a_list_without_a_response_is_an_error_and_other_actions_are_answered() -> None:
    without_response = replying(QueueStatus=ITEM % b"Eve" + END)
    with replay(without_response) as server, AmiClient.connect(server.connection()) as client:
        future = client.submit("QueueStatus")
        with pytest.raises(AmiProtocolError, match="QueueStatus is incomplete"):
            future.result(20)
        snapshot = take_snapshot(client)
        assert list(client.gaps) == []
    assert {name for name, part in snapshot.parts.items() if part.state != "ok"} == {"queues"}
    assert len(snapshot.trunks) == 4


def test_a_list_that_neither_starts_nor_ends_hits_the_deadline() -> None:
    def without_response(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        while True:
            session.reply(action, ITEM % b"Eve")
            time.sleep(0.01)

    with (
        replay(without_response) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(deadline_s=0.5)) as client,
        pytest.raises(Deadline, match="QueueStatus"),
    ):
        client.request("QueueStatus")


def test_a_snapshot_has_a_total_deadline() -> None:
    def send_slowly(session: Session) -> None:
        session.log_in()
        actions = [session.next_action() for _ in range(10)]
        while True:
            for action in actions:
                session.reply(action, ITEM % b"Eve")
            time.sleep(0.01)

    started = time.monotonic()
    with (
        replay(send_slowly) as server,
        AmiClient.connect(server.connection()) as client,
        pytest.raises(Deadline),
    ):
        take_snapshot(client, deadline_s=0.5)
    assert time.monotonic() - started < 5


def test_too_many_unanswered_actions_cause_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_UNANSWERED", 5)

    def never_answer(session: Session) -> None:
        session.log_in()
        for _ in session.actions():
            session.send(b"Event: Alive\r\n\r\n")

    quick = AmiTiming(retry_s=0.01)
    with replay(never_answer, Session.serve) as server, AmiClient.connect(server.connection(), timing=quick) as client:
        futures = [client.submit("QueueStatus", deadline_s=0.05) for _ in range(10)]
        assert all(isinstance(future.exception(20), Unreachable) for future in futures)
        wait_until(lambda: len(client.gaps) == 1)
        assert "never answered" in client.gaps[0].reason
        assert client.request("Ping").response.get("Ping") == "Pong"


@pytest.mark.parametrize("before", ["greeting", "challenge", "login"])
def test_a_flood_before_the_login_reply_is_a_protocol_error(before: str) -> None:
    event = b"Event: Flood\r\nValue: " + b"x" * 1000 + b"\r\n\r\n"

    def flood(session: Session) -> None:
        if before == "greeting":
            while True:
                session.send(b"x" * 1000)
        session.send(b"Asterisk Call Manager/11.0.0\r\n")
        action = session.next_action()
        if before == "login":
            session.reply(action, b"Response: Success\r\nActionID: x\r\nChallenge: 123\r\n\r\n")
            session.next_action()
        while True:
            session.send(event * 100)

    tracemalloc.start()
    with replay(flood) as server, pytest.raises(AmiProtocolError):
        open_link(server.connection(), deadline_s=20)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_a_subscription_is_also_limited_in_bytes() -> None:
    subscription = Subscription(limit=1000, limit_bytes=1000)
    subscription.offer([b"Event: " + b"x" * 400 for _ in range(10)])
    assert (subscription.waiting, subscription.dropped) == (2, 8)
    assert subscription.get(0) is not None
    subscription.offer([b"Event: A", b"Event: " + b"x" * 900])
    assert (subscription.waiting, subscription.dropped) == (2, 9)
    large = Subscription(limit=1000)
    large.offer([b"Event: " + b"x" * 20_000, b"Event: A"])
    assert (large.waiting, large.dropped) == (1, 1)
    subscription.close()
    assert len(list(subscription)) == 2


def test_unread_events_use_bounded_memory() -> None:
    event = b"Event: Hangup\r\nValue: " + b"x" * 10_000 + b"\r\n\r\n"
    sent = threading.Event()

    def flood(session: Session) -> None:
        session.log_in()
        for _ in range(10_000):  # 100 MB
            session.send(event)
        sent.set()
        for action in session.actions():
            session.answer(action)

    with replay(flood) as server, AmiClient.connect(server.connection(), events="on") as client:
        tracemalloc.start()
        events = client.subscribe()
        wait_until(sent.is_set)
        client.request("Ping")
        held_bytes = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert events.dropped > 2000
        assert isinstance(events.get(0), Message)
    assert held_bytes < 80_000_000


def test_a_greeting_with_5000_version_digits_is_refused() -> None:
    with pytest.raises(AmiProtocolError, match="greeting"):
        AmiParser().feed_frames(b"Asterisk Call Manager/" + b"9" * 5000 + b"\r\n")


HUGE = b"9" * 5000


@pytest.mark.parametrize(
    "value", [HUGE, b"-" + HUGE, b"1e999", b"inf", b"nan", b"OK (" + HUGE + b" ms)", b"\xff\x00", b"[::"]
)
def test_values_that_are_not_valid_numbers_are_ignored(value: bytes) -> None:
    """The server replaces every value of every captured reply with such a value."""

    def replace_values(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            name = action["Action"]
            if name.startswith(("Core", "PJSIPShowE", "PJSIPShowC", "Queue", "SIP")) and not action.get("Endpoint"):
                header = rb"\r\n((?!Event|Response|ActionID|EventList|ObjectName|Queue|Dynamic|Endpoint)\w+): [^\r]+"
                session.reply(action, re.sub(header, lambda found: b"\r\n" + found[1] + b": " + value, raw(16, name)))
            else:
                session.answer(action)

    with replay(replace_values, version=16) as server, AmiClient.connect(server.connection()) as client:
        snapshot = take_snapshot(client)
    assert {part.state for part in snapshot.parts.values()} == {"ok"}
    assert len(snapshot.queues) == 3
    assert "inf" not in re.findall(r'_ms":(\w+)', snapshot.model_dump_json())


def test_a_dns_server_that_never_answers_hits_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    never_answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never_answered.wait(20))
    with replay() as server:
        connection = server.connection(host="pbx.example.com")
        started = time.monotonic()
        with pytest.raises(Deadline, match="DNS server"):
            open_link(connection, deadline_s=0.2)
    never_answered.set()
    assert time.monotonic() - started < 5


def test_garbage_causes_only_the_projects_own_errors() -> None:
    for garbage in (
        b"\x00" * 1000,
        b"\r\n" * 1000,
        b"Response: \xff\r\n\r\n" * 100,
        b"Event:\r\n\r\n",
        b":\r\n\r\n" * 99,
    ):

        def serve(session: Session, garbage: bytes = garbage) -> None:
            session.log_in()
            session.next_action()
            session.send(garbage)

        with replay(serve) as server, AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=60)) as client:
            events = client.subscribe()
            with pytest.raises(PbxError):
                client.request("QueueStatus", deadline_s=1)
            items = [events.get(0) for _ in range(events.waiting)]
            assert all(isinstance(item, Message | ConnectionGap) for item in items)


def test_the_limit_before_the_login_exceeds_100_times_what_asterisk_sends() -> None:
    assert 100 * len(raw(16, "login")) < connection_module.MAX_LOGIN_BYTES
