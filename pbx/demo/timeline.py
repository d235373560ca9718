"""A planned call as Asterisk goes through it: each event it sends, in its order. Pure.

The order is that of Asterisk 16.28 and 22.10, seen with PJSIP telephones as the queue's members.
"""

from dataclasses import replace
from datetime import timedelta
from functools import lru_cache

from pbx.demo.channels import DOWN, RING, RINGING, UP, CallStep, Channel, Play
from pbx.demo.company import AGENTS, PHONES, PlannedCall, PlannedRing
from pbx.demo.counters import Boot, waiting, whole_s
from pbx.demo.recording_dir import name_of

SPOOL = "/var/spool/asterisk/monitor"
INSIDE, OUTSIDE, QUEUEING = "from-internal", "from-trunk", "ext-queues"
_NAMES = {phone.extension: phone.name for phone in PHONES}
_IDLE, _IN_USE, _IS_RINGING = 1, 2, 6
_PICK_UP = timedelta(milliseconds=300)
_REACH = timedelta(milliseconds=80)  # until a telephone in the house rings


@lru_cache(maxsize=1024)
def steps_of(call: PlannedCall, boot: Boot) -> tuple[CallStep, ...]:
    """The steps of a call, sorted."""
    play = Play(boot.version, call.started_at)
    if call.direction == "inbound":
        _come_in(play, call, boot)
    else:
        _go_out(play, call)
    return tuple(sorted(play.steps, key=lambda step: step.at))


def _line(play: Play, call: PlannedCall, place: int, peer: str, number: str, name: str, context: str) -> Channel:
    """A new channel of a call, its `place`-th."""
    serial = call.serial + place
    return Channel(
        name=f"PJSIP/{peer}-{serial % 0x100000000:08x}",
        uniqueid=f"{int(play.at.timestamp()) if place else call.uniqueid.partition('.')[0]}.{serial}",
        linkedid=call.linkedid,
        state=DOWN,
        number=number,
        caller_name=name,
        context=context,
        exten="s",
        begun_at=play.at,
        peer=peer,
    )


# Calls to the queues


def _come_in(play: Play, call: PlannedCall, boot: Boot) -> None:
    caller = _line(play, call, 0, call.trunk, call.from_number, call.from_name, OUTSIDE)
    play.open("caller", _with(caller, state=RING, exten=call.did))
    play.at = min(call.started_at + _PICK_UP, call.joined_at or call.ended_at)
    play.change("caller", application="Playback", data="welcome", context=QUEUEING, exten=call.queue, priority=12)
    play.move("caller", UP)
    if call.joined_at is None or call.left_at is None:
        return
    play.at = call.joined_at
    if call.recording:
        play.set_variable("caller", "MIXMONITOR_FILENAME", f"{SPOOL}/{name_of(call)}.wav")
        play.tell_of("MixMonitorStart", "caller")
    play.change("caller", application="Queue", data=f"{call.queue},t,,,180", priority=38)
    position, others = waiting(boot, call, play.at)
    _tell_queue(play, call, "QueueCallerJoin", ("Position", str(position)), ("Count", str(others + 1)))
    for place, ring in enumerate(call.rings, start=1):
        _ring(play, call, ring, place, boot)
    if call.answered_at is None:
        _give_up(play, call, boot)
    elif call.target:
        _transfer(play, call)
    else:
        _end_talk(play, call)


def _tell_queue(play: Play, call: PlannedCall, event: str, *headers: tuple[str, str], other: str = "") -> None:
    play.tell_of(event, "caller", ("Queue", call.queue), *headers, group="agent", other=other)


def _member(call: PlannedCall, extension: str, name: str) -> tuple[tuple[str, str], ...]:
    return ("Queue", call.queue), ("Interface", f"PJSIP/{extension}"), ("MemberName", name)


def _ring(play: Play, call: PlannedCall, ring: PlannedRing, place: int, boot: Boot) -> None:
    """One agent's telephone rings, until he answers, the time is over or the caller has gone."""
    agent, over_at = ring.agent, ring.at + timedelta(seconds=ring.ring_s)
    member = _member(call, agent.extension, agent.name)
    play.at = ring.at
    play.open("agent", _line(play, call, place, agent.extension, agent.extension, agent.name, INSIDE))
    play.change("agent", connected=call.from_number, connected_name=call.from_name, exten=call.queue)
    play.change("agent", application="AppQueue", data="(Outgoing Line)")
    play.tell_of("AgentCalled", "caller", *member, group="agent", other="agent")
    play.tell_of("DialBegin", "caller", ("DialString", f"PJSIP/{agent.extension}"), other="agent")
    play.change("caller", connected=agent.extension, connected_name=agent.name)
    play.at = min(ring.at + _REACH, over_at)
    play.move("agent", RINGING)
    play.tell_of("DialState", "caller", ("DialStatus", "RINGING"), other="agent")
    play.device(agent.extension, _IS_RINGING)
    if ring.cancelled:
        return
    play.at = over_at
    if ring.answered:
        _connect(play, call, ring, boot)
        return
    rung_ms = str(round(ring.ring_s * 1000))
    play.tell_of("AgentRingNoAnswer", "caller", *member, ("RingTime", rung_ms), group="agent", other="agent")
    _stop_ringing(play, agent.extension, "NOANSWER")


