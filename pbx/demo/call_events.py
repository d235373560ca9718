"""The AMI events of a simulated call, in Asterisk's order. Pure.

The order is that of Asterisk 16.28 and 22.10, observed with PJSIP telephones as queue members.
"""

from datetime import timedelta
from functools import lru_cache

from pbx.demo.channels import (
    DEVICE_IDLE,
    DEVICE_IN_USE,
    DEVICE_RINGING,
    DOWN,
    RING,
    RINGING,
    UP,
    CallStep,
    Channel,
    StepWriter,
)
from pbx.demo.company import AGENTS, PHONES, PlannedCall, PlannedRing
from pbx.demo.queue_counters import Boot, queue_position, seconds_between
from pbx.demo.recording_dir import recording_name

MONITOR_DIR = "/var/spool/asterisk/monitor"
INTERNAL_CONTEXT, TRUNK_CONTEXT, QUEUE_CONTEXT = "from-internal", "from-trunk", "ext-queues"
_NAMES = {phone.extension: phone.name for phone in PHONES}
_QUEUE_ANSWERS_AFTER = timedelta(milliseconds=300)
_PHONE_RINGS_AFTER = timedelta(milliseconds=80)


@lru_cache(maxsize=1024)
def call_steps(call: PlannedCall, boot: Boot) -> tuple[CallStep, ...]:
    """The steps of a call in their order. Cached, because a running PBX often needs those of the same calls."""
    return write_call_steps(call, boot)


def write_call_steps(call: PlannedCall, boot: Boot) -> tuple[CallStep, ...]:
    """The steps of a call in their order."""
    writer = StepWriter(call.started_at)
    if call.direction == "inbound":
        _call_to_queue(writer, call, boot)
    else:
        _call_from_phone(writer, call)
    return tuple(sorted(writer.steps, key=lambda step: step.at))


def _new_channel(
    writer: StepWriter, call: PlannedCall, index: int, endpoint: str, number: str, name: str, context: str
) -> Channel:
    """A new channel. `index` is its number within the call, 0 for the caller's, and decides its name and uniqueid."""
    serial = call.serial + index
    return Channel(
        name=f"PJSIP/{endpoint}-{serial % 0x100000000:08x}",
        uniqueid=f"{int(writer.at.timestamp()) if index else call.uniqueid.partition('.')[0]}.{serial}",
        linkedid=call.linkedid,
        state=DOWN,
        number=number,
        caller_name=name,
        context=context,
        exten="s",
        created_at=writer.at,
        endpoint=endpoint,
    )


# Calls to the queues


def _call_to_queue(writer: StepWriter, call: PlannedCall, boot: Boot) -> None:
    caller = _new_channel(writer, call, 0, call.trunk, call.from_number, call.from_name, TRUNK_CONTEXT)
    writer.open("caller", _with(caller, state=RING, exten=call.did))
    writer.at = min(call.started_at + _QUEUE_ANSWERS_AFTER, call.joined_at or call.ended_at)
    writer.change(
        "caller", application="Playback", data="welcome", context=QUEUE_CONTEXT, exten=call.queue, priority=12
    )
    writer.set_state("caller", UP)
    if call.joined_at is None or call.left_at is None:
        return
    writer.at = call.joined_at
    if call.recording:
        writer.set_variable("caller", "MIXMONITOR_FILENAME", f"{MONITOR_DIR}/{recording_name(call)}.wav")
        writer.report("MixMonitorStart", "caller")
    writer.change("caller", application="Queue", data=f"{call.queue},t,,,180", priority=38)
    position, others = queue_position(boot, call, writer.at)
    _report_queue(writer, call, "QueueCallerJoin", ("Position", str(position)), ("Count", str(others + 1)))
    for index, ring in enumerate(call.rings, start=1):
        _ring(writer, call, ring, index, boot)
    if call.answered_at is None:
        _leave_unanswered(writer, call, boot)
    elif call.target:
        _transfer(writer, call)
    else:
        _end_conversation(writer, call)


def _report_queue(writer: StepWriter, call: PlannedCall, event: str, *headers: tuple[str, str], dest: str = "") -> None:
    writer.report(event, "caller", ("Queue", call.queue), *headers, group="agent", dest=dest)


def _member(call: PlannedCall, extension: str, name: str) -> tuple[tuple[str, str], ...]:
    return ("Queue", call.queue), ("Interface", f"PJSIP/{extension}"), ("MemberName", name)


