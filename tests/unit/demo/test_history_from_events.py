"""The history made from the demo's events: the planned calls, as the app's listener records them."""

from datetime import UTC, date, datetime, timedelta

import pytest

from pbx.demo.call_events import write_call_steps
from pbx.demo.channels import RINGING
from pbx.demo.company import PlannedCall
from pbx.demo.history_from_events import history_of_agents, history_of_calls
from pbx.demo.queue_counters import seconds_between
from pbx.demo.simulated_asterisk import SimulatedAsterisk
from pbx.demo.simulated_history import agent_changes_of_day, calls_of_day
from pbx.live.events import LiveUpdates
from pbx.model.history import Leg

DAY = date(2026, 11, 18)
LATER = datetime(2026, 11, 20, tzinfo=UTC)
ASTERISK = SimulatedAsterisk(datetime(2026, 11, 15, 4, tzinfo=UTC))
CALLS = calls_of_day(DAY)
FACTS = history_of_calls(CALLS, LATER)


def of_call(call: PlannedCall, facts: LiveUpdates = FACTS) -> list[Leg]:
    return sorted((leg for leg in facts.legs if leg.linkedid == call.linkedid), key=lambda leg: leg.dst_channel)


def test_the_day_has_every_kind_of_call() -> None:
    kinds = {(call.direction, call.outcome, call.answered_at is not None) for call in CALLS}
    assert {
        ("inbound", one, one in ("answered", "transferred")) for one in ("answered", "abandoned", "transferred")
    } <= kinds
    assert {("outbound", "", True), ("outbound", "", False), ("internal", "", True), ("internal", "", False)} <= kinds
    assert any(call.recording for call in CALLS)


def test_every_queue_call_is_one_visit_as_planned() -> None:
    visits = {visit.uniqueid: visit for visit in FACTS.visits}
    planned = [call for call in CALLS if call.queue]
    assert set(visits) == {call.uniqueid for call in planned}
    for call in planned:
        visit = visits[call.uniqueid]
        assert (visit.queue, visit.joined_at, visit.ended_at) == (call.queue, call.joined_at, call.left_at)
        assert (visit.outcome, visit.did, visit.caller) == (call.outcome, call.did, call.from_number)
        assert (visit.connected_at, visit.agent) == (call.answered_at, call.agent.name if call.agent else "")
        assert visit.target == (f"{call.target}@from-internal" if call.target else "")
        if call.joined_at and call.left_at and call.answered_at:
            assert visit.wait_s == seconds_between(call.joined_at, call.answered_at)
            assert visit.talk_s == seconds_between(call.answered_at, call.left_at)
            assert visit.ended_by == call.ended_by
        elif call.outcome == "abandoned":
            assert visit.ended_by == "caller"


def test_every_missed_ring_is_recorded() -> None:
    planned = {
        (ring.at + timedelta(seconds=ring.ring_s), ring.agent.name, call.queue, call.uniqueid, ring.ring_s)
        for call in CALLS
        for ring in call.rings
        if not ring.answered and not ring.cancelled
    }
    assert planned
    assert {(one.rung_at, one.agent, one.queue, one.uniqueid, one.ring_s) for one in FACTS.rings} == planned


def test_every_phone_that_rang_is_a_leg() -> None:
    for call in CALLS:
        legs = of_call(call)
        if call.direction == "inbound":
            assert len(legs) == max(len(call.rings) + bool(call.target), 1)
            assert [leg.answered_at for leg in legs if leg.answered_at and leg.dst_channel][:1] == (
                [call.answered_at] if call.answered_at else []
            )
        else:
            (leg,) = legs
            assert (leg.trunk, leg.dst, leg.pdd_s, leg.answered_at) == (
                call.trunk,
                call.to_number,
                call.pdd_s,
                call.answered_at,
            )
        assert max(leg.ended_at for leg in legs if leg.ended_at) == call.ended_at
        assert {leg.recording_file != "" for leg in legs} == {call.recording != ""}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_call_in_progress_has_data_only_until_now(share: float) -> None:
    for call in CALLS[::7]:
        at = call.started_at + (call.ended_at - call.started_at) * share
        facts = history_of_calls([call], at)
        for leg in facts.legs:
            assert max(moment for moment in (leg.started_at, leg.answered_at, leg.ended_at) if moment) <= at
        ringing = {
            step.channels[-1].name
            for step in write_call_steps(call, ASTERISK)
            if step.at <= at and step.channels
            if step.channels[-1].state == RINGING
        }
        assert ringing <= {leg.dst_channel for leg in facts.legs}
        for visit in facts.visits:
            assert (visit.outcome == "in_progress") == (call.left_at is None or call.left_at > at)
            assert visit.connected_at == (call.answered_at if call.answered_at and call.answered_at <= at else None)


def test_a_call_that_has_not_begun_has_no_data() -> None:
    assert len(history_of_calls(CALLS[:1], CALLS[0].started_at - timedelta(milliseconds=1))) == 0


def test_agents_are_recorded_as_planned() -> None:
    planned = agent_changes_of_day(DAY)
    since = planned[0].happened_at
    assert list(history_of_agents(since, LATER)[: len(planned)]) == list(planned)
    assert history_of_agents(since, since) == []
