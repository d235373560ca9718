"""Sends events, written by hand and a second apart, to a live history."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pbx.asterisk.ami.protocol import Message
from pbx.live.events import LiveHistory, LiveUpdates
from pbx.model.history import Leg, Visit

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
LATER = timedelta(seconds=5)


def event(name: str, **headers: Any) -> Message:
    return Message("\r\n".join([f"Event: {name}", *(f"{key}: {value}" for key, value in headers.items())]).encode())


class Pbx:
    """A live history that receives events a second apart."""

    def __init__(self) -> None:
        self.at = START
        self.history = LiveHistory()
        self.history.legs.trunks = {"carrier"}
        self.visits: dict[tuple[str, str, datetime], Visit] = {}
        self.legs: dict[tuple[str, str], Leg] = {}

    def tell(self, name: str, *, step_s: float = 1.0, **headers: Any) -> None:
        self.at += timedelta(seconds=step_s)
        self.history.take(event(name, **headers), self.at)

    def join(self, uniqueid: str = "1.1", queue: str = "sales", **headers: Any) -> None:
        self.tell("QueueCallerJoin", Uniqueid=uniqueid, Queue=queue, CallerIDNum="5551", Position=1, **headers)

    def connect(self, uniqueid: str = "1.1", queue: str = "sales", hold_s: int = 3) -> None:
        agent: dict[str, Any] = {"MemberName": "Eve", "Interface": "PJSIP/7"}
        self.tell("QueueCallerLeave", Uniqueid=uniqueid, Queue=queue, step_s=0)
        self.tell("AgentConnect", Uniqueid=uniqueid, Queue=queue, HoldTime=hold_s, RingTime=2, **agent)

    def complete(self, uniqueid: str = "1.1", reason: str = "agent", **headers: Any) -> None:
        told: dict[str, Any] = {"Uniqueid": uniqueid, "Queue": "sales", "MemberName": "Eve", "Interface": "PJSIP/7"}
        self.tell("AgentComplete", **(told | {"HoldTime": 3, "TalkTime": 60, "Reason": reason} | headers))

    def facts(self, *, after: timedelta = LATER) -> LiveUpdates:
        facts = self.history.take_updates(self.at + after)
        self.visits |= {(one.uniqueid, one.queue, one.joined_at): one for one in facts.visits}
        self.legs |= {(one.channel, one.dst_channel): one for one in facts.legs}
        return facts

    def visit(self) -> Visit:
        """The only one there is, as it was told last."""
        self.facts()
        (visit,) = self.visits.values()
        return visit

    def resume(self, *, entries: list[Message] | None = None, channels: list[Message] | None = None) -> None:
        self.at += timedelta(minutes=1)
        self.history.resume(self.at, entries or [], channels or [])


def dial(pbx: Pbx, src: str = "2.1", dst: str = "2.2", **headers: Any) -> None:
    channel: dict[str, Any] = {
        "Channel": f"PJSIP/101-{src}",
        "Uniqueid": src,
        "Linkedid": src,
        "Exten": "5551",
        "Context": "phones",
    }
    pbx.tell("Newchannel", **channel, CallerIDNum="101")
    pbx.tell("DialBegin", **(channel | {"DestChannel": f"PJSIP/carrier-{dst}", "DestUniqueid": dst}), **headers)
