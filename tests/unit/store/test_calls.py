"""Calls are found by each filter, newest first."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.store.calls import (
    CallFilter,
    call_queues,
    count_calls,
    find_calls,
    get_call,
    recordings_of,
    transcriptions_of,
)
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow, PbxConnection, RecordingRow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Six calls of PBX 1, numbered by time except the last, whose time is unknown; and one call of PBX 2."""
    columns = ("direction", "from_number", "to_number", "queue", "state")
    rows = [
        ("inbound", "+493012345", "600", "sales", "downloaded"),
        ("inbound", "0170 9999", "601", "support", "waiting"),
        ("outbound", "1001", "004930777", "", "downloaded"),
        ("internal", "1001", "1002", "", "failed"),
        ("inbound", "Anonymous", "50%_off", "sales", "listed"),
    ]
    with writing(engine) as session:
        session.add_all([PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other")])
        session.flush()
        for number, values in enumerate(rows, start=1):
            at = NOON + timedelta(hours=number)
            session.add(
                CallRow(
                    id=number,
                    connection_id=1,
                    linkedid=f"{number}",
                    started_at=at,
                    **dict(zip(columns, values, strict=True)),
                )
            )
        session.add(CallRow(id=6, connection_id=1, linkedid="6"))
        session.add(
            CallRow(id=7, connection_id=2, linkedid="1", started_at=NOON, from_number="1001", queue="elsewhere")
        )
    with reading(engine) as session:
        yield session


def found_ids(session: Session, **filters: object) -> list[int | None]:
    call_filter = CallFilter(1, **filters)  # type: ignore[arg-type]
    calls = [call.id for call in find_calls(session, call_filter, offset=0, limit=100)]
    assert count_calls(session, call_filter) == len(calls)
    return calls


def test_the_newest_call_comes_first_and_calls_without_a_time_last(session: Session) -> None:
    assert found_ids(session) == [5, 4, 3, 2, 1, 6]


def test_pages_continue_where_the_one_before_ended(session: Session) -> None:
    pages = [[c.id for c in find_calls(session, CallFilter(1), offset=o, limit=4)] for o in (0, 4, 8)]
    assert pages == [[5, 4, 3, 2], [1, 6], []]


def test_a_call_at_until_is_outside_the_period(session: Session) -> None:
    assert found_ids(session, since=NOON + timedelta(hours=2), until=NOON + timedelta(hours=4)) == [3, 2]


def test_filters_combine(session: Session) -> None:
    assert found_ids(session, direction="inbound") == [5, 2, 1]
    assert found_ids(session, queue="sales") == [5, 1]
    assert found_ids(session, state="downloaded") == [3, 1]
    assert found_ids(session, direction="inbound", queue="sales", state="downloaded") == [1]
    assert found_ids(session, queue="elsewhere") == []


@pytest.mark.parametrize(
    ("number", "ids"),
    [
        ("1001", [4, 3]),  # as caller and as called
        ("+49 (30) 12-345", [1]),  # in any notation
        ("4930", [3, 1]),  # part of a number
        ("  777 ", [3]),
        ("anonymous", [5]),
        ("50%", [5]),  # not a wildcard
        ("_", [5]),
        ("%", [5]),
        ("'; --", []),
        ("   ", [5, 4, 3, 2, 1, 6]),
    ],
)
def test_a_number_is_found_in_any_notation(session: Session, number: str, ids: list[int]) -> None:
    assert found_ids(session, number=number) == ids


def test_a_call_of_another_pbx_is_not_returned(session: Session) -> None:
    assert get_call(session, 1, 7) is None
    assert get_call(session, 1, 99) is None
    call = get_call(session, 1, 1)
    assert call is not None
    assert (call.from_number, call.started_at) == ("+493012345", NOON + timedelta(hours=1))


def test_queues_are_listed_per_pbx(session: Session) -> None:
    assert call_queues(session, 1) == ["sales", "support"]


def test_calls_since_a_time_are_counted(session: Session) -> None:
    assert count_calls(session, CallFilter(1, since=NOON + timedelta(hours=4))) == 2


def test_recordings_are_listed_by_start_time(engine: Engine, session: Session) -> None:
    with writing(engine) as writer:
        for name, hours in (("b", 2), ("a", 1)):
            at = NOON + timedelta(hours=hours)
            writer.add(RecordingRow(connection_id=1, call_id=1, name=name, started_at=at))
    with reading(engine) as after:
        assert [recording.name for recording in recordings_of(after, 1)] == ["a", "b"]


def test_transcription_states_are_returned_by_call(engine: Engine, session: Session) -> None:
    with writing(engine) as writer:
        writer.get_one(CallRow, 2).transcription = "failed"
    with reading(engine) as after:
        assert transcriptions_of(after, [1, 2, 99]) == {1: "new", 2: "failed"}
        assert transcriptions_of(after, []) == {}
