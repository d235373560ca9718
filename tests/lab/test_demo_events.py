"""The demo PBX's events beside those of Asterisk 16 and 22: the same fields, and the same order in the same call.

Real calls are placed, and their events compared with those of a simulated call that goes the same way. Asterisk
publishes on several topics at once: what it orders is each channel's own states, and what the queue and the dialling
tell of the caller's channel; QueueMemberStatus comes between them as it may.
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
OF_CHANNEL = ("Newchannel", "Newstate", "HangupRequest", "SoftHangupRequest", "Hangup")
# The events of the caller's channel, in their order.
OF_QUEUE = (
    *("VarSet", "MixMonitorStart", "QueueCallerJoin", "AgentCalled", "DialBegin", "DialEnd", "AgentRingNoAnswer"),
    *("QueueCallerLeave", "QueueCallerAbandon", "AgentConnect", "AgentComplete", "BlindTransfer"),
)


def names_of(message: Message) -> Fields:
    return tuple(name for name, _ in message)


def is_used(message: Message) -> bool:
    """Whether whoever watches asks for it: of variables a few only."""
    fields = dict(message)
    return fields.get("Event") in USED_EVENTS and (fields["Event"] != "VarSet" or fields["Variable"] in VARIABLES)


@contextmanager
def listening(server: LabServer) -> Iterator[list[Message]]:
    """The events of the time within, filled in when it is over."""
    heard: list[Message] = []
    with calls.session(server, events=CLASSES) as ami:
        ami.drain(0.1)
        yield heard
        heard += [message for message in messages(ami.drain(1.0)) if message[0][0] == "Event" and is_used(message)]


@contextmanager
def phone_as_agent(server: LabServer) -> Iterator[Ami]:
    """A telephone answers in the queue `billing`, whose other members pause."""
    with calls.session(server) as ami:
        ami.action("QueueAdd", {"Queue": "billing", "Interface": PHONE, "MemberName": "Demo Probe"})
        try:
            yield ami
        finally:
            ami.action("QueueRemove", {"Queue": "billing", "Interface": PHONE})


def talk(server: LabServer, act: Callable[[Ami, calls.PlacedCall], None] = lambda ami, call: None) -> calls.PlacedCall:
    """A caller is connected with that telephone, something is done, and the caller hangs up."""
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


def come_in(server: LabServer) -> calls.PlacedCall:
    call = calls.start_inbound_call(server, "sales", 4)
    call.wait_end()
    return call


KINDS: dict[str, Callable[[LabServer], calls.PlacedCall]] = {
    "talk": talk,
    "transfer": lambda server: talk(server, transfer),
    "abandoned": lambda server: calls.place_queue_call(server, "abandoned", 3),
    "timeout": lambda server: calls.place_queue_call(server, "timeout", 8),
    "inbound": come_in,
    "busy": lambda server: calls.place_trunk_call(server, "busy"),
    "no answer": lambda server: calls.place_trunk_call(server, "noanswer"),
    "internal": lambda server: calls.place_internal_call(server, 2),
}


@functools.cache
def heard(server: LabServer, kind: str) -> tuple[list[Message], calls.PlacedCall]:
    """The events of a call of that kind and of what else went on meanwhile; and which call it was."""
    with listening(server) as reported:
        call = KINDS[kind](server)
    return reported, call


def of_lab(server: LabServer, kind: str) -> list[Message]:
    """The events of that call alone."""
    reported, call = heard(server, kind)
    return [message for message in reported if linked(message, call.uniqueid)]


@functools.cache
def shapes(server: LabServer) -> dict[str, set[Fields]]:
    """Every shape of every event: in those calls, and when the lab's bytes were captured."""
    captured = [message for message in messages(raw(server.version, "events")) if message[0][0] == "Event"]
    found: dict[str, set[Fields]] = {}
    for message in [*captured, *(message for kind in KINDS for message in heard(server, kind)[0])]:
        found.setdefault(dict(message)["Event"], set()).add(names_of(message))
    return found


def simulated_asterisk(server: LabServer) -> SimulatedAsterisk:
    return RELEASES[server.version].asterisk(DayClock(DAYS[0]).start_at)


def as_message(event: AmiEvent) -> Message:
    return [("Event", event.name), ("Privilege", f"{event.group},all"), *event.headers]