def _ring(writer: StepWriter, call: PlannedCall, ring: PlannedRing, index: int, boot: Boot) -> None:
    """An agent's telephone rings until the agent answers, the ring times out or the caller hangs up."""
    agent, over_at = ring.agent, ring.at + timedelta(seconds=ring.ring_s)
    member = _member(call, agent.extension, agent.name)
    writer.at = ring.at
    writer.open(
        "agent",
        _new_channel(writer, call, index, agent.extension, agent.extension, agent.name, INTERNAL_CONTEXT),
    )
    writer.change("agent", connected=call.from_number, connected_name=call.from_name, exten=call.queue)
    writer.change("agent", application="AppQueue", data="(Outgoing Line)")
    writer.report("AgentCalled", "caller", *member, group="agent", dest="agent")
    writer.report("DialBegin", "caller", ("DialString", f"PJSIP/{agent.extension}"), dest="agent")
    writer.change("caller", connected=agent.extension, connected_name=agent.name)
    writer.at = min(ring.at + _PHONE_RINGS_AFTER, over_at)
    writer.set_state("agent", RINGING)
    writer.report("DialState", "caller", ("DialStatus", "RINGING"), dest="agent")
    writer.set_device(agent.extension, DEVICE_RINGING)
    if ring.cancelled:
        return
    writer.at = over_at
    if ring.answered:
        _connect(writer, call, ring, boot)
        return
    rung_ms = str(round(ring.ring_s * 1000))
    writer.report("AgentRingNoAnswer", "caller", *member, ("RingTime", rung_ms), group="agent", dest="agent")
    _stop_ringing(writer, agent.extension, "NOANSWER")


def _stop_ringing(writer: StepWriter, extension: str, status: str) -> None:
    for dial_status in (status, "CANCEL"):
        writer.report("DialEnd", "caller", ("DialStatus", dial_status), dest="agent")
    writer.hang_up("agent", 0)
    writer.set_device(extension, DEVICE_IDLE)


def _connect(writer: StepWriter, call: PlannedCall, ring: PlannedRing, boot: Boot) -> None:
    if call.joined_at is None:
        return
    writer.set_state("agent", UP)
    writer.report("DialEnd", "caller", ("DialStatus", "ANSWER"), dest="agent")
    position, others = queue_position(boot, call, writer.at)
    _report_queue(writer, call, "QueueCallerLeave", ("Position", str(position)), ("Count", str(others)))
    hold_s, ring_s = seconds_between(call.joined_at, writer.at), int(ring.ring_s)
    headers = (("HoldTime", str(hold_s)), ("RingTime", str(ring_s)))
    member = _member(call, ring.agent.extension, ring.agent.name)
    writer.report("AgentConnect", "caller", *member, *headers, group="agent", dest="agent")
    writer.bridge(_bridge_id(call, 0), "caller", "agent")
    writer.set_device(ring.agent.extension, DEVICE_IN_USE)


def _bridge_id(call: PlannedCall, index: int) -> str:
    digits = f"{call.serial:08x}{index:04x}{int(call.started_at.timestamp() * 1000):020x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def _complete(writer: StepWriter, call: PlannedCall, reason: str) -> None:
    if call.agent is None or call.joined_at is None or call.answered_at is None or call.left_at is None:
        return
    hold_s, talk_s = seconds_between(call.joined_at, call.answered_at), seconds_between(call.answered_at, call.left_at)
    headers = (("HoldTime", str(hold_s)), ("TalkTime", str(talk_s)), ("Reason", reason))
    member = _member(call, call.agent.extension, call.agent.name)
    writer.report("AgentComplete", "caller", *member, *headers, group="agent", dest="agent")


def _end_conversation(writer: StepWriter, call: PlannedCall) -> None:
    if call.agent is None:
        return
    writer.at = call.ended_at
    by = "agent" if call.ended_by == "agent" else "caller"
    writer.request_hangup(by)
    writer.bridge("", "caller", "agent")
    _complete(writer, call, by)
    writer.hang_up("agent")
    writer.hang_up("caller", runs_dialplan=True)
    writer.set_device(call.agent.extension, DEVICE_IDLE)


def _leave_unanswered(writer: StepWriter, call: PlannedCall, boot: Boot) -> None:
    """The caller hangs up, or the queue times out and plays an announcement."""
    if call.joined_at is None or call.left_at is None:
        return
    writer.at = call.left_at
    timed_out = call.outcome == "timeout"
    if not timed_out:
        writer.request_hangup("caller")
    if call.rings and call.rings[-1].cancelled:
        _stop_ringing(writer, call.rings[-1].agent.extension, "CANCEL")
    writer.set_variable("caller", "ABANDONED", "TRUE")
    position, others = queue_position(boot, call, writer.at)
    original, _ = queue_position(boot, call, call.joined_at)
    hold_s = seconds_between(call.joined_at, call.left_at)
    headers = (("Position", str(position)), ("OriginalPosition", str(original)), ("HoldTime", str(hold_s)))
    _report_queue(writer, call, "QueueCallerAbandon", *headers)
    _report_queue(writer, call, "QueueCallerLeave", ("Position", str(position)), ("Count", str(others)))
    if timed_out:
        writer.set_variable("caller", "QUEUESTATUS", "TIMEOUT")
        writer.change("caller", application="Playback", data="all-our-agents-are-busy", priority=41)
        writer.at = call.ended_at
    writer.hang_up("caller", runs_dialplan=True)


