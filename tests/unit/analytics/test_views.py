"""The documented views: their columns, and their values from rows and from sealed days."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.analytics.view_descriptions import SQL_TYPES, VIEWS
from pbx.analytics.views import ViewSource, create_views
from pbx.model.snapshot import Queue, Snapshot
from pbx.store.engine import reading, writing
from pbx.store.models import (
    Alert,
    AlertRule,
    AnalysisRow,
    CallNote,
    CallTag,
    ExtensionSample,
    PbxConnection,
    QueueSample,
    RecordingRow,
    SampledSubject,
    SegmentRow,
    Table,
    Topic,
    Transcript,
    TrunkSample,
)
from pbx.store.snapshots import store_latest
from tests.unit.analytics.monday import BERLIN, at
from tests.unit.store.history_rows import agent_event, call, leg, read_both_ways, ring, visit

ANNA = "+49301111111"


def put(engine: Engine, *rows: Table) -> None:
    """Store rows, each after those it refers to."""
    with writing(engine) as session:
        for row in rows:
            session.add(row)
            session.flush()


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    put(engine, PbxConnection(id=1, host="pbx", timezone="Europe/Berlin", active=True, saved=True))


def answer(session: Session, sql: str, **parts: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement about the views that its text mentions."""
    connection = duckdb.connect(":memory:")
    source = ViewSource(session, lambda rows, phrases: [name for name in phrases if name in rows[0][3]], **parts)
    create_views(connection, source, [name for name in VIEWS if name in sql])
    session.info.pop("figures", None)
    session.info.pop("tables", None)
    return connection.sql(sql).fetchall()


def read(engine: Engine, sql: str, **parts: Any) -> list[tuple[Any, ...]]:
    with reading(engine) as session:
        return answer(session, sql, **parts)


