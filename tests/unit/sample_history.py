"""Invented history of Monday 2 March 2026 in Berlin, with one call on the Sunday before."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from pbx.model.history import AgentEvent, Leg, Ring, Visit
from pbx.model.snapshot import Snapshot, SnapshotPart, System, Trunk
from pbx.store.engine import writing
from pbx.store.legs import store_legs
from pbx.store.listening_spans import begin_span, prolong_span
from pbx.store.snapshots import record_snapshot
from pbx.store.visits import store_agent_events, store_rings, store_visits

MIDNIGHT = datetime(2026, 3, 1, 23, tzinfo=UTC)  # in Berlin
DAY: dict[str, Any] = {"period": "Custom range", "days": ["2026-03-02", "2026-03-02"]}
PARTS = ("system", "extensions", "trunks", "queues", "active_calls")


def clock(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return MIDNIGHT + timedelta(hours=hour, minutes=minute, seconds=second)


def leg(number: int, at: datetime, src: str, dst: str, disposition: str, cause: int, **more: Any) -> Leg:
    """A call of one leg: it talks for `billsec_s` after `wait_s`, or rings for `duration_s` without an answer."""
    outbound, billsec_s = more.get("outbound", False), more.get("billsec_s", 0.0)
    wait_s = more.get("wait_s", 0.0)
    duration_s = wait_s + billsec_s if billsec_s else more.get("duration_s", 0.0)
    carrier_channel, phone_channel = f"PJSIP/carrier-{number:08}", f"PJSIP/1001-{number:08}"
    return Leg(
        linkedid=f"{number}.1",
        uniqueid=f"{number}.1",
        channel=phone_channel if outbound else carrier_channel,
        dst_channel=carrier_channel if outbound else phone_channel,
        trunk="carrier",
        src=src,
        dst=dst,
        did="" if outbound else "4930555",
        context="from-internal" if outbound else "from-trunk",
        last_app="Dial",
        started_at=at,
        answered_at=at + timedelta(seconds=wait_s) if billsec_s else None,
        ended_at=at + timedelta(seconds=duration_s),
        duration_s=duration_s,
        billsec_s=billsec_s,
        disposition=disposition,
        cause=cause,
        pdd_s=more.get("pdd_s"),
    )


def add_calls(engine: Engine, pbx: int) -> None:
    """Add two inbound calls, one answered; three outbound ones, one answered; and an inbound call on the day before."""
    legs = [
        leg(1, clock(9, 10), "+4930111", "1001", "ANSWERED", 16, wait_s=10.0, billsec_s=60.0),
        leg(2, clock(9, 40), "+4930111", "1001", "NO ANSWER", 19, duration_s=20.0),
        leg(3, clock(14), "1001", "040222", "ANSWERED", 16, outbound=True, wait_s=5.0, billsec_s=120.0, pdd_s=1.5),
        leg(4, clock(14, 30), "1001", "040222", "BUSY", 17, outbound=True, duration_s=3.0, pdd_s=2.5),
        leg(5, clock(14, 40), "1001", "040999", "FAILED", 34, outbound=True),
        leg(6, clock(-12), "+4930111", "1001", "ANSWERED", 16, wait_s=10.0, billsec_s=30.0),
    ]
    with writing(engine) as session:
        store_legs(session, pbx, legs, "cdr")


def add_listening_span(engine: Engine, pbx: int, since: datetime, until: datetime) -> None:
    """Store that the app listened to the PBX's live events from `since` to `until`."""
    with writing(engine) as session:
        prolong_span(session, begin_span(session, pbx, since), until)


def add_agents(engine: Engine, pbx: int) -> None:
    """Add Ada, logged in from 9:00 to 13:00 with half an hour of lunch and two calls, and Bob, logged out, with one."""

    def answered_visit(number: int, at: datetime, agent: str, talk_s: float) -> Visit:
        connected_at, ended_at = at + timedelta(seconds=10), at + timedelta(seconds=10 + talk_s)
        return Visit(
            f"{number}.7", "sales", at, connected_at, ended_at, "answered", 10.0, 3.0, talk_s, agent, caller="+4930111"
        )

    agent_events = [
        AgentEvent(clock(9), "Ada", "sales", "login"),
        AgentEvent(clock(11), "Ada", "sales", "pause", "Lunch"),
        AgentEvent(clock(11, 30), "Ada", "sales", "unpause"),
        AgentEvent(clock(13), "Ada", "sales", "logout"),
    ]
    with writing(engine) as session:
        visits = [
            answered_visit(1, clock(9, 30), "Ada", 300.0),
            answered_visit(2, clock(10), "Ada", 600.0),
            answered_visit(3, clock(10), "Bob", 60.0),
        ]
        store_visits(session, pbx, visits, "queue_log")
        store_rings(session, pbx, [Ring(clock(10, 30), "Ada", "sales", "4.7", 15.0)])
        store_agent_events(session, pbx, agent_events)


def add_trunk_samples(engine: Engine, pbx: int) -> None:
    """Add trunk samples every five minutes from 8:00: the trunk is registered for 15 of 20 minutes."""
    with writing(engine) as session:
        for minute, state in enumerate(("registered", "registered", "unregistered", "registered", "registered")):
            trunk = Trunk(name="carrier", tech="PJSIP", state=state, registers=True, roundtrip_ms=20.0)
            parts = {part: SnapshotPart() for part in PARTS}
            snapshot = Snapshot(
                taken_at=clock(8, 5 * minute), system=System(version="22.1"), trunks=(trunk,), parts=parts
            )
            record_snapshot(session, pbx, snapshot)
