"""The PBX's clock changes during calls: times stay in order and no duration is negative."""

from datetime import timedelta

import pytest

from tests.unit.live.event_feed import EventFeed, dial, event

HOUR = timedelta(hours=1)


@pytest.fixture
def pbx() -> EventFeed:
    return EventFeed()


def test_a_visit_during_which_the_clock_was_set_back_has_asterisks_own_durations(pbx: EventFeed) -> None:
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


def test_an_abandoned_visits_wait_is_never_negative(pbx: EventFeed) -> None:
    pbx.join()
    pbx.at -= HOUR
    pbx.send("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=-3590, Position=1, OriginalPosition=1)
    pbx.send("Hangup", Uniqueid="1.1", Cause=16)
    visit = pbx.visit()
    assert (visit.outcome, visit.wait_s, visit.ended_at) == ("abandoned", 0.0, visit.joined_at)


def test_an_answered_visit_without_agent_complete_never_ends_before_it_connected(pbx: EventFeed) -> None:
    pbx.join()
    pbx.connect()
    pbx.at -= HOUR
    pbx.send("Hangup", Uniqueid="1.1", Cause=16)
    visit = pbx.visit()
    assert (visit.outcome, visit.talk_s, visit.ended_at) == ("answered", 0.0, visit.connected_at)


def test_a_legs_durations_are_never_negative(pbx: EventFeed) -> None:
    dial(pbx)
    pbx.at -= HOUR
    pbx.send("DialState", DestUniqueid="2.2", DialStatus="RINGING")
    pbx.send("DialEnd", DestUniqueid="2.2", DialStatus="ANSWER")
    pbx.send("Hangup", Uniqueid="2.2", Cause=16)
    pbx.updates()
    leg = next(leg for leg in pbx.legs.values() if leg.dst_channel)
    assert (leg.disposition, leg.pdd_s, leg.billsec_s, leg.duration_s) == ("ANSWERED", 0.0, 0.0, 0.0)
    assert leg.ended_at == leg.answered_at == leg.started_at


def test_a_restart_with_the_clock_set_back_ends_the_calls_in_progress(pbx: EventFeed) -> None:
    pbx.join()
    dial(pbx)
    pbx.at -= HOUR
    pbx.resume()
    assert pbx.visit().outcome == "unknown"
    assert pbx.visit().ended_at is None
    assert {leg.disposition for leg in pbx.legs.values()} == {"UNKNOWN"}
    assert not pbx.history.busy


@pytest.mark.parametrize("stamp", ["-1000000000", "1", "9999999999", "1e300", "nan", "soon"])
def test_an_impossible_timestamp_is_ignored(pbx: EventFeed, stamp: str) -> None:
    pbx.send("QueueCallerJoin", Uniqueid="1.1", Queue="sales", Position=1, Timestamp=stamp)
    assert pbx.visit().joined_at == pbx.at


@pytest.mark.parametrize("duration", ["999999999", "9999999999", "99999999999999999999", "-5", "inf"])
def test_an_impossible_duration_moves_no_start_into_the_past(pbx: EventFeed, duration: str) -> None:
    agent = {"Queue": "sales", "MemberName": "Eve", "Interface": "PJSIP/7"}
    pbx.send("AgentConnect", Uniqueid="1.1", HoldTime=duration, RingTime=duration, **agent)
    other = agent | {"MemberName": "Ann", "Interface": "PJSIP/8"}
    pbx.send("AgentComplete", Uniqueid="1.2", HoldTime=duration, TalkTime=duration, Reason="caller", **other)
    channel = event(
        "CoreShowChannel", Channel="PJSIP/1-1", Uniqueid="1.3", Linkedid="1.3", Duration=f"{duration}:00:00"
    )
    pbx.resume(entries=[event("QueueEntry", Uniqueid="1.4", Queue="sales", Wait=duration)], channels=[channel])
    pbx.updates()
    assert len(pbx.visits) == 3
    assert all(pbx.at - visit.joined_at < timedelta(hours=1) for visit in pbx.visits.values())
