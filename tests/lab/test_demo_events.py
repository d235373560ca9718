"""The demo PBX's events compared with Asterisk 16 and 22: the same fields and, in the same kind of call, order.

The tests place real calls and compare their events with those of a similar simulated call. Asterisk publishes on
several topics concurrently. Only two orders are fixed: that of each channel's own states, and that of the queue and
dial events on the caller's channel. QueueMemberStatus can come anywhere between them.
"""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta

import pytest

from pbx.demo.company import PlannedCall
from pbx.demo.shifts_and_outages import DayClock
from pbx.demo.simulated_asterisk import AmiEvent, SimulatedAsterisk
from pbx.demo.simulated_history import calls_of_day
from pbx.live.events import USED_EVENTS, VARIABLES
from tests.lab import calls
from tests.lab.ami_session import Ami
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.lab.test_demo_ami import Fields, Message, messages
from tests.simulator.asterisk_22 import RELEASES
from tests.unit.asterisk.ami.replay_server import raw

pytestmark = pytest.mark.lab
CLASSES = "system,call,agent,dialplan"
DAYS = [date(2026, 11, 16) + timedelta(days=day) for day in range(5)]
PHONE = "PJSIP/1002"
# The events of a channel's own states.
CHANNEL_EVENTS = ("Newchannel", "Newstate", "HangupRequest", "SoftHangupRequest", "Hangup")
# The queue and dial events on the caller's channel, whose order is fixed.
QUEUE_EVENTS = (
    *("VarSet", "MixMonitorStart", "QueueCallerJoin", "AgentCalled", "DialBegin", "DialEnd", "AgentRingNoAnswer"),
    *("QueueCallerLeave", "QueueCallerAbandon", "AgentConnect", "AgentComplete", "BlindTransfer"),
)


def names_of(message: Message) -> Fields:
    return tuple(name for name, _ in message)


def is_used(message: Message) -> bool:
    """Whether the listener subscribes to this event. It subscribes to a few variables only."""
    fields = dict(message)
    return fields.get("Event") in USED_EVENTS and (fields["Event"] != "VarSet" or fields["Variable"] in VARIABLES)


@contextmanager
def listening(server: LabServer) -> Iterator[list[Message]]:
    """Collect the events during the block. The list is filled when the block ends."""
    received: list[Message] = []
    with calls.session(server, events=CLASSES) as ami:
        ami.drain(0.1)
        yield received
        received += [message for message in messages(ami.drain(1.0)) if message[0][0] == "Event" and is_used(message)]


@contextmanager
def phone_as_agent(server: LabServer) -> Iterator[Ami]:
    """Add a telephone to the queue `billing`, whose other members are paused."""
    with calls.session(server) as ami:
        ami.action("QueueAdd", {"Queue": "billing", "Interface": PHONE, "MemberName": "Demo Probe"})
        try:
            yield ami
        finally:
            ami.action("QueueRemove", {"Queue": "billing", "Interface": PHONE})


def talk(server: LabServer, act: Callable[[Ami, calls.PlacedCall], None] = lambda ami, call: None) -> calls.PlacedCall:
    """Connect a caller with that telephone, run `act`, and hang up the caller."""
    with phone_as_agent(server) as ami:
        pausing = {"Queue": "billing", "Interface": PHONE, "Reason": "Probe"}
        for paused in ("true", "false"):
            ami.action("QueuePause", {**pausing, "Paused": paused})
        call = calls.start_queue_call(server, "billing")
        wait_until("the telephone answered", lambda: "CONNECT" in call.queue_events)
        time.sleep(1.2)
        act(ami, call)
        call.hangup()
        wait_until("the queue knows the telephone is free again", lambda: is_free(ami))
    return call


def is_free(ami: Ami) -> bool:
    members = (item for item in ami.action("QueueStatus", {"Queue": "billing"}) if item.get("Location") == PHONE)
    return [member["Status"] for member in members] == ["1"]


