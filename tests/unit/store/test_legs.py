"""Each leg is stored once and becomes part of a call, with the call's recordings, notes and tags."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, event
from sqlmodel import Session, select

from pbx.asterisk.formats.recording_names import RecordingName, parse_name
from pbx.store.engine import reading, writing
from pbx.store.legs import known_trunks, legs_of, store_legs
from pbx.store.models import CallNote, CallRow, LegRow, PbxConnection, RecordingRow, SampledSubject
from pbx.store.notes import get_note, save_note, save_rating, set_tags, tags_of
from pbx.store.recordings import DownloadResult, ListedRecording, add_recordings, store_outcomes
from pbx.transcription.search.hits import SearchFilter, calls_with_hits
from tests.unit.sample_legs import ANSWERED, NOON
from tests.unit.transcription.search.transcribed_calls import add_transcript

EPOCH = int(NOON.timestamp())
CALL, LATER = f"{EPOCH}.1", f"{EPOCH}.2"  # uniqueids of a call's first leg (also its linkedid) and of a later one
FILE = f"q-600-+49301234-20260302-120000-{LATER}"  # FreePBX's name for the recording that the later leg made
LOCAL = "Local/1001@from-queue-00000001"  # the channel whose two halves join the call's legs
FIRST_LEG = replace(
    ANSWERED,
    linkedid=CALL,
    uniqueid=CALL,
    channel="PJSIP/carrier-00000001",
    dst_channel=f"{LOCAL};1",
    src="+49301234",
    dst="600",
    context="ext-queues",
    from_name="Zoë",
    duration_s=72.0,
    answered_at=NOON + timedelta(seconds=12),
    ended_at=NOON + timedelta(seconds=72),
)
LATER_LEG = replace(
    FIRST_LEG,
    uniqueid=LATER,
    channel=f"{LOCAL};2",
    dst_channel="PJSIP/1001-00000002",
    trunk="",
    last_app="Dial",
    sequence=2,
    from_name="",
)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with writing(engine) as session:
        session.add_all([PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other")])
        session.flush()
        yield session


def calls(session: Session, connection_id: int = 1) -> list[CallRow]:
    session.expire_all()
    return list(
        session.exec(select(CallRow).where(CallRow.connection_id == connection_id).order_by(CallRow.linkedid)).all()
    )


def the_call(session: Session) -> CallRow:
    (call,) = calls(session)
    return call


def id_of(call: CallRow) -> int:
    assert call.id is not None
    return call.id


def add_recording(session: Session, name: str = FILE) -> None:
    add_recordings(session, 1, [ListedRecording(f"2026/03/02/{name}", "wav", parse_name(name))])


def test_legs_with_one_linkedid_become_a_call(session: Session) -> None:
    assert store_legs(session, 1, [LATER_LEG, FIRST_LEG], "cdr").legs == 2
    call = the_call(session)
    assert (call.linkedid, call.direction, call.state) == (CALL, "inbound", "none")
    assert (call.from_number, call.from_name, call.to_number, call.did) == ("+49301234", "Zoë", "600", "5550100")
    assert (call.queue, call.agent, call.disposition) == ("600", "1001", "ANSWERED")
    assert (call.started_at, call.duration_s, call.wait_s, call.talk_s) == (NOON, 72, 12, 60)
    first, second = legs_of(session, id_of(call))
    assert (first.channel, first.trunk, first.source, first.answered_at) == (
        FIRST_LEG.channel,
        "carrier",
        "cdr",
        FIRST_LEG.answered_at,
    )
    assert (second.uniqueid, second.linkedid, second.sequence) == (LATER, CALL, 2)


def test_storing_the_same_legs_again_changes_nothing(session: Session) -> None:
    store_legs(session, 1, [FIRST_LEG, LATER_LEG], "cdr")
    before = the_call(session).model_dump(), [leg.model_dump() for leg in session.exec(select(LegRow)).all()]
    assert store_legs(session, 1, [LATER_LEG, FIRST_LEG, FIRST_LEG], "cdr").legs == 0
    after = the_call(session).model_dump(), [leg.model_dump() for leg in session.exec(select(LegRow)).all()]
    assert after == before


def test_legs_of_one_call_may_be_stored_one_after_the_other(session: Session) -> None:
    store_legs(session, 1, [LATER_LEG], "cdr")
    assert the_call(session).direction == "inbound"  # because of its DID
    earlier = NOON - timedelta(seconds=3)
    assert store_legs(session, 1, [replace(FIRST_LEG, started_at=earlier)], "cdr").legs == 1
    assert (the_call(session).wait_s, len(legs_of(session, id_of(the_call(session))))) == (15, 2)


def test_a_leg_from_live_events_and_from_the_cdr_is_stored_once(session: Session) -> None:
    live = replace(FIRST_LEG, sequence=None, billsec_s=59.0, cause=16, pdd_s=1.25, from_name="")
    row = replace(FIRST_LEG, src="+49305678")
    assert store_legs(session, 1, [live], "live").legs == 1
    assert store_legs(session, 1, [row], "cdr").legs == 0
    assert store_legs(session, 1, [live], "live").legs == 0
    (leg,) = legs_of(session, id_of(the_call(session)))
    assert (leg.source, leg.billsec_s, leg.src) == ("cdr", 60, "+49305678")
    assert (leg.cause, leg.pdd_s, leg.sequence) == (16, 1.25, 1)
    assert (the_call(session).from_number, the_call(session).from_name) == ("+49305678", "Zoë")


def test_a_live_call_is_updated_when_it_ends(session: Session) -> None:
    running = replace(
        FIRST_LEG, sequence=None, answered_at=None, ended_at=None, duration_s=None, billsec_s=None, disposition=""
    )
    store_legs(session, 1, [running], "live")
    assert (the_call(session).disposition, the_call(session).duration_s) == ("", None)
    store_legs(session, 1, [replace(FIRST_LEG, sequence=None)], "live")
    assert (the_call(session).disposition, the_call(session).duration_s) == ("ANSWERED", 72)


def test_calls_of_two_pbxes_with_the_same_linkedid_are_two_calls(session: Session) -> None:
    store_legs(session, 1, [FIRST_LEG], "cdr")
    assert store_legs(session, 2, [FIRST_LEG], "cdr").legs == 1
    assert [len(calls(session, connection_id)) for connection_id in (1, 2)] == [1, 1]


def test_a_leg_moves_to_the_call_of_its_linkedid(session: Session) -> None:
    """Master.csv has no linkedid; the CDR database has."""
    without_linkedid = replace(LATER_LEG, linkedid=LATER)
    store_legs(session, 1, [FIRST_LEG, without_linkedid], "cdr")
    assert len(calls(session)) == 2
    assert store_legs(session, 1, [LATER_LEG], "cdr").legs == 0
    assert [leg.linkedid for leg in legs_of(session, id_of(the_call(session)))] == [CALL, CALL]
    assert store_legs(session, 1, [without_linkedid], "cdr").legs == 0  # and it stays in that call
    assert len(legs_of(session, id_of(the_call(session)))) == 2


def test_the_notes_of_a_call_move_with_its_only_leg(session: Session) -> None:
    without_linkedid = replace(LATER_LEG, linkedid=LATER)
    store_legs(session, 1, [without_linkedid], "cdr")
    save_note(session, id_of(the_call(session)), "call back")
    save_rating(session, id_of(the_call(session)), 4)
    store_legs(session, 1, [LATER_LEG], "cdr")
    call = the_call(session)
    assert call.linkedid == CALL
    note = get_note(session, id_of(call))
    assert note is not None
    assert (note.note, note.rating) == ("call back", 4)


@pytest.mark.parametrize("recorded_first", [True, False])
def test_a_recording_joins_the_call_of_its_leg(session: Session, recorded_first: bool) -> None:
    if recorded_first:
        add_recording(session)
        assert the_call(session).linkedid == LATER  # the only uniqueid known so far
    store_legs(session, 1, [FIRST_LEG, LATER_LEG], "cdr")
    if not recorded_first:
        add_recording(session)
    call = the_call(session)
    assert (call.linkedid, call.state, call.queue, call.agent) == (CALL, "listed", "600", "1001")
    recording = session.exec(select(RecordingRow)).one()
    assert recording.call_id == call.id
    store_outcomes(session, [DownloadResult(recording.id or 0, "downloaded", duration_s=58.5)])
    store_legs(session, 1, [FIRST_LEG, LATER_LEG], "cdr")
    assert (the_call(session).duration_s, the_call(session).state) == (58.5, "downloaded")


def test_merging_two_calls_keeps_recordings_notes_ratings_and_tags(session: Session) -> None:
    add_recording(session)
    stray = id_of(the_call(session))
    recording = session.exec(select(RecordingRow)).one()
    store_outcomes(session, [DownloadResult(recording.id or 0, "downloaded", duration_s=58.5)])
    add_transcript(session, recording.id or 0, ["about the invoice", "yes"])
    save_note(session, stray, "caller was angry")
    save_rating(session, stray, 2)
    set_tags(session, stray, ["billing", "angry"])
    store_legs(session, 1, [FIRST_LEG], "cdr")
    kept = next(id_of(call) for call in calls(session) if call.linkedid == CALL)
    save_note(session, kept, "VIP")
    set_tags(session, kept, ["billing", "vip"])
    store_legs(session, 1, [LATER_LEG], "cdr")
    call = the_call(session)
    assert (call.id, call.state, call.duration_s, call.transcription) == (kept, "downloaded", 58.5, "new")
    note = session.exec(select(CallNote)).one()
    assert (note.call_id, note.note, note.rating) == (kept, "VIP\n\ncaller was angry", 2)
    assert tags_of(session, kept) == ["angry", "billing", "vip"]
    assert calls_with_hits(session, SearchFilter(1, "invoice"), limit=5) == [kept]


def test_a_recording_joins_the_call_whose_leg_names_its_file(session: Session) -> None:
    """Files may be named after a channel that no leg has, or not in FreePBX's pattern."""
    add_recording(session, f"out-5551001-1001-20260302-120000-{EPOCH}.99")
    add_recording(session, "meeting")
    first = replace(FIRST_LEG, recording_file=f"out-5551001-1001-20260302-120000-{EPOCH}.99.wav")
    store_legs(session, 1, [first, replace(LATER_LEG, recording_file="meeting.wav")], "cdr")
    call = the_call(session)
    assert call.linkedid == CALL
    assert {recording.call_id for recording in session.exec(select(RecordingRow)).all()} == {call.id}


