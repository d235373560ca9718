"""Live events become visits, legs and agent events.

Real Asterisk's bytes are the input; handwritten events cover what those don't contain.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pbx.asterisk.ami.protocol import AmiParser, Message
from pbx.live.events import USED_EVENTS, LiveHistory, LiveUpdates, event_filter
from pbx.model.call_from_legs import fold_legs
from tests.unit.asterisk.ami.replay_server import VERSIONS, raw
from tests.unit.live.event_feed import LATER, START, EventFeed, dial, event

TICK = timedelta(milliseconds=10)


def captured(version: int) -> list[Message]:
    parser = AmiParser()
    parser.feed(b"Asterisk Call Manager/5.0\r\n")
    return parser.feed(raw(version, "events"))


def updates_from(messages: Iterator[Message] | list[Message]) -> LiveUpdates:
    """The visits, legs and agent events that a live history derives from these events."""
    history = LiveHistory()
    history.legs.trunks = {"carrier", "badcarrier"}
    at = START
    for message in messages:
        at += TICK
        history.take(message, at)
    return history.take_updates(at + LATER)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_labs_captured_calls_are_all_reported(version: int) -> None:
    updates = updates_from(captured(version))
    assert sorted((visit.queue, visit.outcome, visit.talk_s is not None) for visit in updates.visits) == [
        ("sales", "answered", True),
        ("sales", "answered", True),
        ("support", "abandoned", False),
        ("support", "timeout", False),
    ]
    answered = {visit.ended_by: visit for visit in updates.visits if visit.outcome == "answered"}
    assert answered["caller"].agent == "Felix Brandt"
    assert answered["caller"].did == "5550100"
    assert answered["agent"].agent == "Eve Adams"
    assert all(visit.ended_at and visit.wait_s is not None and visit.caller for visit in updates.visits)
    ended = sorted((leg.trunk, leg.disposition) for leg in updates.legs)
    assert ended.count(("carrier", "BUSY")) == ended.count(("carrier", "NO ANSWER")) == 1
    assert ended.count(("carrier", "ANSWERED")) == 2
    busy = next(leg for leg in updates.legs if leg.disposition == "BUSY")
    assert (busy.cause, busy.src, busy.dst, busy.billsec_s) == (17, "1001", "5552001", 0.0)
    internal = next(leg for leg in updates.legs if leg.dst == "1002")
    assert internal.pdd_s is not None
    assert internal.billsec_s is not None
    assert internal.duration_s is not None
    assert 0 < internal.billsec_s < internal.duration_s
    assert [(change.agent, change.kind, change.reason) for change in updates.agent_events] == [
        ("Eve Adams", "pause", "Coffee ☕"),
        ("Eve Adams", "unpause", ""),
    ]
    assert [(ring.queue, ring.ring_s) for ring in updates.rings] == [("support", 3.0)]


@pytest.mark.parametrize("version", VERSIONS)
def test_duplicate_events_change_nothing(version: int) -> None:
    once = updates_from(captured(version))
    twice = updates_from([message for one in captured(version) for message in (one, one)])
    assert [visit.outcome for visit in twice.visits] == [visit.outcome for visit in once.visits]
    assert [(leg.channel, leg.dst_channel, leg.disposition) for leg in twice.legs] == [
        (leg.channel, leg.dst_channel, leg.disposition) for leg in once.legs
    ]
    assert len(twice.rings) == len(once.rings)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_event_filter_passes_only_used_events(version: int) -> None:
    assert len(event_filter(USED_EVENTS)) < 1000
    assert "TestEvent" not in event_filter(USED_EVENTS)
    used = [message for message in captured(version) if message.event in USED_EVENTS]
    updates, unfiltered = updates_from(used), updates_from(captured(version))
    assert len(used) < len(captured(version)) * 0.6
    assert len(updates) == len(unfiltered)


def test_a_visit_is_updated_while_it_goes_on() -> None:
    pbx = EventFeed()
    pbx.join()
    assert pbx.visit().outcome == "in_progress"
    pbx.connect()
    connected = pbx.visit()
    assert (connected.outcome, connected.wait_s, connected.ring_s, connected.agent) == ("in_progress", 3.0, 2.0, "Eve")
    pbx.complete()
    ended = pbx.visit()
    assert (ended.outcome, ended.talk_s, ended.ended_by) == ("answered", 60.0, "agent")
    assert ended.connected_at == connected.connected_at


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("TIMEOUT", "timeout"), ("LEAVEEMPTY", "exit_empty"), ("LEAVEUNAVAIL", "exit_empty"), ("WITHDRAW", "withdrawn")],
)
def test_queuestatus_gives_the_outcome_of_a_visit(status: str, outcome: str) -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.send("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=20, Position=1, OriginalPosition=2)
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    pbx.send("VarSet", Uniqueid="1.1", Variable="QUEUESTATUS", Value=status)
    visit = pbx.visit()
    assert (visit.outcome, visit.wait_s, visit.original_position) == (outcome, 20.0, 2)


def test_a_caller_who_hangs_up_has_abandoned() -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.send("HangupRequest", Uniqueid="1.1")
    pbx.send("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=7)
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    assert (pbx.visit().outcome, pbx.visit().ended_by, pbx.visit().wait_s) == ("abandoned", "caller", 7.0)


def test_a_caller_who_hung_up_before_any_phone_rang_was_not_answered() -> None:
    pbx = EventFeed()
    pbx.send("Newchannel", Channel="PJSIP/carrier-1", Uniqueid="1.1", Linkedid="1.1", ChannelState=4, Exten="0305550")
    pbx.send("Newstate", Channel="PJSIP/carrier-1", Uniqueid="1.1", ChannelState=6)
    pbx.join()
    pbx.send("HangupRequest", Uniqueid="1.1")
    pbx.send("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=7)
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    pbx.send("Hangup", Uniqueid="1.1", Cause=16)
    pbx.updates()
    (leg,) = pbx.legs.values()
    assert (leg.last_app, fold_legs([leg]).disposition) == ("Queue", "NO ANSWER")


def test_the_abandoned_variable_marks_a_visit_as_abandoned() -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.send("VarSet", Uniqueid="1.1", Variable="ABANDONED", Value="TRUE")
    pbx.send("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=7)
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    pbx.send("Hangup", Uniqueid="1.1")
    assert pbx.visit().outcome == "abandoned"


def test_a_visit_without_an_event_about_its_end_has_an_unknown_outcome() -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales", step_s=9)
    assert pbx.updates(after=timedelta()).visits[-1].outcome == "in_progress"  # AgentConnect may follow
    assert (pbx.visit().outcome, pbx.visit().wait_s) == ("unknown", 9.0)


def test_a_visit_left_without_a_queuestatus_ended_by_a_key_press() -> None:
    pbx = EventFeed()
    pbx.history.visits.status_heard = True
    pbx.join()
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    assert pbx.visit().outcome == "exit_key"


@pytest.mark.parametrize("transfer_first", [True, False])
def test_a_transferred_visit_has_the_transfers_target(transfer_first: bool) -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.connect()
    transfer = {"TransfereeUniqueid": "1.1", "Extension": "1044", "Context": "from-internal"}
    if transfer_first:
        pbx.send("BlindTransfer", **transfer)
    pbx.complete(reason="transfer")
    if not transfer_first:
        pbx.send("BlindTransfer", **transfer)
    assert (pbx.visit().outcome, pbx.visit().target, pbx.visit().talk_s) == ("transferred", "1044@from-internal", 60.0)


def test_agent_complete_ends_the_right_visit_even_without_its_channel() -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.connect()
    pbx.send("Hangup", Uniqueid="1.1", Cause=16)
    pbx.complete(uniqueid="")
    assert (pbx.visit().outcome, pbx.visit().talk_s, pbx.visit().ended_by) == ("answered", 60.0, "agent")


def test_a_connected_call_that_ends_without_agent_complete_was_answered() -> None:
    pbx = EventFeed()
    pbx.join()
    pbx.connect()
    pbx.send("Hangup", Uniqueid="1.1", step_s=30)
    assert (pbx.visit().outcome, pbx.visit().talk_s) == ("answered", 30.0)


def test_a_caller_who_joins_twice_has_two_visits() -> None:
    pbx = EventFeed()
    for _ in range(2):
        pbx.join()
        pbx.send("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=9)
        pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
        pbx.send("VarSet", Uniqueid="1.1", Variable="QUEUESTATUS", Value="TIMEOUT")
    pbx.updates()
    assert [visit.outcome for visit in pbx.visits.values()] == ["timeout", "timeout"]


def test_a_visit_that_ended_during_a_gap_has_an_unknown_outcome() -> None:
    pbx = EventFeed()
    pbx.join("1.1")
    pbx.join("1.2")
    pbx.join("1.3")
    pbx.connect("1.3")
    pbx.resume(
        entries=[event("QueueEntry", Uniqueid="1.2", Queue="sales", Wait=60)],
        channels=[event("CoreShowChannel", Uniqueid=name, Channel=f"PJSIP/{name}-1") for name in ("1.2", "1.3")],
    )
    pbx.updates()
    ends = {visit.uniqueid: (visit.outcome, visit.ended_at) for visit in pbx.visits.values()}
    assert ends == {"1.1": ("unknown", None), "1.2": ("in_progress", None), "1.3": ("in_progress", None)}
    pbx.complete("1.3")
    pbx.updates()
    assert [visit.outcome for visit in pbx.visits.values() if visit.uniqueid == "1.3"] == ["answered"]


def test_a_later_event_completes_a_visit_whose_end_was_missed() -> None:
    pbx = EventFeed()
    pbx.join()
    joined_at = pbx.visit().joined_at
    pbx.resume(channels=[event("CoreShowChannel", Uniqueid="1.1", Channel="PJSIP/a-1")])  # connected in the gap
    assert pbx.visit().outcome == "unknown"
    pbx.complete()
    assert (pbx.visit().outcome, pbx.visit().joined_at, pbx.visit().wait_s) == ("answered", joined_at, 3.0)


def test_a_caller_missing_from_two_successive_snapshots_has_left() -> None:
    pbx = EventFeed()
    for uniqueid, queue in (("1.1", "sales"), ("1.2", "sales"), ("1.3", "hidden")):
        pbx.join(uniqueid, queue)
    both, one = {("1.1", "sales"), ("1.2", "sales")}, {("1.2", "sales")}
    for present, outcome in ((one, "in_progress"), (both, "in_progress"), (one, "in_progress"), (one, "unknown")):
        pbx.history.visits.close_absent(["sales"], present, pbx.at + LATER)
        pbx.updates()
        ends = {visit.uniqueid: visit.outcome for visit in pbx.visits.values()}
        assert ends == {"1.1": outcome, "1.2": "in_progress", "1.3": "in_progress"}


def test_a_caller_who_waited_before_listening_began_is_added_from_queue_status() -> None:
    pbx = EventFeed()
    entry = event("QueueEntry", Uniqueid="9.9", Queue="sales", Wait=42, CallerIDNum="5559", Position=1)
    pbx.resume(entries=[entry])
    assert pbx.visit().joined_at == pbx.at - timedelta(seconds=42)
    pbx.join("9.9")  # the event and the list report the same caller
    assert (len(pbx.visits), pbx.visit().original_position) == (1, 1)


def test_a_caller_who_talked_before_listening_began_is_added_from_agent_complete() -> None:
    pbx = EventFeed()
    pbx.complete("8.8")
    visit = pbx.visit()
    assert visit.joined_at == pbx.at - timedelta(seconds=63)
    assert (visit.outcome, visit.wait_s, visit.talk_s) == ("answered", 3.0, 60.0)
    pbx.complete("8.8")
    pbx.updates()
    assert len(pbx.visits) == 1


def test_after_a_restart_of_the_pbx_nothing_is_in_progress() -> None:
    pbx = EventFeed()
    pbx.join()
    dial(pbx)
    pbx.send("DialEnd", Uniqueid="2.1", DestUniqueid="2.2", DialStatus="ANSWER")
    dial(pbx, src="3.1", dst="3.2")
    pbx.resume()
    pbx.updates()
    assert pbx.visit().outcome == "unknown"
    assert {leg.disposition: leg.ended_at for leg in pbx.legs.values()} == {"ANSWERED": None, "UNKNOWN": None}
    assert not pbx.history.busy


def test_stored_visits_and_legs_in_progress_are_resumed() -> None:
    before = EventFeed()
    before.join("1.1")
    before.join("1.2")
    dial(before)
    updates = before.updates()
    pbx = EventFeed()
    pbx.at = before.at
    shown = [
        event("CoreShowChannel", Uniqueid="2.1", Channel="PJSIP/101-2.1", Duration="00:01:00"),
        event("CoreShowChannel", Uniqueid="2.2", Channel="PJSIP/carrier-2.2", Duration="00:00:50"),
    ]
    pbx.history.add_stored(updates.visits, updates.legs, shown)
    pbx.resume(entries=[event("QueueEntry", Uniqueid="1.2", Queue="sales", Wait=70)], channels=shown)
    pbx.updates()
    assert {visit.uniqueid: visit.outcome for visit in pbx.visits.values()} == {"1.1": "unknown"}
    pbx.send("DialEnd", Uniqueid="2.1", DestUniqueid="2.2", DialStatus="ANSWER")
    pbx.send("Hangup", Uniqueid="2.2", Cause=16, step_s=30)
    pbx.updates()
    (leg,) = pbx.legs.values()
    assert (leg.disposition, leg.billsec_s, leg.started_at) == ("ANSWERED", 30.0, updates.legs[0].started_at)


@pytest.mark.parametrize("cause", [70_000, -70_000, "x"])
def test_a_cause_outside_q850_is_ignored(cause: object) -> None:
    """Reports store causes in few bytes, so a cause that doesn't fit must not break a page."""
    pbx = EventFeed()
    dial(pbx)
    pbx.send("Hangup", Uniqueid="2.2", Cause=cause)
    (leg,) = pbx.updates().legs
    assert (leg.cause, leg.disposition) == (None, "NO ANSWER")