def transfer(ami: Ami, call: calls.PlacedCall) -> None:
    channels = (item for item in ami.action("CoreShowChannels") if item.get("Linkedid") == call.uniqueid)
    agent = next(item["Channel"] for item in channels if item.get("Channel", "").startswith(PHONE))
    ami.action("BlindTransfer", {"Channel": agent, "Context": "from-internal", "Exten": "1001"})
    time.sleep(2)


def place_inbound_call(server: LabServer) -> calls.PlacedCall:
    call = calls.start_inbound_call(server, "sales", 4)
    call.wait_end()
    return call


KINDS: dict[str, Callable[[LabServer], calls.PlacedCall]] = {
    "talk": talk,
    "transfer": lambda server: talk(server, transfer),
    "abandoned": lambda server: calls.place_queue_call(server, "abandoned", 3),
    "timeout": lambda server: calls.place_queue_call(server, "timeout", 8),
    "inbound": place_inbound_call,
    "busy": lambda server: calls.place_trunk_call(server, "busy"),
    "no answer": lambda server: calls.place_trunk_call(server, "noanswer"),
    "internal": lambda server: calls.place_internal_call(server, 2),
}


@functools.cache
def events_during(server: LabServer, kind: str) -> tuple[list[Message], calls.PlacedCall]:
    """Place a call of that kind. Return all events during it, and the call."""
    with listening(server) as received:
        call = KINDS[kind](server)
    return received, call


def lab_events(server: LabServer, kind: str) -> list[Message]:
    """The events of a call of that kind on the lab's server."""
    received, call = events_during(server, kind)
    return [message for message in received if belongs_to(message, call.uniqueid)]


@functools.cache
def shapes(server: LabServer) -> dict[str, set[Fields]]:
    """The field lists of each event, in those calls and in the captured fixtures."""
    captured = [message for message in messages(raw(server.version, "events")) if message[0][0] == "Event"]
    by_event: dict[str, set[Fields]] = {}
    for message in [*captured, *(message for kind in KINDS for message in events_during(server, kind)[0])]:
        by_event.setdefault(dict(message)["Event"], set()).add(names_of(message))
    return by_event


def simulated_asterisk(server: LabServer) -> SimulatedAsterisk:
    return RELEASES[server.version].asterisk_class(DayClock(DAYS[0]).start_at)


def as_message(event: AmiEvent) -> Message:
    return [("Event", event.name), ("Privilege", f"{event.group},all"), *event.headers]


def simulated_events(server: LabServer, condition: Callable[[PlannedCall], bool]) -> list[Message]:
    """The events of the first simulated call that meets a condition."""
    call = next(call for day in DAYS for call in calls_of_day(day) if condition(call))
    events = simulated_asterisk(server).events_between(call.started_at - timedelta(seconds=1), call.ended_at)
    messages_of_demo = [as_message(event) for event in events]
    return [message for message in messages_of_demo if belongs_to(message, call.linkedid)]


def belongs_to(message: Message, linkedid: str) -> bool:
    fields = dict(message)
    return linkedid in (fields.get("Linkedid"), fields.get("DestLinkedid"), fields.get("TransfereeLinkedid"))


def states(events: list[Message], channel: str) -> list[tuple[str, str]]:
    """The names and states of a channel's own events, in order."""
    fields = [dict(message) for message in events if dict(message)["Event"] in CHANNEL_EVENTS]
    return [(one["Event"], one["ChannelStateDesc"]) for one in fields if one["Channel"].startswith(channel)]


def caller_events(received: list[Message]) -> list[str]:
    """The names of the queue and dial events on the caller's channel, from the join on."""
    names = []
    for message in received:
        fields = dict(message)
        if fields["Event"] in QUEUE_EVENTS and "Channel" in {**fields, "TransfereeChannel": "Channel"}:
            extra = fields.get("Variable", fields.get("DialStatus", ""))
            names.append(f"{fields['Event']} {extra}".strip())
    return names[names.index("QueueCallerJoin") :]


