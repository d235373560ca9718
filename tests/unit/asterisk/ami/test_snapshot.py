"""AMI's replies become calls, queues and the system's start time."""

from datetime import UTC, datetime, timedelta

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.snapshot import parse_active_calls, parse_queues, parse_start, parse_system


def message(*lines: str) -> Message:
    return Message("\r\n".join(lines).encode())


def leg(channel: str, uniqueid: str, caller: str, connected: str, duration: str = "00:00:05") -> Message:
    return message(
        "Event: CoreShowChannel",
        f"Channel: {channel}",
        "ChannelStateDesc: Up",
        f"CallerIDNum: {caller}",
        'CallerIDName: O\\\'Brien \\"Zo\\"',
        f"ConnectedLineNum: {connected}",
        "Exten: 1002",
        "Application: Dial",
        f"Uniqueid: {uniqueid}",
        "Linkedid: 1.1",
        f"Duration: {duration}",
    )


def test_channels_with_one_linkedid_are_one_call_with_the_first_legs_caller() -> None:
    legs = [leg("PJSIP/1002-b", "1.2", "1002", "1001", "00:00:03"), leg("PJSIP/1001-a", "1.1", "1001", "1002")]
    (call,) = parse_active_calls(legs)
    assert (call.linkedid, call.channel, call.caller_id, call.connected_to) == ("1.1", "PJSIP/1001-a", "1001", "1002")
    assert (call.caller_name, call.duration_s) == ('O\'Brien "Zo"', 5)
    assert call.channels == ("PJSIP/1001-a", "PJSIP/1002-b")


def test_without_the_first_leg_the_oldest_leg_gives_the_caller() -> None:
    legs = [
        leg("PJSIP/1003-c", "1.3", "1003", "<unknown>", "00:00:01"),
        leg("PJSIP/1002-b", "1.2", "<unknown>", "", "01:00:00"),
    ]
    (call,) = parse_active_calls(legs)
    assert (call.channel, call.caller_id, call.connected_to, call.duration_s) == ("PJSIP/1002-b", "", "1003", 3600)


def test_a_queue_lists_members_and_callers_and_the_default_queue_is_omitted() -> None:
    events = [
        message("Event: QueueEntry", "Queue: sales", "Position: 2", "CallerIDNum: <unknown>", "Wait: 3"),
        message("Event: QueueParams", "Queue: sales", "Calls: 2", "ServicelevelPerf: 33.3"),
        message("Event: QueueParams", "Queue: default", "Calls: 0"),
        message(
            "Event: QueueMember", "Queue: sales", "Name: B", "Location: L/2", "Status: 1", "Paused: 1", "LastCall: 0"
        ),
        message(
            "Event: QueueMember", "Queue: sales", "Name: A", "Location: L/1", "Status: 1", "Paused: 0", "InCall: 0"
        ),
        message(
            "Event: QueueEntry", "Queue: sales", "Position: 1", 'CallerIDName: "Zo" <b>🎉', "CallerIDNum: 55", "Wait: 9"
        ),
        message("Event: QueueEntry", "Queue: gone", "Position: 1"),
    ]
    (queue,) = parse_queues(events)
    assert (queue.name, queue.calls, queue.longest_wait_s, queue.agents_available) == ("sales", 2, 9, 1)
    assert (queue.service_level_perf, queue.service_level_perf2) == (33.3, None)
    assert [member.name for member in queue.members] == ["A", "B"]
    assert [(caller.caller_id, caller.caller_name) for caller in queue.callers] == [("55", '"Zo" <b>🎉'), ("", "")]


STATUS = message(
    "Response: Success",
    "CoreStartupDate: 2026-10-24",
    "CoreStartupTime: 14:00:00",
    "CoreReloadDate: 2026-10-25",
    "CoreReloadTime: 14:00:00",
    "CoreCurrentCalls: 3",
)


def test_the_start_time_uses_the_utc_offset_of_its_own_day() -> None:
    now = datetime(2026, 10, 25, 14, 0, tzinfo=UTC)
    system = parse_system(message("Response: Success"), STATUS, timedelta(hours=2), timedelta(hours=1), now)
    assert system.started_at == datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    assert system.reloaded_at == datetime(2026, 10, 25, 13, 0, tzinfo=UTC)
    assert (system.uptime_s, system.utc_offset_s, system.channels) == (26 * 3600, 3600, 3)


def test_without_a_utc_offset_there_are_no_times() -> None:
    system = parse_system(message("Response: Success"), STATUS, None, None, datetime.now(UTC))
    assert (system.started_at, system.reloaded_at, system.uptime_s, system.utc_offset_s) == (None,) * 4
    assert parse_start(message("Response: Success")) is None