@pytest.mark.parametrize(
    ("status", "cause", "disposition"),
    [
        ("BUSY", 17, "BUSY"),
        ("NOANSWER", 0, "NO ANSWER"),
        ("CANCEL", 16, "NO ANSWER"),
        ("CONGESTION", 34, "CONGESTION"),
        ("CHANUNAVAIL", 20, "FAILED"),
    ],
)
def test_a_failed_dial_has_its_disposition_and_cause(status: str, cause: int, disposition: str) -> None:
    pbx = EventFeed()
    dial(pbx)
    pbx.send("DialState", DestUniqueid="2.2", DialStatus="RINGING", step_s=1.5)
    pbx.send("DialEnd", DestUniqueid="2.2", DialStatus=status, step_s=10)
    pbx.send("Hangup", Uniqueid="2.2", Cause=cause)
    pbx.send("Hangup", Uniqueid="2.1", Cause=16)
    pbx.updates()
    (leg,) = pbx.legs.values()
    assert (leg.disposition, leg.cause, leg.trunk) == (disposition, cause or None, "carrier")
    assert (leg.pdd_s, leg.duration_s, leg.billsec_s, leg.answered_at) == (1.5, 12.5, 0.0, None)
    assert leg.started_at == START + timedelta(seconds=1)  # when its channel began, a second before the dial


