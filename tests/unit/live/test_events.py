"""Live events as facts: the bytes of real Asterisk, and what those can't show, written by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pbx.asterisk.ami.protocol import AmiParser, Message
from pbx.live.events import USED_EVENTS, LiveHistory, LiveUpdates, event_filter
from pbx.model.call_from_legs import fold_legs
from tests.unit.asterisk.ami.replay import VERSIONS, raw
from tests.unit.live.live_events import LATER, START, Pbx, dial, event

TICK = timedelta(milliseconds=10)


def captured(version: int) -> list[Message]:
    parser = AmiParser()
    parser.feed(b"Asterisk Call Manager/5.0\r\n")
    return parser.feed(raw(version, "events"))


def follow(messages: Iterator[Message] | list[Message]) -> LiveUpdates:
    history = LiveHistory()
    history.legs.trunks = {"carrier", "badcarrier"}
    at = START
    for message in messages:
        at += TICK
        history.take(message, at)
    return history.take_updates(at + LATER)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_lab_did_is_told(version: int) -> None:
    facts = follow(captured(version))
    assert sorted((visit.queue, visit.outcome, visit.talk_s is not None) for visit in facts.visits) == [
        ("sales", "answered", True),
        ("sales", "answered", True),
        ("support", "abandoned", False),
        ("support", "timeout", False),
    ]
    answered = {visit.ended_by: visit for visit in facts.visits if visit.outcome == "answered"}
    assert answered["caller"].agent == "Felix Brandt"
    assert answered["caller"].did == "5550100"
    assert answered["agent"].agent == "Eve Adams"
    assert all(visit.ended_at and visit.wait_s is not None and visit.caller for visit in facts.visits)
    ended = sorted((leg.trunk, leg.disposition) for leg in facts.legs)
    assert ended.count(("carrier", "BUSY")) == ended.count(("carrier", "NO ANSWER")) == 1
    assert ended.count(("carrier", "ANSWERED")) == 2
    busy = next(leg for leg in facts.legs if leg.disposition == "BUSY")
    assert (busy.cause, busy.src, busy.dst, busy.billsec_s) == (17, "1001", "5552001", 0.0)
    internal = next(leg for leg in facts.legs if leg.dst == "1002")
    assert internal.pdd_s is not None
    assert internal.billsec_s is not None
    assert internal.duration_s is not None
    assert 0 < internal.billsec_s < internal.duration_s
    assert [(change.agent, change.kind, change.reason) for change in facts.agent_events] == [
        ("Eve Adams", "pause", "Coffee ☕"),
        ("Eve Adams", "unpause", ""),
    ]
    assert [(ring.queue, ring.ring_s) for ring in facts.rings] == [("support", 3.0)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_event_twice_tells_the_same(version: int) -> None:
    once = follow(captured(version))
    twice = follow([message for one in captured(version) for message in (one, one)])
    assert [visit.outcome for visit in twice.visits] == [visit.outcome for visit in once.visits]
    assert [(leg.channel, leg.dst_channel, leg.disposition) for leg in twice.legs] == [
        (leg.channel, leg.dst_channel, leg.disposition) for leg in once.legs
    ]
    assert len(twice.rings) == len(once.rings)


@pytest.mark.parametrize("version", VERSIONS)
def test_only_events_that_are_used_pass_the_filter(version: int) -> None:
    assert len(event_filter(USED_EVENTS)) < 1000
    assert "TestEvent" not in event_filter(USED_EVENTS)
    used = [message for message in captured(version) if message.event in USED_EVENTS]
    facts, all_of_it = follow(used), follow(captured(version))
    assert len(used) < len(captured(version)) * 0.6
    assert len(facts) == len(all_of_it)


def test_a_visit_is_told_as_it_goes_on() -> None:
    pbx = Pbx()
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
def test_the_queue_s_own_word_tells_how_it_was_left(status: str, outcome: str) -> None:
    pbx = Pbx()
    pbx.join()
    pbx.tell("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=20, Position=1, OriginalPosition=2)
    pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    pbx.tell("VarSet", Uniqueid="1.1", Variable="QUEUESTATUS", Value=status)
    visit = pbx.visit()
    assert (visit.outcome, visit.wait_s, visit.original_position) == (outcome, 20.0, 2)


def test_hanging_up_is_abandoning() -> None:
    pbx = Pbx()
    pbx.join()
    pbx.tell("HangupRequest", Uniqueid="1.1")
    pbx.tell("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=7)
    pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    assert (pbx.visit().outcome, pbx.visit().ended_by, pbx.visit().wait_s) == ("abandoned", "caller", 7.0)


def test_who_hung_up_before_any_telephone_rang_was_not_answered() -> None:
    pbx = Pbx()
    pbx.tell("Newchannel", Channel="PJSIP/carrier-1", Uniqueid="1.1", Linkedid="1.1", ChannelState=4, Exten="0305550")
    pbx.tell("Newstate", Channel="PJSIP/carrier-1", Uniqueid="1.1", ChannelState=6)
    pbx.join()
    pbx.tell("HangupRequest", Uniqueid="1.1")
    pbx.tell("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=7)
    pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    pbx.tell("Hangup", Uniqueid="1.1", Cause=16)
    pbx.facts()
    (leg,) = pbx.legs.values()
    assert (leg.last_app, fold_legs([leg]).disposition) == ("Queue", "NO ANSWER")


def test_who_is_hung_up_on_is_told_from_who_is_sent_on() -> None:
    pbx = Pbx()
    pbx.join()
    pbx.tell("VarSet", Uniqueid="1.1", Variable="ABANDONED", Value="TRUE")
    pbx.tell("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=7)
    pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    pbx.tell("Hangup", Uniqueid="1.1")
    assert pbx.visit().outcome == "abandoned"


def test_without_a_word_on_how_the_visit_was_left_it_stays_unknown() -> None:
    pbx = Pbx()
    pbx.join()
    pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales", step_s=9)
    assert pbx.facts(after=timedelta()).visits[-1].outcome == "in_progress"  # AgentConnect may follow
    assert (pbx.visit().outcome, pbx.visit().wait_s) == ("unknown", 9.0)


def test_a_key_pressed_is_what_is_left_where_the_status_is_heard() -> None:
    pbx = Pbx()
    pbx.history.visits.status_heard = True
    pbx.join()
    pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
    assert pbx.visit().outcome == "exit_key"


@pytest.mark.parametrize("transfer_first", [True, False])
def test_a_transfer_tells_where_to(transfer_first: bool) -> None:
    pbx = Pbx()
    pbx.join()
    pbx.connect()
    told = {"TransfereeUniqueid": "1.1", "Extension": "1044", "Context": "from-internal"}
    if transfer_first:
        pbx.tell("BlindTransfer", **told)
    pbx.complete(reason="transfer")
    if not transfer_first:
        pbx.tell("BlindTransfer", **told)
    assert (pbx.visit().outcome, pbx.visit().target, pbx.visit().talk_s) == ("transferred", "1044@from-internal", 60.0)


def test_the_end_is_told_of_the_right_call_even_without_its_channel() -> None:
    pbx = Pbx()
    pbx.join()
    pbx.connect()
    pbx.tell("Hangup", Uniqueid="1.1", Cause=16)
    pbx.complete(uniqueid="")
    assert (pbx.visit().outcome, pbx.visit().talk_s, pbx.visit().ended_by) == ("answered", 60.0, "agent")


def test_a_call_hung_up_without_agent_complete_was_answered_all_the_same() -> None:
    pbx = Pbx()
    pbx.join()
    pbx.connect()
    pbx.tell("Hangup", Uniqueid="1.1", step_s=30)
    assert (pbx.visit().outcome, pbx.visit().talk_s) == ("answered", 30.0)


def test_who_comes_back_has_two_visits() -> None:
    pbx = Pbx()
    for _ in range(2):
        pbx.join()
        pbx.tell("QueueCallerAbandon", Uniqueid="1.1", Queue="sales", HoldTime=9)
        pbx.tell("QueueCallerLeave", Uniqueid="1.1", Queue="sales")
        pbx.tell("VarSet", Uniqueid="1.1", Variable="QUEUESTATUS", Value="TIMEOUT")
    pbx.facts()
    assert [visit.outcome for visit in pbx.visits.values()] == ["timeout", "timeout"]


def test_a_gap_amid_a_visit_leaves_its_end_unknown() -> None:
    pbx = Pbx()
    pbx.join("1.1")
    pbx.join("1.2")
    pbx.join("1.3")
    pbx.connect("1.3")
    pbx.resume(
        entries=[event("QueueEntry", Uniqueid="1.2", Queue="sales", Wait=60)],
        channels=[event("CoreShowChannel", Uniqueid=name, Channel=f"PJSIP/{name}-1") for name in ("1.2", "1.3")],
    )
    pbx.facts()
    ends = {visit.uniqueid: (visit.outcome, visit.ended_at) for visit in pbx.visits.values()}
    assert ends == {"1.1": ("unknown", None), "1.2": ("in_progress", None), "1.3": ("in_progress", None)}
    pbx.complete("1.3")
    pbx.facts()
    assert [visit.outcome for visit in pbx.visits.values() if visit.uniqueid == "1.3"] == ["answered"]


def test_what_ended_out_of_hearing_is_completed_by_a_later_word() -> None:
    pbx = Pbx()
    pbx.join()
    joined_at = pbx.visit().joined_at
    pbx.resume(channels=[event("CoreShowChannel", Uniqueid="1.1", Channel="PJSIP/a-1")])  # connected in the gap
    assert pbx.visit().outcome == "unknown"
    pbx.complete()
    assert (pbx.visit().outcome, pbx.visit().joined_at, pbx.visit().wait_s) == ("answered", joined_at, 3.0)


def test_who_is_gone_from_two_looks_left_unheard() -> None:
    pbx = Pbx()
    for uniqueid, queue in (("1.1", "sales"), ("1.2", "sales"), ("1.3", "hidden")):
        pbx.join(uniqueid, queue)
    both, one = {("1.1", "sales"), ("1.2", "sales")}, {("1.2", "sales")}
    for there, outcome in ((one, "in_progress"), (both, "in_progress"), (one, "in_progress"), (one, "unknown")):
        pbx.history.visits.close_absent(["sales"], there, pbx.at + LATER)
        pbx.facts()
        ends = {visit.uniqueid: visit.outcome for visit in pbx.visits.values()}
        assert ends == {"1.1": outcome, "1.2": "in_progress", "1.3": "in_progress"}


def test_who_waited_before_is_known_by_the_wait() -> None:
    pbx = Pbx()
    entry = event("QueueEntry", Uniqueid="9.9", Queue="sales", Wait=42, CallerIDNum="5559", Position=1)
    pbx.resume(entries=[entry])
    assert pbx.visit().joined_at == pbx.at - timedelta(seconds=42)
    pbx.join("9.9")  # heard and looked at in the same moment
    assert (len(pbx.visits), pbx.visit().original_position) == (1, 1)


def test_who_talked_before_is_known_by_the_end() -> None:
    pbx = Pbx()
    pbx.complete("8.8")
    visit = pbx.visit()
    assert visit.joined_at == pbx.at - timedelta(seconds=63)
    assert (visit.outcome, visit.wait_s, visit.talk_s) == ("answered", 3.0, 60.0)
    pbx.complete("8.8")
    pbx.facts()
    assert len(pbx.visits) == 1


def test_after_a_restart_nothing_goes_on() -> None:
    pbx = Pbx()
    pbx.join()
    dial(pbx)
    pbx.tell("DialEnd", Uniqueid="2.1", DestUniqueid="2.2", DialStatus="ANSWER")
    dial(pbx, src="3.1", dst="3.2")
    pbx.resume()
    pbx.facts()
    assert pbx.visit().outcome == "unknown"
    assert {leg.disposition: leg.ended_at for leg in pbx.legs.values()} == {"ANSWERED": None, "UNKNOWN": None}
    assert not pbx.history.busy


def test_what_is_stored_as_open_is_taken_up_again() -> None:
    before = Pbx()
    before.join("1.1")
    before.join("1.2")
    dial(before)
    facts = before.facts()
    pbx = Pbx()
    pbx.at = before.at
    shown = [
        event("CoreShowChannel", Uniqueid="2.1", Channel="PJSIP/101-2.1", Duration="00:01:00"),
        event("CoreShowChannel", Uniqueid="2.2", Channel="PJSIP/carrier-2.2", Duration="00:00:50"),
    ]
    pbx.history.add_stored(facts.visits, facts.legs, shown)
    pbx.resume(entries=[event("QueueEntry", Uniqueid="1.2", Queue="sales", Wait=70)], channels=shown)
    pbx.facts()
    assert {visit.uniqueid: visit.outcome for visit in pbx.visits.values()} == {"1.1": "unknown"}
    pbx.tell("DialEnd", Uniqueid="2.1", DestUniqueid="2.2", DialStatus="ANSWER")
    pbx.tell("Hangup", Uniqueid="2.2", Cause=16, step_s=30)
    pbx.facts()
    (leg,) = pbx.legs.values()
    assert (leg.disposition, leg.billsec_s, leg.started_at) == ("ANSWERED", 30.0, facts.legs[0].started_at)


@pytest.mark.parametrize("cause", [70_000, -70_000, "x"])
def test_a_cause_that_is_none_of_q850_is_none(cause: object) -> None:
    """Figures keep causes in few bytes: one that fits none must not end a page."""
    pbx = Pbx()
    dial(pbx)
    pbx.tell("Hangup", Uniqueid="2.2", Cause=cause)
    (leg,) = pbx.facts().legs
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
def test_a_dial_that_failed_tells_how_and_why(status: str, cause: int, disposition: str) -> None:
    pbx = Pbx()
    dial(pbx)
    pbx.tell("DialState", DestUniqueid="2.2", DialStatus="RINGING", step_s=1.5)
    pbx.tell("DialEnd", DestUniqueid="2.2", DialStatus=status, step_s=10)
    pbx.tell("Hangup", Uniqueid="2.2", Cause=cause)
    pbx.tell("Hangup", Uniqueid="2.1", Cause=16)
    pbx.facts()
    (leg,) = pbx.legs.values()
    assert (leg.disposition, leg.cause, leg.trunk) == (disposition, cause or None, "carrier")
    assert (leg.pdd_s, leg.duration_s, leg.billsec_s, leg.answered_at) == (1.5, 12.5, 0.0, None)
    assert leg.started_at == START + timedelta(seconds=1)  # with its channel, a second before the dial


def test_a_channel_that_dialled_nobody_is_a_leg_of_its_own() -> None:
    pbx = Pbx()
    told = {"Channel": "PJSIP/carrier-7", "Uniqueid": "7.7", "Linkedid": "7.7"}
    pbx.tell("Newchannel", **told, Exten="5550102", Context="from-pstn", CallerIDNum="+4930", ChannelState=4)
    pbx.tell("Newstate", **told, ChannelState=6)
    pbx.tell("Hangup", **told, Cause=16, step_s=20)
    pbx.facts()
    (leg,) = pbx.legs.values()
    assert (leg.dst_channel, leg.trunk, leg.did, leg.disposition) == ("", "carrier", "5550102", "ANSWERED")
    assert (leg.duration_s, leg.billsec_s) == (21.0, 20.0)


def test_a_recording_has_ended_when_its_channel_has() -> None:
    pbx = Pbx()
    dial(pbx)
    pbx.tell("MixMonitorStart", Uniqueid="2.1")
    assert not pbx.history.legs.recording_ended
    pbx.tell("Hangup", Uniqueid="2.1", Cause=16)
    assert pbx.history.legs.recording_ended


def test_an_event_s_own_time_is_believed() -> None:
    history = LiveHistory()
    stamped = event("QueueCallerJoin", Uniqueid="1.1", Queue="sales", Timestamp="1772355600.250000")
    history.take(stamped, START + timedelta(days=1))
    (visit,) = history.take_updates(START).visits
    assert visit.joined_at == datetime.fromtimestamp(1772355600.25, UTC)


def test_agents_come_and_go() -> None:
    pbx = Pbx()
    told = {"Queue": "sales", "MemberName": "Eve"}
    pbx.tell("QueueMemberAdded", **told, Paused=1, PausedReason="Training")
    pbx.tell("QueueMemberPause", **told, Paused=0)
    pbx.tell("QueueMemberRemoved", **told)
    changes = pbx.facts().agent_events
    assert [change.kind for change in changes] == ["login", "pause", "unpause", "logout"]
    assert changes[1].reason == "Training"


def test_memory_holds_what_goes_on_only() -> None:
    pbx = Pbx()
    for number in range(300):
        src, dst = f"5.{number}", f"6.{number}"
        dial(pbx, src, dst)
        pbx.join(src)
        pbx.tell("DialEnd", DestUniqueid=dst, DialStatus="NOANSWER")
        pbx.tell("Hangup", Uniqueid=dst)
        pbx.tell("Hangup", Uniqueid=src)
    pbx.facts()
    assert not pbx.history.busy
    assert not pbx.history.legs._dials
    assert len(pbx.visits) == 300
