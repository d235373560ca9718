"""A call's queues are those of its visits, whichever is stored first: visits, legs or recordings."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from pbx.analytics.call_lists import CallSelection, selected_calls
from pbx.analytics.calls import CallQuestion, call_counts, call_totals
from pbx.analytics.packed_days import pack_days
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
    """A caller's own channel, which no telephone rang for."""
    facts: dict[str, object] = {"linkedid": CALL, "disposition": "ANSWERED", "last_app": "Queue", "dst_channel": ""}
    facts |= {"context": "from-trunk", "trunk": "carrier", "did": DID, "src": "+4930111"}
    found = Leg(
        **(facts | {"uniqueid": uniqueid, "channel": f"PJSIP/carrier-{uniqueid}", "dst": dst}),  # type: ignore[arg-type]
        started_at=NOON,
        answered_at=NOON,
        ended_at=NOON + timedelta(seconds=30),
        duration_s=30.0,
        billsec_s=30.0,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def store(
    engine: Engine, *, visits: list[Visit] | None = None, legs: list[Leg] | None = None, by: LegSource = "cdr"
) -> None:
    with writing(engine) as session:
        if visits:
            store_visits(session, 1, visits, "live" if by == "live" else "queue_log")
        if legs:
            store_legs(session, 1, legs, by)


def abandon_and_store(engine: Engine, pbx: EventFeed, uniqueid: str) -> None:
    """A caller joins queue 601 and hangs up there; what the PBX reported is stored."""
    pbx.join(uniqueid, "601")
    pbx.send("HangupRequest", Uniqueid=uniqueid)
    pbx.send("QueueCallerAbandon", Uniqueid=uniqueid, Queue="601", HoldTime=7)
    pbx.send("QueueCallerLeave", Uniqueid=uniqueid, Queue="601")
    pbx.send("Hangup", Uniqueid=uniqueid, Cause=16)
    facts = pbx.updates()
    store(engine, visits=list(facts.visits), legs=list(facts.legs), by="live")


def the_call(engine: Engine) -> CallRow:
    with reading(engine) as session:
        return session.exec(select(CallRow)).one()


def test_who_no_telephone_rang_for_was_in_the_queue_and_not_in_the_number_dialled(engine: Engine) -> None:
    pbx = EventFeed()
    channel = {"Channel": "PJSIP/carrier-1", "Uniqueid": CALL, "Linkedid": CALL}
    pbx.send("Newchannel", **channel, ChannelState=4, Exten=DID, Context="from-trunk", CallerIDNum="+4930111")
    pbx.send("Newstate", **channel, ChannelState=6)
    abandon_and_store(engine, pbx, CALL)
    call = the_call(engine)
    assert (call.queue, call.answered_in, call.did, call.to_number) == ("601", "", DID, "601")
    with reading(engine) as session:
        assert call_queues(session, 1) == ["601"]
        found = call_totals(session, CallQuestion(1, call.started_at or NOON, UNTIL, queue="601"))
    assert (found.calls, found.decided, found.answered) == (1, 1, 0)


def test_who_was_passed_on_to_a_queue_is_in_it_with_their_own_channel(engine: Engine) -> None:
    """B, whom A called, is sent to a queue and hangs up there before anybody's telephone rings."""
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
def test_in_whichever_order_they_come_a_call_s_queues_are_its_visits(engine: Engine, order: tuple[int, ...]) -> None:
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


def test_where_no_visit_is_known_the_cdr_s_queue_counts_until_one_is(engine: Engine) -> None:
    store(engine, legs=[leg(dst="600", dst_channel="PJSIP/1001-1")])
    assert (the_call(engine).queue, the_call(engine).answered_in) == ("600", "600")
    store(engine, visits=[visit("601", 1)])
    assert (the_call(engine).queue, the_call(engine).answered_in) == ("601", "")


def test_a_call_counts_in_each_queue_it_was_in_and_as_answered_where_it_was(engine: Engine) -> None:
    """One overflows from 601 to 602; one comes back to 601 and is answered; one, straight to 601, hangs up."""
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
    for packed in (False, True):
        if packed:
            with writing(engine) as session:
                pack_days(session, 1)
        with reading(engine) as session:
            found = assert_all_agree(session, 1, SINCE, UNTIL, UTC)
            assert found == {"601": (4, 1, 3, 1), "602": (1, 1, 1, 1)}  # visits, answered; calls, answered
            by_queue = call_counts(session, CallQuestion(1, SINCE, UNTIL), UTC, "queue")
            assert [(one.label, one.calls, one.decided, one.answered) for one in by_queue] == [
                ("601", 3, 3, 1),
                ("602", 1, 1, 1),
            ]
            gone = CallSelection(disposition="NO ANSWER")
            _, unanswered = selected_calls(
                session, CallQuestion(1, SINCE, UNTIL, queue="601"), gone, UTC, offset=0, limit=9
            )
            assert {call.linkedid for call in unanswered} == {calls["overflow"], calls["gone"]}


def test_rules_of_a_queue_take_calls_that_were_in_another_too(engine: Engine) -> None:
    store(engine, visits=[visit("601", 0, "timeout"), visit("602", 20, "answered")], legs=[leg()])
    with writing(engine) as session:
        add_recordings(session, 1, [ListedRecording(RECORDING, "wav", parse_name(RECORDING))])
        (one,) = open_recordings(session, 1)
        store_outcomes(session, [DownloadResult(one.id, "downloaded", file="x.wav", duration_s=5.0)])
        assert list(known_names(session, 1)) == [RECORDING]
    with reading(engine) as session:
        for queues, wanted in ((["602"], 1), (["601", "9"], 1), (["60"], 0), (["601, 602"], 1)):
            assert len(new_within_rules(session, TranscriptionRules(connection_id=1, queues=queues))) == wanted, queues
        for queue, wanted in (("601", 1), ("602", 1), ("60", 0), ("", 0)):
            assert count_calls(session, CallFilter(1, queue=queue)) == wanted, queue


def test_more_queues_than_a_call_has_room_for_are_left_out_whole() -> None:
    names = [f"queue-{n:03}" for n in range(100)]
    kept = split_queues(join_queues(names))
    assert list(kept) == names[: len(kept)]
    assert 40 < len(kept) < 100
    assert len(join_queues(["x" * 2000])) == MAX_CHARACTERS