def test_a_channel_that_dialled_nobody_is_a_separate_leg() -> None:
    pbx = EventFeed()
    headers = {"Channel": "PJSIP/carrier-7", "Uniqueid": "7.7", "Linkedid": "7.7"}
    pbx.send("Newchannel", **headers, Exten="5550102", Context="from-pstn", CallerIDNum="+4930", ChannelState=4)
    pbx.send("Newstate", **headers, ChannelState=6)
    pbx.send("Hangup", **headers, Cause=16, step_s=20)
    pbx.updates()
    (leg,) = pbx.legs.values()
    assert (leg.dst_channel, leg.trunk, leg.did, leg.disposition) == ("", "carrier", "5550102", "ANSWERED")
    assert (leg.duration_s, leg.billsec_s) == (21.0, 20.0)


def test_a_recording_ends_with_its_channel() -> None:
    pbx = EventFeed()
    dial(pbx)
    pbx.send("MixMonitorStart", Uniqueid="2.1")
    assert not pbx.history.legs.recording_ended
    pbx.send("Hangup", Uniqueid="2.1", Cause=16)
    assert pbx.history.legs.recording_ended


def test_an_events_timestamp_is_used_as_its_time() -> None:
    history = LiveHistory()
    stamped = event("QueueCallerJoin", Uniqueid="1.1", Queue="sales", Timestamp="1772355600.250000")
    history.take(stamped, START + timedelta(days=1))
    (visit,) = history.take_updates(START).visits
    assert visit.joined_at == datetime.fromtimestamp(1772355600.25, UTC)


def test_member_events_become_agent_events() -> None:
    pbx = EventFeed()
    headers = {"Queue": "sales", "MemberName": "Eve"}
    pbx.send("QueueMemberAdded", **headers, Paused=1, PausedReason="Training")
    pbx.send("QueueMemberPause", **headers, Paused=0)
    pbx.send("QueueMemberRemoved", **headers)
    changes = pbx.updates().agent_events
    assert [change.kind for change in changes] == ["login", "pause", "unpause", "logout"]
    assert changes[1].reason == "Training"


def test_finished_calls_are_freed_from_memory() -> None:
    pbx = EventFeed()
    for number in range(300):
        src, dst = f"5.{number}", f"6.{number}"
        dial(pbx, src, dst)
        pbx.join(src)
        pbx.send("DialEnd", DestUniqueid=dst, DialStatus="NOANSWER")
        pbx.send("Hangup", Uniqueid=dst)
        pbx.send("Hangup", Uniqueid=src)
    pbx.updates()
    assert not pbx.history.busy
    assert not pbx.history.legs._dials
    assert len(pbx.visits) == 300