@pytest.mark.parametrize("day", DAYS[:2])
def test_all_events_of_a_day_have_the_fields_of_asterisks(server: LabServer, day: date) -> None:
    known, start_at = shapes(server), DayClock(day).start_at
    events = simulated_asterisk(server).events_between(start_at, start_at + timedelta(days=1))
    unknown = {
        (event.name, names_of(as_message(event)))
        for event in events
        if names_of(as_message(event)) not in known.get(event.name, set())
    }
    assert len(events) > 5000
    assert not unknown
    assert {event.name for event in events} <= USED_EVENTS, "the demo sends events that the listener doesn't use"


def test_events_have_the_privileges_of_asterisks(server: LabServer) -> None:
    asterisk_privileges = {
        dict(message)["Event"]: dict(message)["Privilege"]
        for kind in KINDS
        for message in events_during(server, kind)[0]
    }
    start_at = DayClock(DAYS[0]).start_at
    demo_privileges = {
        event.name: f"{event.group},all"
        for event in simulated_asterisk(server).events_between(start_at, start_at + timedelta(days=1))
    }
    assert len(demo_privileges.keys() & asterisk_privileges.keys()) > 15
    assert {name: demo_privileges[name] for name in demo_privileges.keys() & asterisk_privileges.keys()} == {
        name: asterisk_privileges[name] for name in demo_privileges.keys() & asterisk_privileges.keys()
    }


def rang_one_agent(call: PlannedCall) -> bool:
    return len(call.rings) == 1 and not call.recording


def test_a_connected_queue_call_has_the_same_events(server: LabServer) -> None:
    asterisk_events = lab_events(server, "talk")
    demo_events = simulated_events(
        server, lambda call: call.outcome == "answered" and rang_one_agent(call) and call.ended_by == "caller"
    )
    assert [name for name in caller_events(demo_events) if name != "AgentComplete"] == [
        name for name in caller_events(asterisk_events) if name != "AgentComplete"
    ]
    assert states(demo_events, "PJSIP/2") == states(asterisk_events, PHONE)
    assert "AgentComplete" in [dict(message)["Event"] for message in demo_events]


def test_the_agents_status_changes_in_the_same_order(server: LabServer) -> None:
    asterisk_events = [
        dict(message)
        for message in events_during(server, "talk")[0]
        if dict(message)["Event"] == "QueueMemberStatus" and dict(message)["Interface"] == PHONE
    ]
    simulated = next(
        call
        for day in DAYS
        for call in calls_of_day(day)
        if call.outcome == "answered" and rang_one_agent(call) and call.agent and len(call.agent.queues) == 1
    )
    events = simulated_asterisk(server).events_between(simulated.rings[0].at - timedelta(seconds=1), simulated.ended_at)
    demo_events = [dict(event.headers) for event in events if event.name == "QueueMemberStatus"]
    demo_states = [
        one["Status"] for one in demo_events if simulated.agent and one["MemberName"] == simulated.agent.name
    ]
    assert demo_states == list(dict.fromkeys(one["Status"] for one in asterisk_events)) == ["6", "2", "1"]


def test_the_callers_channel_has_the_same_states_and_fields(server: LabServer) -> None:
    """The caller calls over a trunk, talks and hangs up."""
    asterisk_events = lab_events(server, "inbound")
    demo_events = simulated_events(
        server, lambda call: call.outcome == "answered" and rang_one_agent(call) and call.ended_by == "caller"
    )
    trunk = next(
        call for day in DAYS for call in calls_of_day(day) if call.linkedid == dict(demo_events[0])["Linkedid"]
    ).trunk
    assert states(demo_events, f"PJSIP/{trunk}") == states(asterisk_events, "PJSIP/carrier")
    demo_fields = {
        dict(message)["Event"]: names_of(message) for message in demo_events if f"PJSIP/{trunk}" in str(message[2])
    }
    asterisk_fields = {
        dict(message)["Event"]: names_of(message) for message in asterisk_events if "PJSIP/carrier" in str(message[2])
    }
    for name in CHANNEL_EVENTS:
        assert demo_fields[name] == asterisk_fields[name]


