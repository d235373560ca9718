"""Recordings are queued for transcription, claimed, ended and cancelled; each call shows their most important state."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.calls import CallFilter, find_calls
from pbx.store.engine import writing
from pbx.store.models import CallRow, PbxConnection, RecordingRow, Transcript, Transcription, TranscriptionRules
from pbx.store.transcription_queue import cancel, overview, queue_calls, queue_recordings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME = "transcriber-0"


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Six recordings, numbered by time: 1 and 2 belong to one call, 5 is not downloaded, 6 belongs to another PBX."""
    calls = {1: 1, 2: 1, 3: 3, 4: 4, 5: 5, 6: 6}
    with writing(engine) as session:
        session.add_all([PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other")])
        session.flush()
        for number, call in calls.items():
            pbx, at = (2 if number == 6 else 1), NOON + timedelta(minutes=number)
            if number != 2:
                queue, direction = ("sales" if number == 3 else ""), ("outbound" if number == 4 else "inbound")
                session.add(
                    CallRow(
                        id=call, connection_id=pbx, linkedid=f"{call}", started_at=at, queue=queue, direction=direction
                    )
                )
                session.flush()
            session.add(
                RecordingRow(
                    id=number,
                    connection_id=pbx,
                    call_id=call,
                    name=f"r{number}",
                    file=f"{number}.wav",
                    state="listed" if number == 5 else "downloaded",
                    started_at=at,
                    duration_s=number * 10.0,
                )
            )
    with writing(engine) as session:
        yield session


def states(session: Session) -> dict[int, str]:
    session.expire_all()
    return {row.recording_id: row.state for row in session.exec(select(Transcription)).all()}


def call_states(session: Session) -> dict[int | None, str]:
    session.expire_all()
    return {call.id: call.transcription for call in session.exec(select(CallRow)).all() if call.transcription != "new"}


def claim(session: Session, limit: int = 9, **options: object) -> list[int]:
    return [item.recording_id for item in claims.claim_recordings(session, 1, ME, "", limit, **options)]  # type: ignore[arg-type]


def test_a_downloaded_recording_is_queued_once(session: Session) -> None:
    assert queue_recordings(session, 1, [1, 3, 5, 6, 99], requested_by="page") == 2
    assert queue_recordings(session, 1, [1, 3], requested_by="page") == 0
    assert states(session) == {1: "queued", 3: "queued"}
    assert call_states(session) == {1: "queued", 3: "queued"}


def test_recordings_that_a_person_queued_come_first_then_the_newest(session: Session) -> None:
    assert transcriptions.queue_new(session, 1, [1, 2, 3, 4]) == 4
    queue_recordings(session, 1, [2, 1], requested_by="page")
    assert [row.recording_id for row, _ in transcriptions.next_transcriptions(session, 1, 9)] == [2, 1, 4, 3]
    assert [claim(session, 3), claim(session, 3), claim(session, 3)] == [[2, 1, 4], [3], []]


def test_a_claim_contains_recordings_for_one_model_only(session: Session) -> None:
    queue_recordings(session, 1, [1, 4], requested_by="page")
    queue_recordings(session, 1, [3], requested_by="page", model="small")
    assert claims.next_model(session, 1) == ""
    assert claim(session) == [4, 1]
    assert claims.next_model(session, 1) == "small"
    assert claims.next_model(session, 1, among=[1, 4]) is None


def test_a_filter_queues_the_recordings_of_its_calls(session: Session) -> None:
    assert queue_calls(session, CallFilter(1, queue="sales"), requested_by="page") == 1
    assert queue_calls(session, CallFilter(1, direction="inbound"), requested_by="page", only="failed") == 0
    assert queue_calls(session, CallFilter(1, direction="inbound"), requested_by="page") == 2
    assert states(session) == {1: "queued", 2: "queued", 3: "queued"}
    claim(session)
    claims.fail(session, ME, 3, "It holds a header and no sound.")
    claims.complete(session, ME, 1, 10.0)
    failed = CallFilter(1, transcription="failed")
    assert [call.id for call in find_calls(session, failed, offset=0, limit=9)] == [3]
    assert queue_calls(session, CallFilter(1), requested_by="page", only="failed") == 1
    assert queue_calls(session, CallFilter(1), requested_by="page", only="all") == 2  # 1 again, and 4
    assert states(session) == {1: "queued", 2: "transcribing", 3: "queued", 4: "queued"}
    assert call_states(session) == {1: "transcribing", 3: "queued", 4: "queued"}


def test_a_call_shows_the_most_important_state_of_its_recordings(session: Session) -> None:
    queue_recordings(session, 1, [1, 2], requested_by="page")
    assert claim(session, 1) == [2]
    shown_states = [call_states(session)[1]]
    claims.fail(session, ME, 2, "broken")
    shown_states.append(call_states(session)[1])
    claim(session)
    claims.complete(session, ME, 1, 10.0)
    shown_states.append(call_states(session)[1])
    queue_recordings(session, 1, [2], requested_by="page")
    claim(session)
    claims.complete(session, ME, 2, 20.0)
    shown_states.append(call_states(session)[1])
    assert shown_states == ["transcribing", "queued", "failed", "completed"]


def test_the_rules_select_what_is_queued_automatically(session: Session) -> None:
    def selected(**rules: object) -> list[int]:
        return transcriptions.new_within_rules(session, TranscriptionRules(connection_id=1, **rules))

    assert selected() == [4, 3, 2, 1]
    assert selected(min_duration_s=20.0, max_duration_s=30.0) == [3, 2]
    assert selected(queues=["sales", "support"]) == [3]
    assert selected(directions=["outbound"]) == [4]
    transcriptions.queue_new(session, 1, [4, 3])
    cancel(session, 1, [4])
    assert selected() == [2, 1]  # a cancelled recording is not queued automatically again
    assert transcriptions.queue_new(session, 1, [4, 2]) == 1


def test_a_call_with_a_recording_per_side_is_not_transcribed_twice(session: Session) -> None:
    session.get_one(RecordingRow, 3).call_id = 1
    for number, name in ((1, "one-r"), (2, "one-out"), (3, "one"), (4, "four-t")):  # call 4 has no other side
        session.get_one(RecordingRow, number).name = name
    session.flush()
    assert transcriptions.new_within_rules(session, TranscriptionRules(connection_id=1)) == [4, 2, 1]


def test_saving_rules_keeps_the_pause_and_the_blocked_reason(session: Session) -> None:
    assert transcriptions.rules_of(session, 1).automatic
    transcriptions.set_paused(session, 1, True)
    transcriptions.set_blocked_reason(session, 1, "No model.", NOON)
    transcriptions.save_rules(session, TranscriptionRules(connection_id=1, automatic=False, queues=["sales"]))
    session.expire_all()
    saved = transcriptions.rules_of(session, 1)
    assert (saved.automatic, saved.queues, saved.paused, saved.blocked_reason, saved.retry_at) == (
        False,
        ["sales"],
        True,
        "No model.",
        NOON,
    )


def test_a_cancelled_recording_returns_to_its_earlier_state(session: Session) -> None:
    session.add(Transcript(recording_id=3, engine="whisper", model="base", complete=True, current=True))
    session.add(Transcript(recording_id=4, engine="whisper", model="base"))
    session.flush()
    queue_recordings(session, 1, [1, 3, 4], requested_by="page")
    assert claim(session, 1) == [4]
    assert cancel(session, 1, [2]) == 0
    assert cancel(session, 1, None) == 3
    assert states(session) == {1: "new", 3: "completed", 4: "new"}
    assert call_states(session) == {3: "completed"}
    assert claims.claimed_ids(session, ME) == set()
    assert overview(session, 1).new == 3


def test_a_worker_that_lost_its_claim_writes_nothing(session: Session) -> None:
    queue_recordings(session, 1, [1], requested_by="page")
    claim(session)
    cancel(session, 1, [1])
    queue_recordings(session, 1, [1], requested_by="page")
    claims.claim_recordings(session, 1, "transcriber-1", "", 1)
    assert not claims.report_transcribed(session, ME, 1, 5.0, 1.0)
    assert not claims.fail(session, ME, 1, "broken")
    assert not claims.complete(session, ME, 1, 10.0)
    row = transcriptions.state_of(session, 1)
    assert row is not None
    assert (row.state, row.worker, row.done_s) == ("transcribing", "transcriber-1", 0.0)


def test_a_recording_that_kills_its_worker_is_retried_alone_up_to_three_times(session: Session) -> None:
    queue_recordings(session, 1, [1, 3, 4], requested_by="page")
    assert claim(session) == [4, 3, 1]
    assert sorted(claims.requeue_transcription(session, ME, died=True)) == [(1, "queued"), (3, "queued"), (4, "queued")]
    assert claim(session) == [4]
    claims.requeue_transcription(session, ME, died=True)
    assert claim(session) == [4]
    assert claims.requeue_transcription(session, ME, died=True) == [(4, "failed")]
    assert claim(session) == [3]
    row = transcriptions.state_of(session, 4)
    assert row is not None
    assert "stopped 3 times" in row.error
    assert "smaller model" in row.error
    assert queue_recordings(session, 1, [4], requested_by="page") == 1
    session.expire_all()
    assert (row.attempts, row.error) == (0, "")


def test_an_orderly_stop_counts_no_attempt(session: Session) -> None:
    queue_recordings(session, 1, [1], requested_by="page")
    for _ in range(5):
        assert claim(session) == [1]
        assert claims.requeue_transcription(session, ME, died=False) == [(1, "queued")]


def test_the_overview_shows_progress_and_remaining_time(session: Session) -> None:
    assert overview(session, 1) == transcriptions.SpeechOverview(new=4)
    queue_recordings(session, 1, [1, 3, 4], requested_by="page")
    assert claim(session, 2) == [4, 3]
    claims.report_transcribed(session, ME, 4, 25.0, 3.0)
    claims.report_transcribed(session, ME, 4, 40.0, 2.0)
    claims.complete(session, ME, 4, 40.0)
    claims.report_transcribed(session, ME, 3, 16.0, 2.0)
    found = overview(session, 1)
    assert (found.new, found.queued, found.transcribing, found.completed, found.failed) == (1, 1, 1, 1, 0)
    assert (found.done_s, found.total_s, found.speed, found.left_s) == (16.0, 40.0, 8.0, 3.0)
    assert (found.ended, found.ended_s) == (1, 40.0)
    (running,) = found.running
    assert (running.recording_id, running.call_id, running.name, running.done_s, running.total_s) == (
        3,
        3,
        "r3",
        16,
        30,
    )


def test_failures_are_listed_with_their_reason(session: Session) -> None:
    queue_recordings(session, 1, [1, 3], requested_by="page")
    claim(session)
    for number in (1, 3):
        claims.fail(session, ME, number, f"{number} is broken")
    found = transcriptions.failed_transcriptions(session, 1, offset=0, limit=1)
    assert len(found) == 1
    assert {row.error for row, _ in transcriptions.failed_transcriptions(session, 1, offset=0, limit=9)} == {
        "1 is broken",
        "3 is broken",
    }