def of_demo(server: LabServer, wanted: Callable[[PlannedCall], bool]) -> list[Message]:
    """The events of the first simulated call of that kind."""
    call = next(call for day in DAYS for call in calls_of_day(day) if wanted(call))
    events = simulated_asterisk(server).events_between(call.started_at - timedelta(seconds=1), call.ended_at)
    mine = [as_message(event) for event in events]
    return [message for message in mine if linked(message, call.linkedid)]


def linked(message: Message, linkedid: str) -> bool:
    fields = dict(message)
    return linkedid in (fields.get("Linkedid"), fields.get("DestLinkedid"), fields.get("TransfereeLinkedid"))


def states(reported: list[Message], channel: str) -> list[tuple[str, str]]:
    """A channel's own events in their order: name and state."""
    mine = [dict(message) for message in reported if dict(message)["Event"] in OF_CHANNEL]
    return [(one["Event"], one["ChannelStateDesc"]) for one in mine if one["Channel"].startswith(channel)]


def events_of_caller(reported: list[Message]) -> list[str]:
    """The events of queue and dialling on the caller's channel, from when it joined."""
    names = []
    for message in reported:
        fields = dict(message)
        if fields["Event"] in OF_QUEUE and "Channel" in {**fields, "TransfereeChannel": "Channel"}:
            extra = fields.get("Variable", fields.get("DialStatus", ""))
            names.append(f"{fields['Event']} {extra}".strip())
    return names[names.index("QueueCallerJoin") :]


@pytest.mark.parametrize("day", DAYS[:2])
def test_every_event_of_a_day_has_a_shape_that_asterisk_sends(server: LabServer, day: date) -> None:
    known, start_at = shapes(server), DayClock(day).start_at
    events = simulated_asterisk(server).events_between(start_at, start_at + timedelta(days=1))
    unknown = {
        (event.name, names_of(as_message(event)))
        for event in events
        if names_of(as_message(event)) not in known.get(event.name, set())
    }
    assert len(events) > 5000
    assert not unknown
    reported = {event.name for event in events}
    assert reported <= USED_EVENTS, "nothing is reported that nobody asks for"


def test_privileges_are_those_of_asterisk(server: LabServer) -> None:
    theirs = {
        dict(message)["Event"]: dict(message)["Privilege"] for kind in KINDS for message in heard(server, kind)[0]
    }
    start_at = DayClock(DAYS[0]).start_at
    ours = {
        event.name: f"{event.group},all"
        for event in simulated_asterisk(server).events_between(start_at, start_at + timedelta(days=1))
    }
    assert len(ours.keys() & theirs.keys()) > 15
    assert {name: ours[name] for name in ours.keys() & theirs.keys()} == {
        name: theirs[name] for name in ours.keys() & theirs.keys()
    }


def rang_once(call: PlannedCall) -> bool:
    return len(call.rings) == 1 and not call.recording


def test_a_connected_call_goes_the_same_way(server: LabServer) -> None:
    there = of_lab(server, "talk")
    here = of_demo(server, lambda call: call.outcome == "answered" and rang_once(call) and call.ended_by == "caller")
    assert [name for name in events_of_caller(here) if name != "AgentComplete"] == [
        name for name in events_of_caller(there) if name != "AgentComplete"
    ]
    assert states(here, "PJSIP/2") == states(there, PHONE)
    assert "AgentComplete" in [dict(message)["Event"] for message in here]


def test_the_agents_state_goes_the_same_way(server: LabServer) -> None:
    there = [
        dict(message)
        for message in heard(server, "talk")[0]
        if dict(message)["Event"] == "QueueMemberStatus" and dict(message)["Interface"] == PHONE
    ]
    begun_at = next(
        call
        for day in DAYS
        for call in calls_of_day(day)
        if call.outcome == "answered" and rang_once(call) and call.agent and len(call.agent.queues) == 1
    )
    events = simulated_asterisk(server).events_between(begun_at.rings[0].at - timedelta(seconds=1), begun_at.ended_at)
    here = [dict(event.headers) for event in events if event.name == "QueueMemberStatus"]
    mine = [one["Status"] for one in here if begun_at.agent and one["MemberName"] == begun_at.agent.name]
    assert mine == list(dict.fromkeys(one["Status"] for one in there)) == ["6", "2", "1"]


