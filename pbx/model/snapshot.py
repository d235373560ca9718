"""How a PBX stands at one moment: typed, whole, and free of secrets. Pure: messages in, values out.

Extensions and trunks are told apart in devices.py; queries.py asks for the messages.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import decimal, integer, known, moment, seconds, unescape

HIDDEN_QUEUE = "default"  # FreePBX makes it and nobody uses it
LONGEST_WRAP_UP = timedelta(hours=1)  # of a queue, as far as is looked for
IDLE = (0, 1)  # QueueMember's Status: unknown, not in use (app_queue's member_status_available)

PartName = Literal["system", "extensions", "trunks", "queues", "active_calls"]
TrunkState = Literal["registered", "unregistered", "rejected", "reachable", "unreachable", "unknown"]


class Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class System(Row):
    """From CoreSettings and CoreStatus. `utc_offset_s` is the PBX's own now, which its file names are written in."""

    version: str
    ami_version: str = ""
    system_name: str = ""
    started_at: datetime | None = None
    reloaded_at: datetime | None = None
    uptime_s: int | None = None
    utc_offset_s: int | None = None
    channels: int = 0


class Extension(Row):
    """A device that is not a trunk. `status` is Asterisk's own device state text ("Not in use")."""

    extension: str
    tech: str
    status: str
    contact: str = ""
    roundtrip_ms: float | None = None
    channels: int = 0


class Trunk(Row):
    """A line to another system, once, whether it registers or is peered by address.

    `state` is the registration's state where there is one, else whether its contact answers.
    `status` is Asterisk's own word for it.
    """

    name: str
    tech: str
    state: TrunkState
    status: str = ""
    server: str = ""
    registers: bool = False
    roundtrip_ms: float | None = None
    channels: int = 0


class QueueMember(Row):
    """An agent in a queue. `status` is the code of AMI's QueueMember: 0 unknown, 1 not in use ... 8 on hold.

    `wrapping_up`: the wrap-up time since their last call isn't over: their own (`wrapup_s`), else the queue's.
    """

    name: str
    interface: str
    status: int
    paused: bool = False
    pause_reason: str = ""
    in_call: bool = False
    penalty: int = 0
    calls_taken: int = 0
    last_call_at: datetime | None = None
    wrapup_s: int = 0
    wrapping_up: bool = False

    @property
    def available(self) -> bool:
        """Whether the next call could ring here, as app_queue decides it (is_member_available, 16 to 22).

        A device whose state nobody knows (IAX2, DAHDI, Custom) counts as idle there.
        """
        return self.status in IDLE and not self.paused and not self.wrapping_up


class QueueCaller(Row):
    """A caller waiting in a queue (QueueEntry)."""

    position: int
    caller_id: str
    caller_name: str = ""
    wait_s: int = 0
    uniqueid: str = ""


class Queue(Row):
    """A queue with its members and waiting callers. `hold_time_s` and `talk_time_s` are moving averages."""

    name: str
    strategy: str = ""
    calls: int = 0
    longest_wait_s: int = 0
    hold_time_s: int = 0
    talk_time_s: int = 0
    completed: int = 0
    abandoned: int = 0
    service_level_s: int = 0
    service_level_perf: float = 0.0
    service_level_perf2: float | None = None
    members: tuple[QueueMember, ...] = ()
    callers: tuple[QueueCaller, ...] = ()

    @property
    def agents_available(self) -> int:
        return sum(member.available for member in self.members)


class ActiveCall(Row):
    """All channels of one linkedid. The first leg gives the caller."""

    linkedid: str
    channel: str
    caller_id: str
    caller_name: str = ""
    connected_to: str = ""
    exten: str = ""
    state: str = ""
    application: str = ""
    duration_s: int = 0
    channels: tuple[str, ...] = ()


class SnapshotPart(Row):
    """Whether a part of the snapshot is there, and if not, why."""

    state: Literal["ok", "denied", "absent", "failed"] = "ok"
    reason: str = ""


