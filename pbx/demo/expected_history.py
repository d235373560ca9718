"""What someone who listens would have been told of the story's calls up to a moment: visits, rings, legs. Pure.

The same as pbx.live.events makes of the demo PBX's events, so that both tell of one call in the same rows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pbx.demo.company import Agent, PlannedCall
from pbx.demo.counters import whole_s
from pbx.demo.recording_dir import name_of
from pbx.demo.timeline import INSIDE, OUTSIDE, QUEUEING
from pbx.model.history import Leg, Ring, Visit

PICK_UP = timedelta(milliseconds=300)  # as pbx.demo.timeline has them; a test holds both to it
REACH = timedelta(milliseconds=80)
_REFUSED = {17: "BUSY", 34: "CONGESTION", 1: "FAILED"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a caller stood in the queue: when joining, and when leaving."""

    joining: int
    leaving: int


def places(calls: Iterable[PlannedCall]) -> dict[str, Place]:
    """By uniqueid, of all calls to queues among these."""
    moments: list[tuple[datetime, int, PlannedCall]] = []
    for call in calls:
        if call.joined_at is not None:
            moments += [(call.joined_at, 1, call), (_left_queue(call), 0, call)]
    waiting: dict[str, list[str]] = {}
    joining: dict[str, int] = {}
    found: dict[str, Place] = {}
    for _, joins, call in sorted(moments, key=lambda moment: moment[:2]):
        line = waiting.setdefault(call.queue, [])
        if joins:
            line.append(call.uniqueid)
            joining[call.uniqueid] = len(line)
        else:
            found[call.uniqueid] = Place(joining[call.uniqueid], line.index(call.uniqueid) + 1)
            line.remove(call.uniqueid)
    return found


def _left_queue(call: PlannedCall) -> datetime:
    """When a caller stopped waiting."""
    return call.answered_at or call.left_at or call.ended_at


def visit_of(call: PlannedCall, place: Place | None, until: datetime) -> Visit | None:
    """The visit of a call to its queue, as it was known at `until`; None before it began."""
    joined_at, left_at = call.joined_at, call.left_at
    if place is None or joined_at is None or left_at is None or joined_at > until:
        return None
    who: dict[str, object] = {
        "uniqueid": call.uniqueid,
        "queue": call.queue,
        "joined_at": joined_at,
        "caller": call.from_number,
    }
    who |= {"caller_name": call.from_name, "did": call.did, "original_position": place.joining}
    answered_at = call.answered_at
    if answered_at is not None and answered_at <= until and call.agent is not None:
        ring = call.rings[-1]
        wait_s = float(whole_s(joined_at, answered_at))
        who |= {"connected_at": answered_at, "wait_s": wait_s, "ring_s": float(int(ring.ring_s))}
        who |= {"agent": call.agent.name, "interface": interface_of(call.agent)}
        if left_at <= until:
            who |= {"ended_at": left_at, "talk_s": float(whole_s(answered_at, left_at)), "outcome": call.outcome}
            who |= {"ended_by": call.ended_by}
            who |= {"target": f"{call.target}@{INSIDE}"} if call.outcome == "transferred" else {}
    elif left_at <= until:
        who |= {"ended_at": left_at, "wait_s": float(whole_s(joined_at, left_at)), "outcome": call.outcome}
        who |= {"position": place.leaving, "ended_by": "caller" if call.outcome == "abandoned" else ""}
    return Visit(**who)  # type: ignore[arg-type]


def rings_of(call: PlannedCall, until: datetime) -> list[Ring]:
    """The telephones that rang in vain for a call, and had stopped at `until`."""
    found = []
    for ring in call.rings:
        stopped_at = ring.at + timedelta(seconds=ring.ring_s)
        if not ring.answered and not ring.cancelled and stopped_at <= until:
            found.append(Ring(stopped_at, ring.agent.name, call.queue, call.uniqueid, ring.ring_s))
    return found


def interface_of(agent: Agent) -> str:
    """What a queue calls an agent by."""
    return f"PJSIP/{agent.extension}"


def channel_of(call: PlannedCall, place: int, peer: str) -> str:
    """The name of a call's `place`-th channel."""
    return f"PJSIP/{peer}-{(call.serial + place) % 0x100000000:08x}"


def legs_of(call: PlannedCall, until: datetime) -> list[Leg]:
    """The legs of a call that had begun at `until`, as far as they were known then."""
    if call.started_at > until:
        return []
    whole = _inbound(call) if call.direction == "inbound" else [(call.started_at, _dialled_out(call))]
    return [_known(leg, dialled_at, until) for dialled_at, leg in whole if dialled_at <= until]


