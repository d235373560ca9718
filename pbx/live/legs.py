"""Builds the legs of calls from channel events: dialling, first ringing, answer, hangup and its cause. Pure.

A leg is one dial attempt with the caller's channel, like a row of the CDR. As in the CDR, a channel's first leg begins
with the channel and includes the time in a menu or queue before the first dialling. A channel that neither dialled nor
was dialled (an inbound call that ended in a menu) is a leg of its own, reported when it has hung up.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import integer, seconds, unescape, without_placeholder
from pbx.model.channels import is_from_outside, is_local, is_to_outside, peer_of, trunks_of
from pbx.model.hangup_causes import CAUSE_DISPOSITIONS
from pbx.model.history import Leg

_RINGING = "5"  # ChannelState
_UP = "6"
_REPLY_WITHIN = timedelta(minutes=1)  # an AMI action is answered by then, or has failed
_NOBODY = {"", "s", "h", "i", "t"}
_DISPOSITIONS = {  # from DialEnd's DialStatus to the CDR's disposition
    "ANSWER": "ANSWERED",
    "BUSY": "BUSY",
    "CONGESTION": "CONGESTION",
    "CHANUNAVAIL": "FAILED",
    "NOANSWER": "NO ANSWER",
    "CANCEL": "NO ANSWER",
}
_CAUSES_END = 256  # Q.850's causes and Asterisk's own are below this


@dataclass(slots=True)
class _Channel:
    """A channel that exists now. `complete`: its events were received from the start."""

    name: str
    uniqueid: str
    linkedid: str
    exten: str
    context: str
    caller: str
    caller_name: str
    began_at: datetime
    complete: bool = True
    up_at: datetime | None = None
    dialled: bool = False  # it dialled a channel, or was dialled by one
    recorded: bool = False
    recording_file: str = ""
    dials: set[str] = field(default_factory=set)  # uniqueids of the channels it dialled


class LiveLegs:
    """Processes events in order; `legs` collects new and changed legs until the caller empties it.

    `trunks`: the names of the PBX's trunks. `queue_of` returns the queue that a channel is in, "" for none.
    `recording_ended`: whether a recording was completed since the caller last reset it.
    """

    def __init__(self, queue_of: Callable[[str], str]) -> None:
        self.trunks: Collection[str] = ()
        self.legs: dict[tuple[str, str, str], Leg] = {}
        self.recording_ended = False
        self._queue_of = queue_of
        self._channels: dict[str, _Channel] = {}
        self._dials: dict[str, Leg] = {}  # by the uniqueid of the dialled channel
        self._dialled_at: dict[str, datetime] = {}  # by the same
        self.handlers: dict[str, Callable[[Message, datetime], None]] = {
            "Newchannel": self._new,
            "Newstate": self._state,
            "DialBegin": self._dial,
            "DialState": self._dial_state,
            "DialEnd": self._end_dial,
            "Hangup": self._hang_up,
            "MixMonitorStart": self._record,
            "MixMonitorStop": self._stop_record,
            "VarSet": self._name_record,
        }

    @property
    def channels(self) -> int:
        """The number of channels that exist now."""
        return len(self._channels)

    def did_of(self, uniqueid: str) -> str:
        """The DID that the caller of a channel dialled; "" for a call that didn't come from outside."""
        channel = self._channels.get(uniqueid)
        return self._did(self._channels.get(channel.linkedid, channel)) if channel else ""

    def add_stored(self, legs: Iterable[Leg], channels: Iterable[Message]) -> None:
        """Add legs stored as in progress. `resume` ends those whose channels no longer exist."""
        uniqueids = {one.get("Channel"): one.get("Uniqueid") for one in channels}
        for leg in legs:
            self._dials.setdefault(uniqueids.get(leg.dst_channel) or f"gone {leg.dst_channel}", leg)

    def resume(self, requested_at: datetime, channels: Iterable[Message]) -> None:
        """Continue after a time without events, from the items of CoreShowChannels.

        A leg whose channels don't both exist any more has ended at an unknown time. It gets no end; an answered one
        stays answered, any other becomes `UNKNOWN`. New channels are added.
        """
        there = {one.get("Uniqueid"): one for one in channels}
        for uniqueid, leg in list(self._dials.items()):
            gone = uniqueid not in there or (leg.uniqueid not in there and leg.answered_at is not None)
            if gone and began_before(self._dialled_at.get(uniqueid, leg.started_at), requested_at):
                self._forget(uniqueid)
                if leg.ended_at is None:
                    self._report(replace(leg, disposition="ANSWERED" if leg.answered_at else "UNKNOWN"))
        for uniqueid, channel in list(self._channels.items()):
            if uniqueid not in there and began_before(channel.began_at, requested_at):
                del self._channels[uniqueid]
                self.recording_ended = self.recording_ended or channel.recorded
        for uniqueid, one in there.items():
            if uniqueid and uniqueid not in self._channels:
                began_at = requested_at - timedelta(seconds=seconds(one.get("Duration")))
                self._channels[uniqueid] = _channel(one, began_at, complete=False)
        for uniqueid, leg in self._dials.items():
            if caller := self._channels.get(leg.uniqueid):
                caller.dials.add(uniqueid)

    def repeat_open(self) -> None:
        """Report every leg in progress again."""
        for leg in self._dials.values():
            self._report(leg)

    def _new(self, message: Message, at: datetime) -> None:
        if message.get("Uniqueid") not in self._channels:
            self._channels[message.get("Uniqueid")] = _channel(message, at)

    def _state(self, message: Message, at: datetime) -> None:
        uniqueid, state = message.get("Uniqueid"), message.get("ChannelState")
        if state == _RINGING:
            self._ringing(uniqueid, at)
        elif state == _UP and (channel := self._channels.get(uniqueid)) and channel.up_at is None:
            channel.up_at = at

    def _dial(self, message: Message, at: datetime) -> None:
        uniqueid = message.get("DestUniqueid")
        src = message.get("Uniqueid")
        if uniqueid in self._dials or not src:  # received twice; or Asterisk itself dials, without a calling channel
            return
        channel = self._channels.get(src) or _channel(message, at, complete=False)
        root = self._channels.get(channel.linkedid, channel)
        name, dst_name = message.get("Channel"), message.get("DestChannel")
        queue = self._queue_of(src)
        exten = message.get("Exten")
        context, caller = message.get("Context"), without_placeholder(message.get("CallerIDNum"))
        goes_out = is_to_outside(context)  # FreePBX has replaced the caller's number with the one that the call shows
        trunk, onward_trunk = trunks_of(
            name, dst_name, root.context if root is channel else "", self.trunks, to_outside=goes_out
        )
        leg = Leg(
            linkedid=message.get("Linkedid"),
            uniqueid=src,
            channel=name,
            dst_channel=dst_name,
            trunk=trunk,
            src=channel.caller or caller if goes_out else caller or channel.caller,
            dst=next((text for text in (exten, channel.exten, queue) if text not in _NOBODY), ""),
            did=self._did(root),
            context=context,
            last_app="Queue" if queue else "Dial",
            started_at=at if channel.dials else min(channel.began_at, at),
            recording_file=channel.recording_file,
            from_name=unescape(without_placeholder(message.get("CallerIDName"))) or channel.caller_name,
            onward_trunk=onward_trunk,
            outbound_number=caller if goes_out else "",
        )
        channel.dialled = True
        channel.dials.add(uniqueid)
        if dialled := self._channels.get(uniqueid):
            dialled.dialled = True
        self._dialled_at[uniqueid] = at
        self._update(uniqueid, leg)

    def _dial_state(self, message: Message, at: datetime) -> None:
        if message.get("DialStatus") == "RINGING":
            self._ringing(message.get("DestUniqueid"), at)

    def _ringing(self, uniqueid: str, at: datetime) -> None:
        leg, dialled_at = self._dials.get(uniqueid), self._dialled_at.get(uniqueid)
        if not leg or not dialled_at or leg.pdd_s is not None or leg.answered_at or leg.ended_at:
            return
        self._update(uniqueid, replace(leg, pdd_s=round(max((at - dialled_at).total_seconds(), 0.0), 3)))

    def _end_dial(self, message: Message, at: datetime) -> None:
        uniqueid = message.get("DestUniqueid")
        leg = self._dials.get(uniqueid)
        if leg is None or leg.answered_at is not None or leg.ended_at is not None:
            return
        disposition = _DISPOSITIONS.get(message.get("DialStatus"), "FAILED")
        if disposition == "ANSWERED":
            self._update(uniqueid, replace(leg, answered_at=max(at, leg.started_at)))
        else:
            self._update(uniqueid, _ended(leg, at, disposition))

    def _hang_up(self, message: Message, at: datetime) -> None:
        """Hangup: Cause is a Q.850 cause, 0 when Asterisk doesn't know it."""
        uniqueid, number = message.get("Uniqueid"), integer(message.get("Cause"))
        cause = number if 0 < number < _CAUSES_END else None
        channel = self._channels.pop(uniqueid, None)
        leg = self._forget(uniqueid)
        if leg is not None:
            ended = leg if leg.ended_at is not None else _ended(leg, at, _disposition(leg, cause))
            self._report(replace(ended, cause=cause or ended.cause))
        for dialled in channel.dials if channel else ():
            other = self._dials.get(dialled)
            if other is not None and other.ended_at is None:
                ended = _ended(other, at, _disposition(other, cause))
                self._update(dialled, replace(ended, cause=cause if other.answered_at else None))
        if channel is None or channel.recorded or not channel.complete:
            self.recording_ended = True
        if channel is not None and channel.complete and not channel.dials:
            alone = not channel.dialled and not channel.name.endswith(";2")
            if alone or self._queue_of(uniqueid):  # a caller transferred to a queue waits there with another's channel
                self._report(self._leg_of_single_channel(channel, at, cause))

    def _record(self, message: Message, at: datetime) -> None:
        if channel := self._channels.get(message.get("Uniqueid")):
            channel.recorded = True

    def _name_record(self, message: Message, at: datetime) -> None:
        """MIXMONITOR_FILENAME: the full path. Only AMI users with the class `dialplan` receive it."""
        channel = self._channels.get(message.get("Uniqueid"))
        if channel is not None and message.get("Variable") == "MIXMONITOR_FILENAME":
            channel.recording_file = message.get("Value").rpartition("/")[2]

    def _stop_record(self, message: Message, at: datetime) -> None:
        self.recording_ended = True
        if channel := self._channels.get(message.get("Uniqueid")):
            channel.recorded = False

    def _leg_of_single_channel(self, channel: _Channel, at: datetime, cause: int | None) -> Leg:
        """The leg of a channel that was connected to Asterisk only, such as to a menu."""
        queue = self._queue_of(channel.uniqueid)
        leg = Leg(
            linkedid=channel.linkedid,
            uniqueid=channel.uniqueid,
            channel=channel.name,
            trunk=trunks_of(channel.name, "", channel.context, self.trunks)[0],
            src=channel.caller,
            dst=queue or ("" if channel.exten in _NOBODY else channel.exten),  # as in the CDR of a caller in a queue
            did=self._did(channel),
            context=channel.context,
            last_app="Queue" if queue else "",
            started_at=channel.began_at,
            answered_at=channel.up_at,
            cause=cause,
            recording_file=channel.recording_file,
            from_name=channel.caller_name,
        )
        return _ended(leg, at, _disposition(leg, cause))

    def _did(self, root: _Channel) -> str:
        """The DID of a call from outside: the first extension of the call's first channel."""
        outside = is_from_outside(root.context) or (not is_local(root.name) and peer_of(root.name) in self.trunks)
        return root.exten if outside and root.complete and root.exten not in _NOBODY else ""

    def _forget(self, uniqueid: str) -> Leg | None:
        self._dialled_at.pop(uniqueid, None)
        return self._dials.pop(uniqueid, None)

    def _update(self, uniqueid: str, leg: Leg) -> None:
        self._dials[uniqueid] = leg
        self._report(leg)

    def _report(self, leg: Leg) -> None:
        self.legs[leg.linkedid, leg.channel, leg.dst_channel] = leg


