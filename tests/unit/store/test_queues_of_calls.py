"""A call's queues come from its visits, in whatever order visits, legs and recordings are stored."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from pbx.analytics.call_lists import CallSelection, selected_calls
from pbx.analytics.calls import CallQuestion, call_counts, call_totals
from pbx.analytics.sealing import seal_history
from pbx.asterisk.formats.recording_names import parse_name
from pbx.model.call_from_legs import LegSource
from pbx.model.history import Leg, Visit
from pbx.store.calls import CallFilter, call_queues, count_calls
from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.models import CallRow, PbxConnection, TranscriptionRules
from pbx.store.queues_of_calls import MAX_CHARACTERS, join_queues, split_queues
from pbx.store.recordings import (
    DownloadResult,
    ListedRecording,
    add_recordings,
    known_names,
    open_recordings,
    store_outcomes,
)
from pbx.store.transcription_queue import new_within_rules
from pbx.store.visits import store_visits
from tests.call_counts import assert_all_agree
from tests.unit.live.event_feed import EventFeed

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SINCE, UNTIL = NOON - timedelta(hours=12), NOON + timedelta(hours=12)
CALL = "1772452800.1"
DID = "0305550"
RECORDING = f"q-601-1001-20260302-120000-{CALL}"


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx", timezone="UTC"))


def visit(queue: str, after_s: int, outcome: str = "abandoned", uniqueid: str = CALL) -> Visit:
    joined_at = NOON + timedelta(seconds=after_s)
    answered = outcome in ("answered", "transferred")
    return Visit(
        uniqueid=uniqueid,
        queue=queue,
        joined_at=joined_at,
        connected_at=joined_at + timedelta(seconds=5) if answered else None,
        ended_at=joined_at + timedelta(seconds=15),
        outcome=outcome,  # type: ignore[arg-type]
        wait_s=5.0,
        talk_s=10.0 if answered else None,
        agent="Ada" if answered else "",
    )


def leg(uniqueid: str = CALL, dst: str = DID, **more: object) -> Leg:
    """A leg that is the caller's own channel, for which no telephone rang."""
    defaults: dict[str, object] = {"linkedid": CALL, "disposition": "ANSWERED", "last_app": "Queue", "dst_channel": ""}
    defaults |= {"context": "from-trunk", "trunk": "carrier", "did": DID, "src": "+4930111"}
    caller_leg = Leg(
        **(defaults | {"uniqueid": uniqueid, "channel": f"PJSIP/carrier-{uniqueid}", "dst": dst}),  # type: ignore[arg-type]
        started_at=NOON,
        answered_at=NOON,
        ended_at=NOON + timedelta(seconds=30),
        duration_s=30.0,
        billsec_s=30.0,
    )
    return replace(caller_leg, **more)  # type: ignore[arg-type]


def store(
    engine: Engine, *, visits: list[Visit] | None = None, legs: list[Leg] | None = None, by: LegSource = "cdr"
) -> None:
    with writing(engine) as session:
        if visits:
            store_visits(session, 1, visits, "live" if by == "live" else "queue_log")
        if legs:
            store_legs(session, 1, legs, by)


def abandon_and_store(engine: Engine, pbx: EventFeed, uniqueid: str) -> None:
    """A caller joins queue 601 and hangs up there; stores what the PBX reported."""
    pbx.join(uniqueid, "601")
    pbx.send("HangupRequest", Uniqueid=uniqueid)
    pbx.send("QueueCallerAbandon", Uniqueid=uniqueid, Queue="601", HoldTime=7)
    pbx.send("QueueCallerLeave", Uniqueid=uniqueid, Queue="601")
    pbx.send("Hangup", Uniqueid=uniqueid, Cause=16)
    updates = pbx.updates()
    store(engine, visits=list(updates.visits), legs=list(updates.legs), by="live")


def the_call(engine: Engine) -> CallRow:
    with reading(engine) as session:
        return session.exec(select(CallRow)).one()


def test_a_caller_for_whom_no_telephone_rang_is_in_the_queue_and_not_in_the_dialled_number(engine: Engine) -> None:
    pbx = EventFeed()
    channel = {"Channel": "PJSIP/carrier-1", "Uniqueid": CALL, "Linkedid": CALL}
    pbx.send("Newchannel", **channel, ChannelState=4, Exten=DID, Context="from-trunk", CallerIDNum="+4930111")
    pbx.send("Newstate", **channel, ChannelState=6)
    abandon_and_store(engine, pbx, CALL)
    call = the_call(engine)
    assert (call.queue, call.answered_in, call.did, call.to_number) == ("601", "", DID, "601")
    with reading(engine) as session:
        assert call_queues(session, 1) == ["601"]
        totals = call_totals(session, CallQuestion(1, call.started_at or NOON, UNTIL, queue="601"))
    assert (totals.calls, totals.decided, totals.answered) == (1, 1, 0)


