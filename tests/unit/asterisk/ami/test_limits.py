"""A peer that is sick or means harm: what it sends ends as our own error, in a bounded time and a bounded memory."""

import itertools
import re
import socket
import threading
import time
import tracemalloc

import pytest

from pbx.asterisk.ami import client as client_module
from pbx.asterisk.ami import connection as connection_module
from pbx.asterisk.ami import pending_action as call_module
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


def endless(session: Session, action: dict[str, str], size: int = 1000) -> None:
    """A list that never completes, as fast as it is read."""
    session.reply(action, START)
    items = re.sub(rb"ActionID: x", b"ActionID: " + action["ActionID"].encode(), ITEM % (b"x" * size)) * 50
    while True:
        session.send(items)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "MAX_ANSWER_BYTES", 200_000)
    monkeypatch.setattr(call_module, "MAX_HELD_BYTES", 400_000)


@pytest.mark.usefixtures("small")
def test_an_endless_list_ends_alone_and_the_rest_of_the_snapshot_is_there() -> None:
    asked: list[str] = []

    def hostile(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            asked.append(action["Action"])
            if action["Action"] == "QueueStatus":
                endless(session, action)
            session.answer(action)

    with replay(hostile) as server, AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=0.01)) as client:
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
    assert asked.count("QueueStatus") == 1


@pytest.mark.usefixtures("small")
def test_all_answers_together_are_bounded() -> None:
    def many(session: Session) -> None:
        session.log_in()
        actions = [session.next_action() for _ in range(5)]
        for action in actions:
            session.reply(action, START)
        for name in itertools.count():
            for action in actions:
                session.reply(action, ITEM % (b"%d" % name) + ITEM % (b"y" * 1000))

    with replay(many) as server, AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=60)) as client:
        futures = [client.submit("QueueStatus") for _ in range(5)]
        errors = [future.exception(20) for future in futures]
    assert sorted(type(error).__name__ for error in errors) == ["AmiTooLarge", *["Unreachable"] * 4]


def test_a_list_of_too_many_items_is_too_large_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "MAX_ITEMS", 500)

    def hostile(session: Session) -> None:
        session.log_in()
        endless(session, session.next_action(), size=1)

    with (
        replay(hostile) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(retry_s=60)) as client,
        pytest.raises(AmiTooLarge),
    ):
        client.request("QueueStatus")


def test_a_list_whose_response_never_comes_ends_and_the_others_are_answered() -> None:
    headless = replying(QueueStatus=ITEM % b"Eve" + END)
    with replay(headless) as server, AmiClient.connect(server.connection()) as client:
        future = client.submit("QueueStatus")
        with pytest.raises(AmiProtocolError, match="QueueStatus is incomplete"):
            future.result(20)
        snapshot = take_snapshot(client)
        assert list(client.gaps) == []
    assert {name for name, part in snapshot.parts.items() if part.state != "ok"} == {"queues"}
    assert len(snapshot.trunks) == 4


def test_a_list_that_neither_begins_nor_ends_runs_out_of_time() -> None:
    def headless(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        while True:
            session.reply(action, ITEM % b"Eve")
            time.sleep(0.01)

    with (
        replay(headless) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(deadline_s=0.5)) as client,
        pytest.raises(Deadline, match="QueueStatus"),
    ):
        client.request("QueueStatus")


def test_a_snapshot_has_a_total_deadline_whatever_each_action_may_take() -> None:
    def drips(session: Session) -> None:
        session.log_in()
        actions = [session.next_action() for _ in range(10)]
        while True:
            for action in actions:
                session.reply(action, ITEM % b"Eve")
            time.sleep(0.01)

    begun = time.monotonic()
    with (
        replay(drips) as server,
        AmiClient.connect(server.connection()) as client,
        pytest.raises(Deadline),
    ):
        take_snapshot(client, deadline_s=0.5)
    assert time.monotonic() - begun < 5


def test_a_peer_that_owes_too_many_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_UNANSWERED", 5)

    def deaf(session: Session) -> None:
        session.log_in()
        for _ in session.actions():
            session.send(b"Event: Alive\r\n\r\n")

    quick = AmiTiming(retry_s=0.01)
    with replay(deaf, Session.serve) as server, AmiClient.connect(server.connection(), timing=quick) as client:
        futures = [client.submit("QueueStatus", deadline_s=0.05) for _ in range(10)]
        assert all(isinstance(future.exception(20), Unreachable) for future in futures)
        wait_until(lambda: len(client.gaps) == 1)
        assert "never answered" in client.gaps[0].reason
        assert client.request("Ping").response.get("Ping") == "Pong"


@pytest.mark.parametrize("before", ["greeting", "challenge", "login"])
def test_a_flood_before_the_login_is_answered_is_no_answer(before: str) -> None:
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


def test_a_subscription_is_bounded_by_bytes_too() -> None:
    subscription = Subscription(limit=1000, limit_bytes=1000)
    subscription.offer([b"Event: " + b"x" * 400 for _ in range(10)])
    assert (subscription.waiting, subscription.dropped) == (2, 8)
    assert subscription.get(0) is not None
    subscription.offer([b"Event: A", b"Event: " + b"x" * 900])
    assert (subscription.waiting, subscription.dropped) == (2, 9)
    wide = Subscription(limit=1000)
    wide.offer([b"Event: " + b"x" * 20_000, b"Event: A"])
    assert (wide.waiting, wide.dropped) == (1, 1)
    subscription.close()
    assert len(list(subscription)) == 2


def test_events_that_nobody_takes_fill_no_memory() -> None:
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


def test_a_version_of_endless_digits_is_no_greeting() -> None:
    with pytest.raises(AmiProtocolError, match="greeting"):
        AmiParser().feed_frames(b"Asterisk Call Manager/" + b"9" * 5000 + b"\r\n")


HUGE = b"9" * 5000


@pytest.mark.parametrize(
    "value", [HUGE, b"-" + HUGE, b"1e999", b"inf", b"nan", b"OK (" + HUGE + b" ms)", b"\xff\x00", b"[::"]
)
def test_values_that_no_number_holds_are_read_as_nothing(value: bytes) -> None:
    """Every value of every captured answer is such a one."""

    def spoil(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            name = action["Action"]
            if name.startswith(("Core", "PJSIPShowE", "PJSIPShowC", "Queue", "SIP")) and not action.get("Endpoint"):
                kept = rb"\r\n((?!Event|Response|ActionID|EventList|ObjectName|Queue|Dynamic|Endpoint)\w+): [^\r]+"
                session.reply(action, re.sub(kept, lambda found: b"\r\n" + found[1] + b": " + value, raw(16, name)))
            else:
                session.answer(action)

    with replay(spoil, version=16) as server, AmiClient.connect(server.connection()) as client:
        snapshot = take_snapshot(client)
    assert {part.state for part in snapshot.parts.values()} == {"ok"}
    assert len(snapshot.queues) == 3
    assert "inf" not in re.findall(r'_ms":(\w+)', snapshot.model_dump_json())


def test_a_name_server_that_never_answers_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hold.wait(20))
    with replay() as server:
        connection = server.connection(host="pbx.example.com")
        begun = time.monotonic()
        with pytest.raises(Deadline, match="DNS server"):
            open_link(connection, deadline_s=0.2)
    hold.set()
    assert time.monotonic() - begun < 5


def test_no_kind_of_garbage_is_any_other_error_than_ours() -> None:
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


def test_the_limit_before_the_login_leaves_room_for_asterisk() -> None:
    assert 100 * len(raw(16, "login")) < connection_module.MAX_LOGIN_BYTES