def test_the_callers_channel_goes_the_same_way(server: LabServer) -> None:
    """A caller who comes in by a trunk, talks and hangs up."""
    there = of_lab(server, "inbound")
    here = of_demo(server, lambda call: call.outcome == "answered" and rang_once(call) and call.ended_by == "caller")
    trunk = next(call for day in DAYS for call in calls_of_day(day) if call.linkedid == dict(here[0])["Linkedid"]).trunk
    assert states(here, f"PJSIP/{trunk}") == states(there, "PJSIP/carrier")
    shape_here = {dict(message)["Event"]: names_of(message) for message in here if f"PJSIP/{trunk}" in str(message[2])}
    shape_there = {dict(message)["Event"]: names_of(message) for message in there if "PJSIP/carrier" in str(message[2])}
    for name in OF_CHANNEL:
        assert shape_here[name] == shape_there[name]


@pytest.mark.parametrize("kind", ["abandoned", "timeout"])
def test_who_leaves_a_queue_unanswered_goes_the_same_way(server: LabServer, kind: str) -> None:
    """Missed rings have the same events as the simulation's, from the last telephone that stopped ringing."""

    def ending(reported: list[Message]) -> list[str]:
        names = [dict(message)["Event"] + dict(message).get("Variable", "") for message in reported]
        return [name for name in names[names.index("VarSetABANDONED") :] if name.startswith(("VarSet", "Queue"))]

    there = of_lab(server, kind)
    here = of_demo(server, lambda call: call.outcome == kind)
    assert ending(here) == ending(there)
    shapes_there = {dict(message)["Event"]: names_of(message) for message in there}
    for message in here:
        if (name := dict(message)["Event"]).startswith("Queue"):
            assert names_of(message) == shapes_there[name]


def test_a_missed_ring_goes_the_same_way(server: LabServer) -> None:
    def ringing(reported: list[Message]) -> list[str]:
        last = max(place for place, message in enumerate(reported) if dict(message)["Event"] == "AgentRingNoAnswer")
        fields = dict(reported[last])
        mine = [one for one in map(dict, reported) if one.get("DestUniqueid") == fields["DestUniqueid"]]
        names = ("AgentCalled", "DialBegin", "AgentRingNoAnswer", "DialEnd")
        return [one["Event"] + one.get("DialStatus", "") for one in mine if one["Event"] in names]

    there = of_lab(server, "timeout")
    here = of_demo(server, lambda call: any(not ring.answered and not ring.cancelled for ring in call.rings))
    assert ringing(here) == ringing(there)


def test_a_blind_transfer_goes_the_same_way(server: LabServer) -> None:
    there = of_lab(server, "transfer")
    here = of_demo(server, lambda call: bool(call.target) and rang_once(call))
    order = [name for name in events_of_caller(there) if not name.startswith(("VarSet", "MixMonitor"))]
    # The queue ends the agent's part while the caller is already dialled on: a real Asterisk may report either first.
    ended = "AgentComplete"
    assert [name for name in events_of_caller(here) if name != ended] == [name for name in order if name != ended]
    for names in (events_of_caller(here), order):
        assert ended in names[names.index("AgentConnect") :]


@pytest.mark.parametrize(("kind", "cause"), [("busy", 17), ("no answer", 16)])
def test_an_outbound_call_unanswered_goes_the_same_way(server: LabServer, kind: str, cause: int) -> None:
    there = of_lab(server, kind)
    here = of_demo(
        server, lambda call: call.direction == "outbound" and call.cause == cause and call.answered_at is None
    )
    trunk = dict(next(message for message in here if dict(message)["Event"] == "DialBegin"))["DestChannel"].partition(
        "-0"
    )[0]
    assert states(here, trunk) == states(there, "PJSIP/carrier")


def test_an_internal_call_goes_the_same_way(server: LabServer) -> None:
    there = of_lab(server, "internal")
    here = of_demo(
        server,
        lambda call: call.direction == "internal" and call.answered_at is not None and call.ended_by == "agent",
    )
    callee = dict(next(message for message in here if dict(message)["Event"] == "DialBegin"))["DestChannel"]
    assert states(here, callee) == states(there, PHONE)