class Snapshot(Row):
    """One look at a PBX. A part that is not `ok` in `parts` is empty or incomplete, the others stand."""

    taken_at: datetime
    took_ms: int = 0
    system: System | None = None
    extensions: tuple[Extension, ...] = ()
    trunks: tuple[Trunk, ...] = ()
    queues: tuple[Queue, ...] = ()
    active_calls: tuple[ActiveCall, ...] = ()
    parts: dict[PartName, SnapshotPart] = {}


def parse_start(status: Message, what: Literal["Startup", "Reload"] = "Startup") -> datetime | None:
    """When Asterisk started or last reloaded, from CoreStatus: the PBX's local time, so without a zone."""
    try:
        local = datetime.fromisoformat(f"{status.get(f'Core{what}Date')}T{status.get(f'Core{what}Time')}")
    except ValueError:
        return None
    return local.replace(tzinfo=None) if 1970 <= local.year < 9999 else None  # no further than an offset may move it


def parse_system(
    settings: Message, status: Message, offset_then: timedelta | None, offset_now: timedelta | None, now: datetime
) -> System:
    """The system from CoreSettings and CoreStatus, the PBX's offset from UTC when it started and now, and its clock."""
    started_at = _as_utc(parse_start(status), offset_then)
    return System(
        version=settings.get("AsteriskVersion"),
        ami_version=settings.get("AMIversion"),
        system_name=settings.get("SystemName"),
        started_at=started_at,
        reloaded_at=_as_utc(parse_start(status, "Reload"), offset_now),
        uptime_s=max(int((now - started_at).total_seconds()), 0) if started_at else None,
        utc_offset_s=None if offset_now is None else int(offset_now.total_seconds()),
        channels=integer(status.get("CoreCurrentCalls")),
    )


def _as_utc(local: datetime | None, offset: timedelta | None) -> datetime | None:
    return None if local is None or offset is None else (local - offset).replace(tzinfo=UTC)


def parse_queues(messages: Iterable[Message], pbx_now: datetime | None = None) -> tuple[Queue, ...]:
    """Queues from QueueStatus's events, by name, without FreePBX's `default`.

    `pbx_now` is the PBX's clock, which times of last calls are compared with; None for this machine's.
    """
    pbx_now = pbx_now or datetime.now(UTC)
    params: dict[str, Message] = {}
    members: dict[str, list[QueueMember]] = {}
    callers: dict[str, list[QueueCaller]] = {}
    for message in messages:
        name = message.get("Queue")
        if message.event == "QueueParams":
            params[name] = message
        elif message.event == "QueueMember":
            members.setdefault(name, []).append(_parse_member(message, pbx_now))
        elif message.event == "QueueEntry":
            callers.setdefault(name, []).append(_parse_caller(message))
    return tuple(
        _parse_queue(name, params[name], members.get(name, []), callers.get(name, []))
        for name in sorted(params)
        if name != HIDDEN_QUEUE
    )


def _parse_queue(name: str, message: Message, members: list[QueueMember], callers: list[QueueCaller]) -> Queue:
    return Queue(
        name=name,
        strategy=message.get("Strategy"),
        calls=integer(message.get("Calls")),
        longest_wait_s=max((caller.wait_s for caller in callers), default=0),
        hold_time_s=integer(message.get("Holdtime")),
        talk_time_s=integer(message.get("TalkTime")),
        completed=integer(message.get("Completed")),
        abandoned=integer(message.get("Abandoned")),
        service_level_s=integer(message.get("ServiceLevel")),
        service_level_perf=decimal(message.get("ServicelevelPerf")) or 0.0,
        service_level_perf2=decimal(message.get("ServicelevelPerf2")),
        members=tuple(sorted(members, key=lambda member: (member.penalty, member.name, member.interface))),
        callers=tuple(sorted(callers, key=lambda caller: caller.position)),
    )


