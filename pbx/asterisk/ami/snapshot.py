"""Turns AMI messages into a snapshot's system, queues and active calls. Pure: messages in, values out.

devices.py does the same for extensions and trunks; queries.py fetches the messages.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import decimal, integer, moment, seconds, unescape, without_placeholder
from pbx.model.snapshot import ActiveCall, Queue, QueueCaller, QueueMember, System

HIDDEN_QUEUE = "default"  # FreePBX creates it and nobody uses it
LONGEST_WRAP_UP = timedelta(hours=1)  # the longest wrap-up of a queue that is considered


def parse_start(status: Message, what: Literal["Startup", "Reload"] = "Startup") -> datetime | None:
    """When Asterisk started or last reloaded, from CoreStatus, in the PBX's local time without a zone."""
    try:
        local = datetime.fromisoformat(f"{status.get(f'Core{what}Date')}T{status.get(f'Core{what}Time')}")
    except ValueError:
        return None
    return local.replace(tzinfo=None) if 1970 <= local.year < 9999 else None  # leaves room for any UTC offset


def parse_system(
    settings: Message, status: Message, offset_then: timedelta | None, offset_now: timedelta | None, now: datetime
) -> System:
    """The system from CoreSettings and CoreStatus.

    `offset_then` and `offset_now`: the PBX's UTC offset when it started and now. `now`: its clock.
    """
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

    `pbx_now` is the PBX's clock, for comparison with the times of last calls; None means this machine's clock.
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


def with_wrap_up(queue: Queue, ready: int, pbx_now: datetime) -> Queue:
    """The queue, with the members marked that are in its wrap-up time.

    `ready` is the count of QUEUE_MEMBER(queue,ready): members not in use, not paused and not wrapping up. If fewer are
    ready than seem idle, those with the latest calls are wrapping up, and so are members of unknown state whose call
    ended later than theirs.
    """
    idle = [member for member in queue.members if member.available and member.status == 1]
    called = sorted((one.last_call_at for one in idle if one.last_call_at and may_wrap_up(one, pbx_now)), reverse=True)
    wrapping_up = min(len(idle) - ready, len(called))
    if wrapping_up <= 0:
        return queue
    since = called[wrapping_up - 1]
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
        caller_id=without_placeholder(message.get("CallerIDNum")),
        caller_name=without_placeholder(message.get("CallerIDName")),
        wait_s=integer(message.get("Wait")),
        uniqueid=message.get("Uniqueid"),
    )


def parse_active_calls(messages: Iterable[Message]) -> tuple[ActiveCall, ...]:
    """Calls from CoreShowChannel events, one per linkedid, the longest first."""
    legs: dict[str, list[Message]] = {}
    for message in messages:
        if message.event == "CoreShowChannel":
            legs.setdefault(message.get("Linkedid") or message.get("Uniqueid"), []).append(message)
    calls = [_parse_call(linkedid, channels) for linkedid, channels in legs.items()]
    return tuple(sorted(calls, key=lambda call: (-call.duration_s, call.linkedid)))


def _parse_call(linkedid: str, legs: list[Message]) -> ActiveCall:
    """One call from its channels. The caller is that of the first channel, whose uniqueid is the linkedid, or of the
    oldest one when the first is gone."""
    legs = sorted(legs, key=lambda leg: (leg.get("Uniqueid") != linkedid, -seconds(leg.get("Duration"))))
    first = legs[0]
    caller = without_placeholder(first.get("CallerIDNum"))
    others = [first.get("ConnectedLineNum"), *(leg.get("CallerIDNum") for leg in legs[1:])]
    return ActiveCall(
        linkedid=linkedid,
        channel=first.get("Channel"),
        caller_id=caller,
        caller_name=unescape(without_placeholder(first.get("CallerIDName"))),
        connected_to=next((number for number in map(without_placeholder, others) if number and number != caller), ""),
        exten=first.get("Exten"),
        state=first.get("ChannelStateDesc"),
        application=first.get("Application"),
        duration_s=max(seconds(leg.get("Duration")) for leg in legs),
        channels=tuple(leg.get("Channel") for leg in legs),
    )
