"""AMI parsers with mutated replies and events: they read what is valid and never raise an unexpected error."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.ami.devices import DeviceMessages, parse_devices
from pbx.asterisk.ami.protocol import AmiParser, Message
from pbx.asterisk.ami.snapshot import parse_active_calls, parse_queues, parse_start, parse_system
from pbx.asterisk.ami.values import decimal, integer, moment, roundtrip_ms, seconds, unescape, utc_offset
from pbx.errors import AmiProtocolError
from pbx.live.events import LiveHistory
from tests.fuzz.mutations import EDGE_CASES, fuzzed, mutated
from tests.unit.asterisk.ami.replay_server import ami_fixtures

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
GREETINGS = (b"Asterisk Call Manager/5.0.2\r\n", b"Asterisk Call Manager/1.1\r\n")
REPLIES = [path.read_bytes() for path in ami_fixtures()]
EVENTS = [path.read_bytes() for path in ami_fixtures() if path.stem == "events"]
EVENT_MESSAGES = [
    frame + b"\r\n\r\n" for events in EVENTS for frame in events.split(b"\r\n\r\n") if frame.startswith(b"Event: ")
]
LISTS = [path.read_bytes() for path in ami_fixtures() if path.stem[0].isupper()]


def messages_of(data: bytes) -> list[Message]:
    """The messages before the first protocol error."""
    parser = AmiParser()
    messages = parser.feed(GREETINGS[0])
    try:
        for start in range(0, len(data), 4096):
            messages += parser.feed(data[start : start + 4096])
    except AmiProtocolError:
        pass
    return messages


@fuzzed
@given(st.sampled_from(GREETINGS), mutated(REPLIES), st.integers(1, 5000))
def test_mutated_replies_are_parsed_the_same_in_pieces_of_any_size(greeting: bytes, data: bytes, size: int) -> None:
    results = []
    for step in (size, len(data) or 1):
        parser, messages = AmiParser(), []
        try:
            messages += parser.feed(greeting)
            for start in range(0, len(data), step):
                messages += parser.feed(data[start : start + step])
        except AmiProtocolError:
            messages = []  # small pieces reach a limit sooner, so the messages before it may differ
        results.append([message.headers for message in messages])
    assert [] in results or results[0] == results[1]


@fuzzed
@given(mutated(LISTS))
def test_mutated_lists_are_parsed_into_parts_of_a_snapshot(data: bytes) -> None:
    items = tuple(messages_of(data))
    queues, calls = parse_queues(items), parse_active_calls(items)
    assert all(queue.service_level_s >= 0 for queue in queues if queue.service_level_s is not None)
    assert all(call.duration_s >= 0 for call in calls)
    parse_devices(
        DeviceMessages(
            endpoints=items, contacts=items, registrations=items, sip_peers=items, sip_registry=items,
            iax_peers=items, iax_registry=items, channels=items,
        )
    )  # fmt: skip
    for message in items:
        parse_system(message, message, utc_offset(message.get("Value")), None, AT)
        parse_start(message)


@fuzzed
@given(st.lists(mutated(EVENT_MESSAGES, changes=3), min_size=1, max_size=12).map(b"".join))
def test_mutated_events_give_consistent_history(data: bytes) -> None:
    history = LiveHistory()
    items = messages_of(data)
    for message in items:
        history.take(message, AT)
    history.resume(AT, items, items)
    updates = history.take_updates(AT)
    for visit in updates.visits:
        assert visit.joined_at.tzinfo is UTC
        assert visit.wait_s is None or visit.wait_s >= 0
        assert visit.ended_at is None or visit.ended_at >= (visit.connected_at or visit.joined_at)


@pytest.mark.parametrize("header", ["Timestamp", "HoldTime", "TalkTime", "RingTime", "Wait", "Position", "Duration"])
@pytest.mark.parametrize("value", EDGE_CASES, ids=lambda value: repr(value[:20]))
def test_edge_cases_in_the_numbers_of_events_are_accepted(header: str, value: bytes) -> None:
    names = ("QueueCallerJoin", "AgentConnect", "AgentRingNoAnswer", "AgentComplete", "QueueCallerAbandon", "Hangup")
    common = b"\r\nUniqueid: 1.1\r\nQueue: q\r\nInterface: i\r\n"
    events = [Message(b"Event: " + name.encode() + common + header.encode() + b": " + value) for name in names]
    history = LiveHistory()
    for event in events:
        history.take(event, AT)
    entry = Message(b"Event: QueueEntry\r\nQueue: q\r\nUniqueid: 1.2\r\n" + header.encode() + b": " + value)
    channel = Message(b"Event: CoreShowChannel\r\nUniqueid: 1.2\r\n" + header.encode() + b": " + value)
    history.resume(AT, [entry], [channel])
    assert history.take_updates(AT).visits
    parse_queues([Message(entry.raw.replace(b"QueueEntry", b"QueueParams")), entry])
    parse_active_calls([channel])


@given(st.text(max_size=30) | st.sampled_from(EDGE_CASES).map(lambda data: data.decode("utf-8", "replace")))
def test_any_text_is_parsed_to_a_value_or_none(text: str) -> None:
    number = decimal(text)
    assert number is None or abs(number) < float("inf")
    assert isinstance(integer(text), int)
    assert moment(text) is None or moment(text).tzinfo is UTC  # type: ignore[union-attr]
    assert isinstance(unescape(text), str)
    assert seconds(text) >= 0
    assert seconds(f"{text}:0:{text}") >= 0
    roundtrip_ms(text)
    utc_offset(text)


@pytest.mark.parametrize("date", ["0001-01-01", "1969-12-31", "9999-12-31", "2026-02-30", "nan", "", "20260301"])
@pytest.mark.parametrize("time", ["00:00:00", "23:59:59", "24:00:00", "12:00:00+05:00", ""])
@pytest.mark.parametrize("hours", [-14, 14])
def test_any_start_time_is_parsed_to_a_time_or_none(date: str, time: str, hours: int) -> None:
    lines = (
        f"Core{what}{kind}: {value}"
        for what in ("Startup", "Reload")
        for kind, value in (("Date", date), ("Time", time))
    )
    status = Message("\r\n".join(["Response: Success", *lines]).encode())
    offset = timedelta(hours=hours)
    system = parse_system(status, status, offset, offset, AT)
    started_at = parse_start(status)
    assert started_at is None or started_at.year == 2026
    assert (system.started_at is None) == (started_at is None)