def _parse_member(message: Message, pbx_now: datetime) -> QueueMember:
    last_call_at, wrapup_s = moment(message.get("LastCall")), integer(message.get("Wrapuptime"))
    return QueueMember(
        name=message.get("Name"),
        interface=message.get("Location"),
        status=integer(message.get("Status")),
        paused=message.get("Paused") == "1",
        pause_reason=message.get("PausedReason"),
        in_call=message.get("InCall") == "1",
        penalty=integer(message.get("Penalty")),
        calls_taken=integer(message.get("CallsTaken")),
        last_call_at=last_call_at,
        wrapup_s=max(wrapup_s, 0),
        wrapping_up=bool(last_call_at and wrapup_s > 0 and (pbx_now - last_call_at).total_seconds() < wrapup_s),
    )


def may_wrap_up(member: QueueMember, pbx_now: datetime) -> bool:
    """Whether a member may be in the wrap-up time of the queue, which QueueStatus doesn't report."""
    called = member.last_call_at
    return member.available and not member.wrapup_s and called is not None and pbx_now - called < LONGEST_WRAP_UP


def with_ready(queue: Queue, ready: int, pbx_now: datetime) -> Queue:
    """The queue with the members marked that are in the queue's own wrap-up time.

    `ready` is what QUEUE_MEMBER(queue,ready) counts: not in use, not paused, not wrapping up. If that is fewer than
    seem so, those with the latest calls are wrapping up, and so are those of unknown state whose call ended later.
    """
    idle = [member for member in queue.members if member.available and member.status == 1]
    called = sorted((one.last_call_at for one in idle if one.last_call_at and may_wrap_up(one, pbx_now)), reverse=True)
    held = min(len(idle) - ready, len(called))
    if held <= 0:
        return queue
    since = called[held - 1]
    members = (
        member.model_copy(update={"wrapping_up": True})
        if may_wrap_up(member, pbx_now) and member.last_call_at and member.last_call_at >= since
        else member
        for member in queue.members
    )
    return queue.model_copy(update={"members": tuple(members)})


def _parse_caller(message: Message) -> QueueCaller:
    return QueueCaller(
        position=integer(message.get("Position")),
        caller_id=known(message.get("CallerIDNum")),
        caller_name=known(message.get("CallerIDName")),
        wait_s=integer(message.get("Wait")),
        uniqueid=message.get("Uniqueid"),
    )


def parse_active_calls(messages: Iterable[Message]) -> tuple[ActiveCall, ...]:
    """Calls from CoreShowChannel events: one for each linkedid, the longest first."""
    legs: dict[str, list[Message]] = {}
    for message in messages:
        if message.event == "CoreShowChannel":
            legs.setdefault(message.get("Linkedid") or message.get("Uniqueid"), []).append(message)
    calls = [_parse_call(linkedid, channels) for linkedid, channels in legs.items()]
    return tuple(sorted(calls, key=lambda call: (-call.duration_s, call.linkedid)))


def _parse_call(linkedid: str, legs: list[Message]) -> ActiveCall:
    """The first leg, whose uniqueid is the linkedid, gives the caller; when it has gone, the oldest that is left."""
    legs = sorted(legs, key=lambda leg: (leg.get("Uniqueid") != linkedid, -seconds(leg.get("Duration"))))
    first = legs[0]
    caller = known(first.get("CallerIDNum"))
    others = [first.get("ConnectedLineNum"), *(leg.get("CallerIDNum") for leg in legs[1:])]
    return ActiveCall(
        linkedid=linkedid,
        channel=first.get("Channel"),
        caller_id=caller,
        caller_name=unescape(known(first.get("CallerIDName"))),
        connected_to=next((number for number in map(known, others) if number and number != caller), ""),
        exten=first.get("Exten"),
        state=first.get("ChannelStateDesc"),
        application=first.get("Application"),
        duration_s=max(seconds(leg.get("Duration")) for leg in legs),
        channels=tuple(leg.get("Channel") for leg in legs),
    )