def _channel(message: Message, at: datetime, *, complete: bool = True) -> _Channel:
    return _Channel(
        name=message.get("Channel"),
        uniqueid=message.get("Uniqueid"),
        linkedid=message.get("Linkedid") or message.get("Uniqueid"),
        exten=message.get("Exten"),
        context=message.get("Context"),
        caller=without_placeholder(message.get("CallerIDNum")),
        caller_name=unescape(without_placeholder(message.get("CallerIDName"))),
        began_at=at,
        complete=complete,
        up_at=at if message.get("ChannelState") == _UP else None,
    )


def _disposition(leg: Leg, cause: int | None) -> str:
    return "ANSWERED" if leg.answered_at is not None else CAUSE_DISPOSITIONS.get(cause or 0, "NO ANSWER")


def began_before(began_at: datetime, requested_at: datetime) -> bool:
    """Whether something began before the PBX's state was requested, rather than between the request and the reply.

    A start that is much later than the request is from a clock that was set back since.
    """
    return began_at < requested_at or began_at > requested_at + _REPLY_WITHIN


def _ended(leg: Leg, at: datetime, disposition: str) -> Leg:
    at = max(at, leg.answered_at or leg.started_at)  # the clock may have been set back
    billsec_s = (at - leg.answered_at).total_seconds() if leg.answered_at is not None else 0.0
    duration_s = (at - leg.started_at).total_seconds()
    return replace(
        leg, ended_at=at, duration_s=round(duration_s, 3), billsec_s=round(billsec_s, 3), disposition=disposition
    )