def _transfer(writer: StepWriter, call: PlannedCall) -> None:
    """The agent makes a blind transfer to a member of the staff."""
    if call.agent is None or call.left_at is None:
        return
    writer.at = call.left_at
    agent, caller = writer.channels["agent"], writer.channels["caller"]
    writer.add(
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
        ("Context", INTERNAL_CONTEXT),
        ("Extension", call.target),
    )
    writer.bridge("", "caller", "agent")
    _complete(writer, call, "transfer")
    writer.hang_up("agent")
    writer.set_device(call.agent.extension, DEVICE_IDLE)
    writer.change("caller", context=INTERNAL_CONTEXT, exten=call.target, priority=2)
    _dial(writer, call, call.target, len(call.rings) + 1)
    writer.at += _PHONE_RINGS_AFTER
    _ring_callee(writer)
    writer.at = call.left_at + timedelta(seconds=call.target_ring_s)
    _answer_callee(writer, call)
    writer.at = call.ended_at
    writer.request_hangup("caller")
    writer.hang_up("callee")
    writer.hang_up("caller", runs_dialplan=True)


# Calls that agents make


def _dial(writer: StepWriter, call: PlannedCall, number: str, index: int, trunk: str = "") -> None:
    """The caller's channel dials an internal telephone, or a number over `trunk`."""
    caller, context = writer.channels["caller"], TRUNK_CONTEXT if trunk else INTERNAL_CONTEXT
    extension = "" if trunk else number
    channel = _new_channel(writer, call, index, trunk or number, extension, _NAMES.get(number, ""), context)
    writer.open("callee", channel)
    writer.change("callee", number=number, connected=caller.number, connected_name=caller.caller_name, exten=number)
    writer.change("callee", application="AppDial", data="(Outgoing Line)")
    dialled = f"{number}@{trunk}" if trunk else number
    writer.change("caller", application="Dial", data=f"PJSIP/{dialled},30")
    writer.report("DialBegin", "caller", ("DialString", dialled), dest="callee")
    writer.change("caller", connected=number, connected_name="" if trunk else _NAMES.get(number, ""))


def _ring_callee(writer: StepWriter) -> None:
    writer.set_state("callee", RINGING)
    writer.report("DialState", "caller", ("DialStatus", "RINGING"), dest="callee")
    _set_callee_device(writer, DEVICE_RINGING)


def _answer_callee(writer: StepWriter, call: PlannedCall) -> None:
    writer.set_state("callee", UP)
    writer.bridge(_bridge_id(call, 1), "caller", "callee")
    writer.report("DialEnd", "caller", ("DialStatus", "ANSWER"), dest="callee")
    if writer.channels["caller"].state != UP:
        writer.set_state("caller", UP)
    _set_callee_device(writer, DEVICE_IN_USE)


def _set_callee_device(writer: StepWriter, status: int) -> None:
    endpoint = writer.channels["callee"].endpoint
    if endpoint in _AGENTS:
        writer.set_device(endpoint, status)


def _call_from_phone(writer: StepWriter, call: PlannedCall) -> None:
    caller = _new_channel(writer, call, 0, call.from_number, call.from_number, call.from_name, INTERNAL_CONTEXT)
    writer.open("caller", _with(caller, state=RING, exten=call.to_number))
    writer.set_device(call.from_number, DEVICE_IN_USE)
    _dial(writer, call, call.to_number, 1, call.trunk)
    callee = writer.channels["callee"].endpoint
    if call.pdd_s is None:
        writer.at = call.ended_at
        writer.request_hangup("callee", call.cause)
        writer.report("DialEnd", "caller", ("DialStatus", _DIAL_STATUSES[call.cause]), dest="callee")
        writer.hang_up("callee", call.cause)
        writer.hang_up("caller", call.cause, runs_dialplan=True)
    else:
        writer.at = call.started_at + timedelta(seconds=call.pdd_s)
        _ring_callee(writer)
        if call.answered_at is not None:
            writer.at = call.answered_at
            _answer_callee(writer, call)
            writer.at = call.ended_at
            writer.request_hangup("caller" if call.ended_by == "agent" else "callee")
            writer.bridge("", "caller", "callee")
            writer.hang_up("callee")
            writer.hang_up("caller", runs_dialplan=True)
        else:
            writer.at = call.ended_at
            writer.request_hangup("caller")
            writer.report("DialEnd", "caller", ("DialStatus", "CANCEL"), dest="callee")
            writer.hang_up("callee")
            writer.hang_up("caller", runs_dialplan=True)
    for endpoint in (call.from_number, callee):
        if endpoint in _AGENTS:
            writer.set_device(endpoint, DEVICE_IDLE)


def _with(channel: Channel, *, state: int, exten: str) -> Channel:
    return channel._replace(state=state, exten=exten)


_AGENTS = {agent.extension for agent in AGENTS}
_DIAL_STATUSES = {17: "BUSY", 34: "CONGESTION", 1: "CHANUNAVAIL"}
