"""What is written of the past is what the watch makes of the demo PBX's own events."""

from datetime import UTC, date, datetime, timedelta

import pytest

from pbx.asterisk.ami.protocol import Message
from pbx.demo.company import PlannedCall
from pbx.demo.expected_history import legs_of, places, rings_of, visit_of
from pbx.demo.story import calls_of_day
from pbx.demo.timeline import steps_of
from pbx.demo.world import World
from pbx.live.events import LiveHistory
from pbx.model.history import Leg, Ring, Visit

DAY = date(2026, 11, 18)
LATER = datetime(2026, 11, 20, tzinfo=UTC)
WORLD = World(1, datetime(2026, 11, 15, 4, tzinfo=UTC), "16")
TRUNKS = ("albion-voice", "harbour-sip")


def heard(call: PlannedCall, until: datetime) -> tuple[list[Visit], list[Ring], list[Leg]]:
    """What listening to one call tells up to a moment."""
    history = LiveHistory()
    history.legs.trunks = TRUNKS
    for step in steps_of(call, WORLD):
        if step.at <= until and step.device is None:
            lines = [("Event", step.event), *step.headers]
            history.take(Message("".join(f"{name}: {value}\r\n" for name, value in lines).encode()), step.at)
    facts = history.facts(until)
    return list(facts.visits), list(facts.rings), sorted(facts.legs, key=lambda leg: (leg.started_at, leg.dst_channel))


def told(call: PlannedCall, until: datetime) -> tuple[list[Visit], list[Ring], list[Leg]]:
    visit = visit_of(call, STANDING.get(call.uniqueid), until)
    return [visit] if visit else [], rings_of(call, until), legs_of(call, until)


CALLS = calls_of_day(DAY)
STANDING = places(CALLS)


def test_the_day_has_every_kind_of_call() -> None:
    kinds = {(call.direction, call.outcome, call.answered_at is not None) for call in CALLS}
    assert {
        ("inbound", one, one in ("answered", "transferred")) for one in ("answered", "abandoned", "transferred")
    } <= kinds
    assert {("outbound", "", True), ("outbound", "", False), ("internal", "", True), ("internal", "", False)} <= kinds
    assert any(call.recording for call in CALLS)


def test_a_day_s_calls_are_told_alike() -> None:
    for call in CALLS:
        assert told(call, LATER) == heard(call, LATER), call.uniqueid


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_calls_that_go_on_are_told_alike(share: float) -> None:
    for call in CALLS[::7]:
        at = call.started_at + (call.ended_at - call.started_at) * share
        visits, rings, legs = heard(call, at)
        assert (visits, rings, [leg for leg in legs if leg.dst_channel]) == told_so_far(call, at), call.uniqueid


def told_so_far(call: PlannedCall, at: datetime) -> tuple[list[Visit], list[Ring], list[Leg]]:
    """A channel that dialled nobody is told of when it has hung up."""
    visits, rings, legs = told(call, at)
    return visits, rings, [leg for leg in legs if leg.dst_channel]


def test_nothing_is_told_before_it_begins() -> None:
    call = CALLS[0]
    assert told(call, call.started_at - timedelta(milliseconds=1)) == ([], [], [])
