"""The PBX's clock is set while calls go on: what is told stays in order, nothing lasts less than nothing."""

from datetime import timedelta

import pytest

from tests.unit.live.live_events import Pbx, dial, event

HOUR = timedelta(hours=1)


@pytest.fixture
def pbx() -> Pbx:
    return Pbx()


def test_a_visit_over_a_clock_set_back_lasts_as_asterisk_says(pbx: Pbx) -> None:
    pbx.join()
    pbx.at -= HOUR
    pbx.connect(hold_s=7)
    pbx.complete()
    visit = pbx.visit()
    assert visit.connected_at is not None
    assert visit.ended_at is not None
    assert (visit.connected_at - visit.joined_at).total_seconds() == 7
    assert (visit.ended_at - visit.connected_at).total_seconds() == 60
    assert (visit.outcome, visit.wait_s, visit.talk_s) == ("answered", 3.0, 60.0)


def test_who_hangs_up_after_the_clock_was_set_back_did_not_wait_less_than_nothing(pbx: Pbx) -> None:
    pbx.join()
    pbx.at -= HOUR
    pbx.tell("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=-3590, Position=1, OriginalPosition=1)
    pbx.tell("Hangup", Uniqueid="1.1", Cause=16)
    visit = pbx.visit()
    assert (visit.outcome, visit.wait_s, visit.ended_at) == ("abandoned", 0.0, visit.joined_at)


def test_an_answered_visit_without_its_last_event_ends_no_sooner_than_it_began(pbx: Pbx) -> None:
    pbx.join()
    pbx.connect()
    pbx.at -= HOUR
    pbx.tell("Hangup", Uniqueid="1.1", Cause=16)
    visit = pbx.visit()
    assert (visit.outcome, visit.talk_s, visit.ended_at) == ("answered", 0.0, visit.connected_at)


def test_a_leg_over_a_clock_set_back_lasts_no_less_than_nothing(pbx: Pbx) -> None:
    dial(pbx)
    pbx.at -= HOUR
    pbx.tell("DialState", DestUniqueid="2.2", DialStatus="RINGING")
    pbx.tell("DialEnd", DestUniqueid="2.2", DialStatus="ANSWER")
    pbx.tell("Hangup", Uniqueid="2.2", Cause=16)
    pbx.facts()
    leg = next(leg for leg in pbx.legs.values() if leg.dst_channel)
    assert (leg.disposition, leg.pdd_s, leg.billsec_s, leg.duration_s) == ("ANSWERED", 0.0, 0.0, 0.0)
    assert leg.ended_at == leg.answered_at == leg.started_at


def test_what_is_gone_after_a_restart_with_a_clock_set_back_is_over(pbx: Pbx) -> None:
    pbx.join()
    dial(pbx)
    pbx.at -= HOUR
    pbx.resume()
    assert pbx.visit().outcome == "unknown"
    assert pbx.visit().ended_at is None
    assert {leg.disposition for leg in pbx.legs.values()} == {"UNKNOWN"}
    assert not pbx.history.busy


@pytest.mark.parametrize("stamp", ["-1000000000", "1", "9999999999", "1e300", "nan", "soon"])
def test_a_time_of_no_calendar_is_not_believed(pbx: Pbx, stamp: str) -> None:
    pbx.tell("QueueCallerJoin", Uniqueid="1.1", Queue="sales", Position=1, Timestamp=stamp)
    assert pbx.visit().joined_at == pbx.at


@pytest.mark.parametrize("s", ["999999999", "9999999999", "99999999999999999999", "-5", "inf"])
def test_a_wait_or_talk_of_centuries_begins_nothing_centuries_ago(pbx: Pbx, s: str) -> None:
    agent = {"Queue": "sales", "MemberName": "Eve", "Interface": "PJSIP/7"}
    pbx.tell("AgentConnect", Uniqueid="1.1", HoldTime=s, RingTime=s, **agent)
    other = agent | {"MemberName": "Ann", "Interface": "PJSIP/8"}
    pbx.tell("AgentComplete", Uniqueid="1.2", HoldTime=s, TalkTime=s, Reason="caller", **other)
    shown = event("CoreShowChannel", Channel="PJSIP/1-1", Uniqueid="1.3", Linkedid="1.3", Duration=f"{s}:00:00")
    pbx.resume(entries=[event("QueueEntry", Uniqueid="1.4", Queue="sales", Wait=s)], channels=[shown])
    pbx.facts()
    assert len(pbx.visits) == 3
    assert all(pbx.at - visit.joined_at < timedelta(hours=1) for visit in pbx.visits.values())