@pytest.mark.parametrize("first", ["recording", "legs"])
@pytest.mark.parametrize("name", [f"20260302-120000-{LATER}", f"OUT-5551001-1001-20260302-120000-{LATER}", LATER])
def test_a_recording_with_another_name_pattern_joins_its_call_by_the_uniqueid(
    session: Session, name: str, first: str
) -> None:
    if first == "recording":
        add_recording(session, name)
    store_legs(session, 1, [FIRST_LEG, LATER_LEG], "cdr")
    if first == "legs":
        add_recording(session, name)
    assert session.exec(select(RecordingRow)).one().call_id == the_call(session).id


@pytest.mark.parametrize("name", [f"20260302-120000-{LATER}", f"q600-20260302-120000-{LATER}", LATER])
def test_a_recording_whose_name_was_not_parsed_joins_its_call(session: Session, name: str) -> None:
    add_recordings(session, 1, [ListedRecording(name, "wav", RecordingName())])
    store_legs(session, 1, [FIRST_LEG, replace(LATER_LEG, recording_file=f"{name}.wav")], "cdr")
    assert session.exec(select(RecordingRow)).one().call_id == the_call(session).id


def test_a_call_with_legs_of_its_own_is_not_merged(session: Session) -> None:
    """Another call has legs whose linkedid is that uniqueid: it stays a separate call."""
    other = replace(FIRST_LEG, linkedid=LATER, uniqueid=LATER, channel="PJSIP/1003-00000007", dst_channel="")
    store_legs(session, 1, [other], "cdr")
    store_legs(session, 1, [FIRST_LEG, LATER_LEG], "cdr")
    assert [call.linkedid for call in calls(session)] == [CALL, LATER]