def test_a_callee_transferred_to_a_queue_is_in_it_with_their_own_channel(engine: Engine) -> None:
    """A calls B; B is sent to a queue and hangs up there before any telephone rings."""
    pbx, other = EventFeed(), "1772452801.2"
    for uniqueid, state in ((CALL, 4), (other, 0)):
        names = {"Channel": f"PJSIP/{uniqueid}", "Uniqueid": uniqueid, "Linkedid": CALL}
        pbx.send("Newchannel", **names, ChannelState=state, Exten="1002")
    pbx.send("DialBegin", Channel="PJSIP/a", Uniqueid=CALL, Linkedid=CALL, DestUniqueid=other, DestChannel="PJSIP/b")
    pbx.send("DialEnd", Uniqueid=CALL, Linkedid=CALL, DestUniqueid=other, DestChannel="PJSIP/b", DialStatus="ANSWER")
    pbx.send("Hangup", Uniqueid=CALL, Cause=16)
    abandon_and_store(engine, pbx, other)
    assert the_call(engine).queue == "601"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_call_has_its_visits_queues_in_every_order_of_storing(engine: Engine, order: tuple[int, ...]) -> None:
    steps: list[Callable[[Session], object]] = [
        lambda session: store_visits(session, 1, [visit("602", 20, "answered", "1.2"), visit("601", 0)], "queue_log"),
        lambda session: store_legs(session, 1, [leg(dst="600"), leg("1.2", dst="600")], "cdr"),
        lambda session: add_recordings(session, 1, [ListedRecording(RECORDING, "wav", parse_name(RECORDING))]),
    ]
    for step in order:
        with writing(engine) as session:
            steps[step](session)
    call = the_call(engine)
    assert (split_queues(call.queue), call.answered_in) == (("601", "602"), "602")


def test_the_cdrs_queue_counts_until_a_visit_is_stored(engine: Engine) -> None:
    store(engine, legs=[leg(dst="600", dst_channel="PJSIP/1001-1")])
    assert (the_call(engine).queue, the_call(engine).answered_in) == ("600", "600")
    store(engine, visits=[visit("601", 1)])
    assert (the_call(engine).queue, the_call(engine).answered_in) == ("601", "")


def test_a_call_counts_in_each_of_its_queues_and_as_answered_where_it_was_answered(engine: Engine) -> None:
    """One call overflows from 601 to 602, one returns to 601 and is answered, and one hangs up in 601."""
    calls = {name: f"{1772452800 + n}.1" for n, name in enumerate(("overflow", "back", "gone"))}
    visits = [
        visit("601", 0, "timeout", calls["overflow"]),
        visit("602", 20, "answered", calls["overflow"]),
        visit("601", 0, "exit_key", calls["back"]),
        visit("601", 20, "answered", calls["back"]),
        visit("601", 0, "abandoned", calls["gone"]),
    ]
    store(engine, visits=visits)
    legs = [leg(one, dst="601", linkedid=one) for one in calls.values()]
    legs += [replace(one, dst_channel="PJSIP/Ada-1") for one in legs[:2]]
    store(engine, legs=legs)
    for sealed in (False, True):
        if sealed:
            seal_history(engine, 1)
        with reading(engine) as session:
            totals = assert_all_agree(session, 1, SINCE, UNTIL, UTC)
            assert totals == {"601": (4, 1, 3, 1), "602": (1, 1, 1, 1)}  # visits, answered; calls, answered
            by_queue = call_counts(session, CallQuestion(1, SINCE, UNTIL), UTC, "queue")
            assert [(one.label, one.calls, one.decided, one.answered) for one in by_queue] == [
                ("601", 3, 3, 1),
                ("602", 1, 1, 1),
            ]
            no_answer = CallSelection(disposition="NO ANSWER")
            _, unanswered = selected_calls(
                session, CallQuestion(1, SINCE, UNTIL, queue="601"), no_answer, UTC, offset=0, limit=9
            )
            assert {call.linkedid for call in unanswered} == {calls["overflow"], calls["gone"]}


def test_rules_and_filters_of_a_queue_match_calls_that_were_in_other_queues_too(engine: Engine) -> None:
    store(engine, visits=[visit("601", 0, "timeout"), visit("602", 20, "answered")], legs=[leg()])
    with writing(engine) as session:
        add_recordings(session, 1, [ListedRecording(RECORDING, "wav", parse_name(RECORDING))])
        (one,) = open_recordings(session, 1)
        store_outcomes(session, [DownloadResult(one.id, "downloaded", file="x.wav", duration_s=5.0)])
        assert list(known_names(session, 1)) == [RECORDING]
    with reading(engine) as session:
        for queues, expected in ((["602"], 1), (["601", "9"], 1), (["60"], 0), (["601, 602"], 1)):
            assert len(new_within_rules(session, TranscriptionRules(connection_id=1, queues=queues))) == expected, (
                queues
            )
        for queue, expected in (("601", 1), ("602", 1), ("60", 0), ("", 0)):
            assert count_calls(session, CallFilter(1, queue=queue)) == expected, queue


def test_queues_beyond_the_column_length_are_left_out_and_no_name_is_cut() -> None:
    names = [f"queue-{n:03}" for n in range(100)]
    kept = split_queues(join_queues(names))
    assert list(kept) == names[: len(kept)]
    assert 40 < len(kept) < 100
    assert len(join_queues(["x" * 2000])) == MAX_CHARACTERS