def _stop_ringing(play: Play, extension: str, status: str) -> None:
    for told in (status, "CANCEL"):
        play.tell_of("DialEnd", "caller", ("DialStatus", told), other="agent")
    play.hang_up("agent", 0)
    play.device(extension, _IDLE)


def _connect(play: Play, call: PlannedCall, ring: PlannedRing, boot: Boot) -> None:
    if call.joined_at is None:
        return
    play.move("agent", UP)
    play.tell_of("DialEnd", "caller", ("DialStatus", "ANSWER"), other="agent")
    position, others = waiting(boot, call, play.at)
    _tell_queue(play, call, "QueueCallerLeave", ("Position", str(position)), ("Count", str(others)))
    hold_s, ring_s = whole_s(call.joined_at, play.at), int(ring.ring_s)
    told = (("HoldTime", str(hold_s)), ("RingTime", str(ring_s)))
    member = _member(call, ring.agent.extension, ring.agent.name)
    play.tell_of("AgentConnect", "caller", *member, *told, group="agent", other="agent")
    play.bridge(_bridge_id(call, 0), "caller", "agent")
    play.device(ring.agent.extension, _IN_USE)


def _bridge_id(call: PlannedCall, place: int) -> str:
    digits = f"{call.serial:08x}{place:04x}{int(call.started_at.timestamp() * 1000):020x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def _complete(play: Play, call: PlannedCall, reason: str) -> None:
    if call.agent is None or call.joined_at is None or call.answered_at is None or call.left_at is None:
        return
    hold_s, talk_s = whole_s(call.joined_at, call.answered_at), whole_s(call.answered_at, call.left_at)
    told = (("HoldTime", str(hold_s)), ("TalkTime", str(talk_s)), ("Reason", reason))
    member = _member(call, call.agent.extension, call.agent.name)
    play.tell_of("AgentComplete", "caller", *member, *told, group="agent", other="agent")


def _end_talk(play: Play, call: PlannedCall) -> None:
    if call.agent is None:
        return
    play.at = call.ended_at
    by = "agent" if call.ended_by == "agent" else "caller"
    play.ask_hangup(by)
    play.bridge("", "caller", "agent")
    _complete(play, call, by)
    play.hang_up("agent")
    play.hang_up("caller", itself=True)
    play.device(call.agent.extension, _IDLE)


def _give_up(play: Play, call: PlannedCall, boot: Boot) -> None:
    """The caller hangs up, or his time is over and he is told so."""
    if call.joined_at is None or call.left_at is None:
        return
    play.at = call.left_at
    timed_out = call.outcome == "timeout"
    if not timed_out:
        play.ask_hangup("caller")
    if call.rings and call.rings[-1].cancelled:
        _stop_ringing(play, call.rings[-1].agent.extension, "CANCEL")
    play.set_variable("caller", "ABANDONED", "TRUE")
    position, others = waiting(boot, call, play.at)
    original, _ = waiting(boot, call, call.joined_at)
    hold_s = whole_s(call.joined_at, call.left_at)
    told = (("Position", str(position)), ("OriginalPosition", str(original)), ("HoldTime", str(hold_s)))
    _tell_queue(play, call, "QueueCallerAbandon", *told)
    _tell_queue(play, call, "QueueCallerLeave", ("Position", str(position)), ("Count", str(others)))
    if timed_out:
        play.set_variable("caller", "QUEUESTATUS", "TIMEOUT")
        play.change("caller", application="Playback", data="all-our-agents-are-busy", priority=41)
        play.at = call.ended_at
    play.hang_up("caller", itself=True)