def _known(leg: Leg, dialled_at: datetime, until: datetime) -> Leg:
    """A leg as it was known at a moment: what lies in the future isn't told yet."""
    if leg.ended_at is None or leg.ended_at <= until:
        return leg
    answered_at = leg.answered_at if leg.answered_at is not None and leg.answered_at <= until else None
    rung = leg.pdd_s is not None and dialled_at + timedelta(seconds=leg.pdd_s) <= until
    lasting: dict[str, object] = {"answered_at": answered_at, "ended_at": None, "duration_s": None, "billsec_s": None}
    lasting |= {"disposition": "", "cause": None, "pdd_s": leg.pdd_s if rung else None}
    return replace(leg, **lasting)  # type: ignore[arg-type]


def _inbound(call: PlannedCall) -> list[tuple[datetime, Leg]]:
    """When it was dialled, and its leg, for each telephone that rang; where none did, the caller's own channel."""
    file = f"{name_of(call).rpartition('/')[2]}.wav" if call.recording else ""
    root = _leg(call, call.trunk, QUEUEING, call.queue, "Queue", did=call.did, recording_file=file)
    legs = list(_rung(call, root))
    if call.target and call.left_at is not None:
        answered_at = call.left_at + timedelta(seconds=call.target_ring_s)
        passed_on = replace(root, context=INSIDE, dst=call.target, last_app="Dial", pdd_s=REACH.total_seconds())
        passed_on = replace(passed_on, dst_channel=channel_of(call, len(call.rings) + 1, call.target))
        passed_on = replace(passed_on, started_at=call.left_at, cause=16)
        legs.append((call.left_at, _ended(passed_on, answered_at, call.ended_at)))
    if legs or call.joined_at is None:
        return legs
    alone = replace(root, context=OUTSIDE, cause=16)
    if call.outcome == "timeout":
        alone = replace(alone, dst=call.did, last_app="")
    return [(call.started_at, _ended(alone, min(call.started_at + PICK_UP, call.joined_at), call.ended_at))]


def _rung(call: PlannedCall, root: Leg) -> Iterator[tuple[datetime, Leg]]:
    for place, ring in enumerate(call.rings, start=1):
        over_at = ring.at + timedelta(seconds=ring.ring_s)
        pdd_s = round(min(REACH.total_seconds(), ring.ring_s), 3)
        leg = replace(root, dst_channel=channel_of(call, place, ring.agent.extension), pdd_s=pdd_s)
        if place > 1:  # the first begins with the call
            leg = replace(leg, started_at=ring.at)
        if ring.answered and call.left_at is not None:
            yield ring.at, _ended(replace(leg, cause=16), over_at, call.left_at)
        else:
            yield ring.at, _ended(leg, None, over_at, "NO ANSWER")


def _dialled_out(call: PlannedCall) -> Leg:
    callee = call.trunk or call.to_number
    leg = _leg(call, call.from_number, INSIDE, call.to_number, "Dial")
    leg = replace(leg, dst_channel=channel_of(call, 1, callee), pdd_s=call.pdd_s, cause=call.cause)
    disposition = "ANSWERED" if call.answered_at else "NO ANSWER" if call.pdd_s is not None else _REFUSED[call.cause]
    return _ended(leg, call.answered_at, call.ended_at, disposition)


def _leg(
    call: PlannedCall, peer: str, context: str, dst: str, last_app: str, *, did: str = "", recording_file: str = ""
) -> Leg:
    return Leg(
        linkedid=call.linkedid,
        uniqueid=call.uniqueid,
        channel=channel_of(call, 0, peer),
        dst_channel="",
        trunk=call.trunk,
        src=call.from_number,
        dst=dst,
        did=did,
        context=context,
        last_app=last_app,
        started_at=call.started_at,
        answered_at=None,
        ended_at=None,
        duration_s=None,
        billsec_s=None,
        disposition="",
        cause=None,
        pdd_s=None,
        recording_file=recording_file,
        sequence=None,
        from_name=call.from_name,
    )


def _ended(leg: Leg, answered_at: datetime | None, ended_at: datetime, disposition: str = "ANSWERED") -> Leg:
    billsec_s = round((ended_at - answered_at).total_seconds(), 3) if answered_at is not None else 0.0
    duration_s = round((ended_at - leg.started_at).total_seconds(), 3)
    leg = replace(leg, duration_s=duration_s, billsec_s=billsec_s)
    return replace(leg, answered_at=answered_at, ended_at=ended_at, disposition=disposition)
