"""Sends handwritten AMI events, one second apart, to a live history."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pbx.asterisk.ami.protocol import Message
from pbx.live.events import LiveHistory, LiveUpdates
from pbx.model.history import Leg, Visit

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
LATER = timedelta(seconds=5)


def event(name: str, **headers: Any) -> Message:
    return Message("\r\n".join([f"Event: {name}", *(f"{key}: {value}" for key, value in headers.items())]).encode())


class EventFeed:
    """A live history, and methods that send it events one second apart."""

    def __init__(self) -> None:
        self.at = START
        self.history = LiveHistory()
        self.history.legs.trunks = {"carrier"}
        self.visits: dict[tuple[str, str, datetime], Visit] = {}
        self.legs: dict[tuple[str, str], Leg] = {}

    def send(self, name: str, *, step_s: float = 1.0, **headers: Any) -> None:
        self.at += timedelta(seconds=step_s)
        self.history.take(event(name, **headers), self.at)

    def join(self, uniqueid: str = "1.1", queue: str = "sales", **headers: Any) -> None:
        self.send("QueueCallerJoin", Uniqueid=uniqueid, Queue=queue, CallerIDNum="5551", Position=1, **headers)

    def connect(self, uniqueid: str = "1.1", queue: str = "sales", hold_s: int = 3) -> None:
        agent: dict[str, Any] = {"MemberName": "Eve", "Interface": "PJSIP/7"}
        self.send("QueueCallerLeave", Uniqueid=uniqueid, Queue=queue, step_s=0)
        self.send("AgentConnect", Uniqueid=uniqueid, Queue=queue, HoldTime=hold_s, RingTime=2, **agent)

    def complete(self, uniqueid: str = "1.1", reason: str = "agent", **headers: Any) -> None:
        defaults: dict[str, Any] = {"Uniqueid": uniqueid, "Queue": "sales", "MemberName": "Eve", "Interface": "PJSIP/7"}
        self.send("AgentComplete", **(defaults | {"HoldTime": 3, "TalkTime": 60, "Reason": reason} | headers))

    def updates(self, *, after: timedelta = LATER) -> LiveUpdates:
        """Take the history's updates, and merge them into `visits` and `legs`."""
        updates = self.history.take_updates(self.at + after)
        self.visits |= {(one.uniqueid, one.queue, one.joined_at): one for one in updates.visits}
        self.legs |= {(one.channel, one.dst_channel): one for one in updates.legs}
        return updates

    def visit(self) -> Visit:
        """The only visit, in its latest state."""
        self.updates()
        (visit,) = self.visits.values()
        return visit

    def resume(self, *, entries: list[Message] | None = None, channels: list[Message] | None = None) -> None:
        self.at += timedelta(minutes=1)
        self.history.resume(self.at, entries or [], channels or [])


def dial(pbx: EventFeed, src: str = "2.1", dst: str = "2.2", **headers: Any) -> None:
    channel: dict[str, Any] = {
        "Channel": f"PJSIP/101-{src}",
        "Uniqueid": src,
        "Linkedid": src,
        "Exten": "5551",
        "Context": "phones",
    }
    pbx.send("Newchannel", **channel, CallerIDNum="101")
    pbx.send("DialBegin", **(channel | {"DestChannel": f"PJSIP/carrier-{dst}", "DestUniqueid": dst}), **headers)