def _transfer(play: Play, call: PlannedCall) -> None:
    """The agent sends the caller on to a member of the staff, blindly."""
    if call.agent is None or call.left_at is None:
        return
    play.at = call.left_at
    agent, caller = play.lines["agent"], play.lines["caller"]
    play.tell(
        "BlindTransfer",
        ("Result", "Success"),
        *agent.headers("Transferer"),
        *caller.headers("Transferee"),
        ("BridgeUniqueid", _bridge_id(call, 0)),
        ("BridgeType", "basic"),
        ("BridgeTechnology", "simple_bridge"),
        ("BridgeCreator", "<unknown>"),
        ("BridgeName", "<unknown>"),
        ("BridgeNumChannels", "2"),
        ("BridgeVideoSourceMode", "none"),
        ("IsExternal", "Yes"),
        ("Context", INSIDE),
        ("Extension", call.target),
    )
    play.bridge("", "caller", "agent")
    _complete(play, call, "transfer")
    play.hang_up("agent")
    play.device(call.agent.extension, _IDLE)
    play.change("caller", context=INSIDE, exten=call.target, priority=2)
    _dial(play, call, call.target, len(call.rings) + 1)
    play.at += _REACH
    _let_ring(play)
    play.at = call.left_at + timedelta(seconds=call.target_ring_s)
    _answer(play, call)
    play.at = call.ended_at
    play.ask_hangup("caller")
    play.hang_up("callee")
    play.hang_up("caller", itself=True)


# Calls that agents make


def _dial(play: Play, call: PlannedCall, number: str, place: int, trunk: str = "") -> None:
    """The caller's channel dials a telephone of the house, or a number by a trunk."""
    context = OUTSIDE if trunk else INSIDE
    caller = play.lines["caller"]
    play.open(
        "callee", _line(play, call, place, trunk or number, "" if trunk else number, _NAMES.get(number, ""), context)
    )
    play.change("callee", number=number, connected=caller.number, connected_name=caller.caller_name, exten=number)
    play.change("callee", application="AppDial", data="(Outgoing Line)")
    dialled = f"{number}@{trunk}" if trunk else number
    play.change("caller", application="Dial", data=f"PJSIP/{dialled},30")
    play.tell_of("DialBegin", "caller", ("DialString", dialled), other="callee")
    play.change("caller", connected=number, connected_name="" if trunk else _NAMES.get(number, ""))


def _let_ring(play: Play) -> None:
    play.move("callee", RINGING)
    play.tell_of("DialState", "caller", ("DialStatus", "RINGING"), other="callee")
    _device_of_callee(play, _IS_RINGING)


def _answer(play: Play, call: PlannedCall) -> None:
    play.move("callee", UP)
    play.bridge(_bridge_id(call, 1), "caller", "callee")
    play.tell_of("DialEnd", "caller", ("DialStatus", "ANSWER"), other="callee")
    if play.lines["caller"].state != UP:
        play.move("caller", UP)
    _device_of_callee(play, _IN_USE)


def _device_of_callee(play: Play, status: int) -> None:
    peer = play.lines["callee"].peer
    if peer in _AGENTS:
        play.device(peer, status)


def _go_out(play: Play, call: PlannedCall) -> None:
    caller = _line(play, call, 0, call.from_number, call.from_number, call.from_name, INSIDE)
    play.open("caller", _with(caller, state=RING, exten=call.to_number))
    play.device(call.from_number, _IN_USE)
    _dial(play, call, call.to_number, 1, call.trunk)
    callee = play.lines["callee"].peer
    if call.pdd_s is None:
        play.at = call.ended_at
        play.ask_hangup("callee", call.cause)
        play.tell_of("DialEnd", "caller", ("DialStatus", _REFUSED[call.cause]), other="callee")
        play.hang_up("callee", call.cause)
        play.hang_up("caller", call.cause, itself=True)
    else:
        play.at = call.started_at + timedelta(seconds=call.pdd_s)
        _let_ring(play)
        if call.answered_at is not None:
            play.at = call.answered_at
            _answer(play, call)
            play.at = call.ended_at
            play.ask_hangup("caller" if call.ended_by == "agent" else "callee")
            play.bridge("", "caller", "callee")
            play.hang_up("callee")
            play.hang_up("caller", itself=True)
        else:
            play.at = call.ended_at
            play.ask_hangup("caller")
            play.tell_of("DialEnd", "caller", ("DialStatus", "CANCEL"), other="callee")
            play.hang_up("callee")
            play.hang_up("caller", itself=True)
    for peer in (call.from_number, callee):
        if peer in _AGENTS:
            play.device(peer, _IDLE)


def _with(line: Channel, *, state: int, exten: str) -> Channel:
    return replace(line, state=state, exten=exten)


_AGENTS = {agent.extension for agent in AGENTS}
_REFUSED = {17: "BUSY", 34: "CONGESTION", 1: "CHANUNAVAIL"}