def both_ways(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, from rows and, the same, from sealed days."""
    return read_both_ways(engine, lambda session: answer(session, sql))


def utc(hours: float) -> datetime:
    """A moment of Monday as the views have it: UTC, without a zone."""
    return at(hours).astimezone(UTC).replace(tzinfo=None)


def local(hours: float) -> datetime:
    """The same on the clocks of the PBX."""
    return at(hours).astimezone(BERLIN).replace(tzinfo=None)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_its_documented_columns_with_and_without_a_pbx(engine: Engine, name: str) -> None:
    expected = [(column.name, SQL_TYPES[column.type]) for column in VIEWS[name].columns]
    described = f"SELECT column_name, column_type FROM (DESCRIBE {name})"
    assert read(engine, described) == expected
    assert read(engine, f"SELECT * FROM {name}") == []
    with writing(engine) as session:
        session.delete(session.get(PbxConnection, 1))
    assert read(engine, described) == expected


def test_calls(engine: Engine) -> None:
    put(
        engine,
        call(1, at(9), from_number=ANNA, from_name="Anna", queue="sales", agent="1001", wait_s=4.0, talk_s=60.0),
        call(2, at(10), "outbound", disposition="NO ANSWER", to_number=ANNA),
        call(3, at(11), disposition=""),
        leg(1, at(9), "PJSIP/carrier-1", ended_by="called"),
        RecordingRow(id=1, connection_id=1, call_id=1, name="a"),
        CallNote(call_id=1, rating=4),
        SampledSubject(connection_id=1, kind="member", name="PJSIP/1001", parent="sales", label="Bob"),
    )
    names = (
        "call_id, started_at, started_local, direction, from_number, agent, agent_extension, trunk, outcome, answered"
    )
    assert both_ways(engine, f"SELECT {names} FROM calls ORDER BY 1") == [
        (1, utc(9), local(9), "inbound", ANNA, "Bob", "1001", "carrier", "answered", True),
        (2, utc(10), local(10), "outbound", "", "", "", "", "no_answer", False),
        (3, utc(11), local(11), "inbound", "", "", "", "", "unknown", False),
    ]
    names = "pbx, wait_s, talk_s, hung_up_by, recorded, transcript_state, rating"
    assert read(engine, f"SELECT {names} FROM calls ORDER BY call_id")[:2] == [
        ("pbx", 4.0, 60.0, "agent", True, "new", 4),
        ("pbx", None, None, "", False, "", None),
    ]


def test_a_call_with_an_open_leg_is_in_progress(engine: Engine) -> None:
    now = datetime.now(UTC)
    put(engine, call(1, now, disposition=""), call(2, now, disposition=""))
    put(engine, leg(1, now, "PJSIP/1", disposition="", duration_s=None, billsec_s=None))
    assert read(engine, "SELECT outcome FROM calls ORDER BY call_id") == [("in_progress",), ("unknown",)]
    assert read(engine, "SELECT outcome, answered, ring_s FROM call_legs") == [("in_progress", False, None)]
    assert read(engine, "SELECT outcome, answered, duration_s FROM trunk_calls") == [("in_progress", False, None)]


def test_the_legs_of_a_call_are_numbered(engine: Engine) -> None:
    put(engine, call(5, at(9)), call(6, at(9), "outbound"))
    put(
        engine,
        leg(5, at(9.5), "PJSIP/b", ended_by="caller", disposition="BUSY", duration_s=3.0, billsec_s=0.0),
        leg(5, at(9), "PJSIP/a", "PJSIP/1001-1", ended_by="called", answered_at=at(9) + timedelta(seconds=7), cause=16),
        leg(6, at(9), "PJSIP/c", ended_by="called"),
    )
    names = "call_id, leg, channel, destination, outcome, answered, ring_s, talk_s, cause, hung_up_by"
    assert read(engine, f"SELECT {names} FROM call_legs ORDER BY 1, 2") == [
        (5, 1, "PJSIP/a", "PJSIP/1001-1", "answered", True, 7.0, 60.0, 16, "agent"),
        (5, 2, "PJSIP/b", "", "busy", False, 3.0, 0.0, None, "caller"),
        (6, 1, "PJSIP/c", "", "answered", True, 0.0, 60.0, None, "called"),
    ]


def test_queue_visits(engine: Engine) -> None:
    with writing(engine) as session:
        queues = (Queue(name="help", service_level_s=60),)
        store_latest(session, 1, Snapshot(taken_at=at(8), took_ms=0, host="pbx", queues=queues))
    put(
        engine,
        call(7, at(9), linkedid="7.1"),
        visit(at(9), wait_s=20.0, uniqueid="7.1", ended_by="agent", original_position=2, position=1),
        visit(at(9.1), "abandoned", 4.0, queue="help", caller="0301111111", did="100"),
        visit(at(9.2), "transferred", 61.0, queue="help", target="700", ended_by="transfer"),
        visit(at(9.3), "timeout", None),
    )
    names = "queue, call_id, outcome, answered, wait_s, position_joined, position_left, hung_up_by, service_level_s"
    assert both_ways(engine, f"SELECT {names} FROM queue_visits ORDER BY visit_id") == [
        ("sales", 7, "answered", True, 20.0, 2, 1, "agent", 20.0),
        ("help", None, "abandoned", False, 4.0, None, None, "caller", 60.0),
        ("help", None, "transferred", True, 61.0, None, None, "", 60.0),
        ("sales", None, "timeout", False, None, None, None, "", 20.0),
    ]
    names = "joined_at, joined_local, within_target, short_abandon, transferred_to, caller_number, did"
    assert read(engine, f"SELECT {names} FROM queue_visits ORDER BY visit_id") == [
        (utc(9), local(9), True, False, "", "", ""),
        (utc(9.1), local(9.1), True, True, "", "0301111111", "100"),
        (utc(9.2), local(9.2), False, False, "700", "", ""),
        (utc(9.3), local(9.3), None, False, "", "", ""),
    ]


def test_an_abandoned_visit_has_the_next_conversation_with_its_caller(engine: Engine) -> None:
    put(
        engine,
        visit(at(9), "abandoned", 30.0, caller=ANNA),
        visit(at(9.5), "abandoned", 30.0, caller="+49302222222"),
        visit(at(9.6), "abandoned", 30.0, caller="anonymous"),
        call(1, at(8), from_number=ANNA, agent="1001"),  # before
        call(2, at(10), from_number=ANNA, queue="sales"),  # only the queue answered
        call(3, at(11), "outbound", to_number="0301111111"),
        call(4, at(12), from_number="0302222222", linkedid="4.0"),
        visit(at(12), caller="0302222222", uniqueid="4.0"),
    )
    sql = "SELECT called_back_at, called_back_call_id FROM queue_visits ORDER BY visit_id"
    assert both_ways(engine, sql) == [(utc(11), 3), (utc(12), 4), (None, None), (None, None)]


def test_agent_rings_are_missed_or_answered(engine: Engine) -> None:
    put(engine, call(1, at(9), linkedid=f"{at(9).timestamp():.0f}.1"), call(2, at(10)))
    put(engine, leg(2, at(10), "PJSIP/a", uniqueid=f"{at(10).timestamp():.0f}.1"))
    put(engine, ring(at(9)), ring(at(10), "Bob"), visit(at(11), wait_s=30.0, ring_s=5.0, agent="Carla"))
    names = "agent, queue, call_id, rang_at, rang_local, ring_s, answered"
    second = timedelta(seconds=1)
    assert both_ways(engine, f"SELECT {names} FROM agent_rings ORDER BY rang_at") == [
        ("Anna", "sales", 1, utc(9) - 15 * second, local(9) - 15 * second, 15.0, False),
        ("Bob", "sales", 2, utc(10) - 15 * second, local(10) - 15 * second, 15.0, False),
        ("Carla", "sales", None, utc(11) + 25 * second, local(11) + 25 * second, 5.0, True),
    ]


def test_agent_sessions_and_pauses(engine: Engine) -> None:
    put(
        engine,
        agent_event(at(8), "Anna", "login"),
        agent_event(at(8.5), "Anna", "login"),  # again: still one session
        agent_event(at(9), "Anna", "pause", reason="Lunch"),
        agent_event(at(9.25), "Anna", "pause", reason="Meeting"),
        agent_event(at(9), "Anna", "pause", queue="", reason="Lunch"),  # PAUSEALL, which a pause of a queue repeats
        agent_event(at(9.5), "Anna", "unpause"),
        agent_event(at(12), "Anna", "logout"),
        agent_event(at(10), "Bob", "login"),
        agent_event(at(11), "Bob", "pause", queue=""),
    )
    names = "agent, queue, started_at, ended_at, duration_s, reason"
    assert both_ways(engine, f"SELECT {names} FROM agent_sessions ORDER BY 1") == [
        ("Anna", "sales", utc(8), utc(12), 4 * 3600, ""),
        ("Bob", "sales", utc(10), None, None, ""),
    ]
    assert read(engine, f"SELECT {names} FROM agent_pauses ORDER BY 1, 3") == [
        ("Anna", "sales", utc(9), utc(9.25), 900, "Lunch"),
        ("Anna", "sales", utc(9.25), utc(9.5), 900, "Meeting"),
        ("Bob", "", utc(11), None, None, ""),
    ]


def test_trunk_calls(engine: Engine) -> None:
    put(engine, call(1, at(9)), call(2, at(10), "outbound", disposition="BUSY"))
    put(
        engine,
        leg(1, at(9), "PJSIP/carrier-1", cause=16),
        leg(2, at(10), "PJSIP/1001-1", "PJSIP/carrier-2", disposition="BUSY", duration_s=5.0, billsec_s=0.0, pdd_s=1.5),
    )
    names = "trunk, call_id, started_at, direction, answered, pdd_s, talk_s, duration_s, cause, outcome"
    assert both_ways(engine, f"SELECT {names} FROM trunk_calls ORDER BY 2") == [
        ("carrier", 1, utc(9), "inbound", True, None, 60.0, 60.0, 16, "answered"),
        ("carrier", 2, utc(10), "outbound", False, 1.5, 0.0, 5.0, None, "busy"),
    ]


def test_samples_and_states(engine: Engine) -> None:
    minute = 1 / 60
    states = [("registered", 0), ("registered", 5), ("rejected", 10), ("registered", 60), ("registered", 65)]
    counts = dict.fromkeys(("agents_available", "agents", "agents_paused", "completed", "abandoned"), 1)
    put(
        engine,
        SampledSubject(id=1, connection_id=1, kind="trunk", name="carrier"),
        SampledSubject(id=2, connection_id=1, kind="queue", name="sales"),
        SampledSubject(id=3, connection_id=1, kind="extension", name="1001", tech="PJSIP"),
    )
    put(
        engine,
        *(TrunkSample(subject_id=1, taken_at=at(9 + at_min * minute), state=state) for state, at_min in states),
        QueueSample(subject_id=2, taken_at=at(9), calls=3, longest_wait_s=9, hold_time_s=1, talk_time_s=2, **counts),
        ExtensionSample(subject_id=3, taken_at=at(9), status="idle"),
    )
    names = "trunk, started_at, ended_at, duration_s, state"
    assert both_ways(engine, f"SELECT {names} FROM trunk_states ORDER BY 2") == [
        ("carrier", utc(9), utc(9 + 10 * minute), 600.0, "registered"),
        ("carrier", utc(9 + 10 * minute), utc(9 + 10 * minute), 0.0, "rejected"),  # then nothing was observed
        ("carrier", utc(10), utc(10 + 5 * minute), 300.0, "registered"),
    ]
    assert read(engine, "SELECT taken_at, trunk, state FROM trunk_samples ORDER BY 1")[2][1:] == ("carrier", "rejected")
    assert read(engine, "SELECT queue, calls_waiting, longest_wait_s FROM queue_samples") == [("sales", 3, 9)]
    assert read(engine, "SELECT extension, technology, status FROM extension_samples") == [("1001", "PJSIP", "idle")]


def test_transcripts(engine: Engine) -> None:
    word = [0.0, 1.0, "invoice", 0.9]
    document = {
        "talk_s": {"agent": 3.0, "caller": 1.0},
        "talk_ratio": 0.75,
        "longest_silence": [2.0, 5.0],
        "interruptions": 2,
        "summary": "About an invoice",
    }
    put(engine, call(1, at(9), transcription="completed"), call(2, at(10)))
    put(
        engine,
        RecordingRow(id=1, connection_id=1, call_id=1, name="a", started_at=at(9), state="downloaded", duration_s=60.0),
        RecordingRow(id=2, connection_id=1, call_id=2, name="b", state="missing", reason="deleted"),
    )
    made = {"recording_id": 1, "engine": "whisper", "model": "base", "complete": True, "speech_s": 30.0, "channels": 2}
    put(engine, Transcript(id=1, current=True, language="en", **made), Transcript(id=2, **made))
    put(
        engine,
        SegmentRow(
            id=1, transcript_id=1, start_s=1.5, end_s=2.0, speaker="caller", text="my invoice", words=[word] * 2
        ),
        SegmentRow(id=2, transcript_id=1, start_s=3.0, end_s=4.0, text="hm", words=[word], flags="improbable"),
        SegmentRow(id=3, transcript_id=1, start_s=5.0, end_s=6.0, text="", flags="music"),
        SegmentRow(id=4, transcript_id=2, start_s=0.0, end_s=1.0, text="of another model"),
        AnalysisRow(transcript_id=1, engine="local", document=document),
        Topic(name="invoice", phrases=["invoice"]),
        Topic(name="cancel", phrases=["cancel*"]),
    )
    assert read(engine, "SELECT name, state, duration_s, channels, reason FROM recordings ORDER BY 1") == [
        ("a", "downloaded", 60.0, 2, ""),
        ("b", "missing", None, None, "deleted"),
    ]
    names = "call_id, engine, model, language, speech_s, words, doubtful_segments"
    assert read(engine, f"SELECT {names} FROM transcripts") == [(1, "whisper", "base", "en", 30.0, 3, 1)]
    names = 'started_s, speaker, speaker_is_estimated, text, doubt, edited, "at"'
    said_at = utc(9) + timedelta(seconds=1.5)
    assert read(engine, f"SELECT {names} FROM segments ORDER BY 1")[0] == (
        1.5,
        "caller",
        False,
        "my invoice",
        "",
        False,
        said_at,
    )
    assert read(engine, "SELECT doubt FROM segments ORDER BY started_s") == [("",), ("improbable",), ("music",)]
    names = "call_id, talk_share_agent, longest_silence_s, interruptions, words_per_minute, summary, sentiment, topics"
    assert read(engine, f"SELECT {names} FROM conversation") == [
        (1, 0.75, 5.0, 2, 6.0, "About an invoice", "", ["invoice"])
    ]
    assert read(engine, "SELECT recorded, transcript_state, language FROM calls ORDER BY call_id")[0] == (
        *(True, "completed", "en"),
    )


def test_notes_tags_and_alerts(engine: Engine) -> None:
    put(engine, call(1, at(9)), AlertRule(id=1, connection_id=1, kind="trunk_down", targets_encrypted="secret"))
    put(
        engine,
        CallTag(call_id=1, tag="=1+1 💥"),
        CallNote(call_id=1, note="<b>", updated_at=at(9)),
        Alert(rule_id=1, subject="carrier", started_at=at(9), ended_at=at(10), description="It is down."),
        Alert(rule_id=1, started_at=at(11)),
    )
    assert read(engine, "SELECT pbx, call_id, tag FROM call_tags") == [("pbx", 1, "=1+1 💥")]
    assert read(engine, "SELECT note, rating, updated_at FROM call_notes") == [("<b>", None, utc(9))]
    assert read(engine, "SELECT rule, subject, started_at, ended_at, duration_s, what FROM alerts ORDER BY 3") == [
        ("trunk_down", "carrier", utc(9), utc(10), 3600.0, "It is down."),
        ("trunk_down", "", utc(11), None, None, ""),
    ]


def test_a_time_without_any_source_is_unobserved(engine: Engine) -> None:
    put(engine, visit(at(9), source="queue_log"), visit(at(11), source="queue_log"))
    (found,) = read(engine, "SELECT pbx, started_at, what FROM unobserved")
    assert found == ("pbx", utc(11) + timedelta(seconds=1), "queues")


def test_all_pbxs_are_in_the_views_each_in_its_zone(engine: Engine) -> None:
    put(engine, PbxConnection(id=2, host="o'brien % $x", utc_offset_s=3600), PbxConnection(id=3, host="own"))
    put(engine, call(1, at(9)), *(call(n, at(9), connection_id=n, linkedid="1.0") for n in (2, 3)))
    sql = "SELECT pbx, date_diff('hour', started_at, started_local) FROM calls ORDER BY 1"
    found = read(engine, sql, own_host="own", own_timezone="America/New_York")
    assert found == [("o'brien % $x", 1), ("own", -5), ("pbx", 1)]


def test_a_table_that_a_statement_does_not_need_is_not_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    put(engine, call(1, at(9)), RecordingRow(id=1, connection_id=1, call_id=1, name="a"))
    monkeypatch.setattr("pbx.analytics.view_tables.LazyTable._batches", lambda _: pytest.fail("it was read"))
    assert read(engine, "SELECT count(*) FROM calls") == [(1,)]
    assert read(engine, "SELECT agent, count(*) FROM agent_rings GROUP BY agent") == []


def test_no_view_contains_a_secret(engine: Engine) -> None:
    names = {column.name for view in VIEWS.values() for column in view.columns}
    assert not [name for name in names if any(word in name for word in ("password", "token", "secret", "encrypted"))]