@pytest.mark.parametrize("kind", ["abandoned", "timeout"])
def test_an_unanswered_queue_call_ends_with_the_same_events(server: LabServer, kind: str) -> None:
    """The events are the same from the moment the last telephone stops ringing."""

    def final_events(received: list[Message]) -> list[str]:
        names = [dict(message)["Event"] + dict(message).get("Variable", "") for message in received]
        return [name for name in names[names.index("VarSetABANDONED") :] if name.startswith(("VarSet", "Queue"))]

    asterisk_events = lab_events(server, kind)
    demo_events = simulated_events(server, lambda call: call.outcome == kind)
    assert final_events(demo_events) == final_events(asterisk_events)
    asterisk_fields = {dict(message)["Event"]: names_of(message) for message in asterisk_events}
    for message in demo_events:
        if (name := dict(message)["Event"]).startswith("Queue"):
            assert names_of(message) == asterisk_fields[name]


def test_a_missed_ring_has_the_same_events(server: LabServer) -> None:
    def ring_events(received: list[Message]) -> list[str]:
        last = max(index for index, message in enumerate(received) if dict(message)["Event"] == "AgentRingNoAnswer")
        fields = dict(received[last])
        same_ring = [one for one in map(dict, received) if one.get("DestUniqueid") == fields["DestUniqueid"]]
        names = ("AgentCalled", "DialBegin", "AgentRingNoAnswer", "DialEnd")
        return [one["Event"] + one.get("DialStatus", "") for one in same_ring if one["Event"] in names]

    asterisk_events = lab_events(server, "timeout")
    demo_events = simulated_events(
        server, lambda call: any(not ring.answered and not ring.cancelled for ring in call.rings)
    )
    assert ring_events(demo_events) == ring_events(asterisk_events)


def test_a_blind_transfer_has_the_same_events(server: LabServer) -> None:
    asterisk_events = lab_events(server, "transfer")
    demo_events = simulated_events(server, lambda call: bool(call.target) and rang_one_agent(call))
    order = [name for name in caller_events(asterisk_events) if not name.startswith(("VarSet", "MixMonitor"))]
    # The queue completes the agent's part while the transfer target is dialled. Asterisk can report either first.
    ended = "AgentComplete"
    assert [name for name in caller_events(demo_events) if name != ended] == [name for name in order if name != ended]
    for names in (caller_events(demo_events), order):
        assert ended in names[names.index("AgentConnect") :]


@pytest.mark.parametrize(("kind", "cause"), [("busy", 17), ("no answer", 16)])
def test_an_unanswered_outbound_call_has_the_same_states(server: LabServer, kind: str, cause: int) -> None:
    asterisk_events = lab_events(server, kind)
    demo_events = simulated_events(
        server, lambda call: call.direction == "outbound" and call.cause == cause and call.answered_at is None
    )
    trunk = dict(next(message for message in demo_events if dict(message)["Event"] == "DialBegin"))[
        "DestChannel"
    ].partition("-0")[0]
    assert states(demo_events, trunk) == states(asterisk_events, "PJSIP/carrier")


def test_an_internal_call_has_the_same_states(server: LabServer) -> None:
    asterisk_events = lab_events(server, "internal")
    demo_events = simulated_events(
        server,
        lambda call: call.direction == "internal" and call.answered_at is not None and call.ended_by == "agent",
    )
    callee = dict(next(message for message in demo_events if dict(message)["Event"] == "DialBegin"))["DestChannel"]
    assert states(demo_events, callee) == states(asterisk_events, PHONE)