def test_storing_thousands_of_legs_takes_few_statements(engine: Engine, session: Session) -> None:
    legs = [
        replace(
            leg,
            linkedid=f"{EPOCH}.{number * 10}",
            uniqueid=f"{EPOCH}.{number * 10 + at}",
            channel=f"PJSIP/a-{number * 2 + at:08x}",
        )
        for number in range(2500)
        for at, leg in enumerate((FIRST_LEG, LATER_LEG))
    ]
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert store_legs(session, 1, legs, "cdr").legs == 5000
    insert_statements = len(statements)
    assert insert_statements < 200
    assert store_legs(session, 1, legs, "cdr").legs == 0
    assert len(statements) - insert_statements < 30
    assert (len(calls(session)), len(session.exec(select(LegRow.id)).all())) == (2500, 5000)


def test_known_trunks_are_those_with_samples(engine: Engine, session: Session) -> None:
    session.add_all(
        SampledSubject(connection_id=connection_id, kind=kind, name=name)
        for connection_id, kind, name in ((1, "trunk", "carrier"), (2, "trunk", "else"), (1, "extension", "1001"))
    )
    session.flush()
    assert known_trunks(session, 1) == {"carrier"}
    session.commit()
    with reading(engine) as reader:
        assert known_trunks(reader, 2) == {"else"}
