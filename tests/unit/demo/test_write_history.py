"""The demo's history in the cache: complete, like the simulated calls, and unchanged when it is written again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text
from sqlmodel import Session

from pbx.analytics.coverage import queue_coverage
from pbx.analytics.queues import FigureFilter, figures_by, queue_targets
from pbx.analytics.sealing import seal_history
from pbx.analytics.trunk_status import trunk_registration
from pbx.analytics.trunks import by_trunk
from pbx.asterisk.formats.recording_names import parse_name
from pbx.demo.company import QUEUES, ZONE, PlannedCall
from pbx.demo.recording_dir import recording_name
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.simulated_history import calls_between, recorded_calls
from pbx.demo.write_history import fill_gaps, write_history
from pbx.settings import Connection, Settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.pbx_connections import save_connection
from pbx.store.recordings import ListedRecording, add_recordings
from pbx.store.snapshots import snapshot_gaps
from pbx.store.transcription_queue import overview
from pbx.store.transcripts import SCRIPT_ENGINE
from pbx.transcription.search.hits import SearchFilter, find_hits

NOW = datetime(2026, 11, 19, 14, 20, tzinfo=UTC)
SINCE = NOW - timedelta(days=9)
DAY = datetime(2026, 11, 18, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
WANTED = FigureFilter(1, DAY, DAY + timedelta(days=1), None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = Settings(_env_file=None, pbx_data_dir=tmp_path_factory.mktemp("history"))  # type: ignore[call-arg]
    opened = open_engine(settings)
    assert save_connection(opened, settings, Connection(host="127.0.0.1", ami_port=1, ari_port=1, timezone=ZONE)) == 1
    shares: list[float] = []
    write_history(opened, 1, SINCE, NOW, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    yield opened
    opened.dispose()


def calls_of_the_day() -> list[PlannedCall]:
    return [call for call in calls_between(DAY, DAY + timedelta(days=1)) if call.started_at >= DAY]


def row_counts(session: Session) -> list[int]:
    tables = (
        "calls",
        "call_legs",
        "queue_visits",
        "agent_rings",
        "agent_events",
        "recordings",
        "transcripts",
        "segments",
    )
    return [session.scalar(text(f"SELECT count(*) FROM {name}")) for name in tables]


def test_figures_of_a_queue_are_those_of_the_simulated_calls(engine: Engine) -> None:
    with reading(engine) as session:
        figures = figures_by(session, WANTED, "queue", queue_targets(session, 1))
    assert set(figures) == {queue.number for queue in QUEUES}
    for number, found in figures.items():
        calls = [call for call in calls_of_the_day() if call.queue == number]
        served = [call for call in calls if call.answered_at is not None]
        assert found.offered == len(calls)
        assert found.answered == len(served)
        assert found.abandoned == sum(call.outcome == "abandoned" for call in calls)
        assert found.talk_s == pytest.approx(sum(call.talk_s for call in served), abs=len(served))
        waits_s = [
            (call.answered_at - call.joined_at).total_seconds()
            for call in served
            if call.answered_at and call.joined_at
        ]
        assert found.answer_wait_s == pytest.approx(sum(waits_s), abs=len(waits_s))
        assert served


def test_figures_of_trunks_are_those_of_the_simulated_calls(engine: Engine) -> None:
    with reading(engine) as session:
        figures = by_trunk(session, 1, DAY, DAY + timedelta(days=1))
        flapping = trunk_registration(session, 1, "harbour-sip", DAY, DAY + timedelta(days=1), 300)
        steady = trunk_registration(session, 1, "albion-voice", DAY, DAY + timedelta(days=1), 300)
    for name, found in figures.items():
        calls = [call for call in calls_of_the_day() if call.trunk == name]
        assert found.seizures == len(calls)
        picked_up = sum(
            call.answered_at is not None or (call.direction == "inbound" and not call.rings) for call in calls
        )
        assert found.answered == picked_up  # a queue answers a caller who abandons before any telephone rang
    assert steady.registered_s == pytest.approx(86_400, abs=1)
    assert 3 <= flapping.flaps <= 5
    assert 80_000 < flapping.registered_s < 86_400


def test_there_is_no_gap(engine: Engine) -> None:
    with reading(engine) as session:
        assert queue_coverage(session, 1, SINCE, NOW).gaps == ()
        assert snapshot_gaps(session, 1, SINCE, NOW, 300) == []


def test_visits_in_progress_at_the_end_stay_in_progress(engine: Engine) -> None:
    going_on = [call for call in calls_between(NOW, NOW + timedelta(milliseconds=1)) if call.queue and call.joined_at]
    with reading(engine) as session:
        in_progress = session.scalar(text("SELECT count(*) FROM queue_visits WHERE outcome = 'in_progress'"))
    assert in_progress == sum(call.joined_at <= NOW < (call.left_at or NOW) for call in going_on if call.joined_at)


def test_every_transcript_is_complete_and_searchable(engine: Engine) -> None:
    with reading(engine) as session:
        rows = session.connection().execute(
            text("SELECT model, engine, current, complete FROM transcripts ORDER BY model")
        )
        assert [tuple(row) for row in rows] == [(name, SCRIPT_ENGINE, 1, 1) for name in sorted(SAMPLE_RECORDINGS)]
        hits = find_hits(session, SearchFilter(1, "invoice"), offset=0, limit=10)
        assert hits
        assert all(hit.speaker in ("caller", "agent") for hit in hits)
        speech = overview(session, 1)
        assert (speech.completed, speech.new, speech.queued) == (12, 0, 0)
        automatic = session.scalar(text("SELECT automatic FROM transcription_rules"))
        assert not automatic  # no model is downloaded without a request
        analysed = session.scalar(text("SELECT count(*) FROM analyses WHERE engine = 'local'"))
        assert analysed == 12


def test_a_recorded_call_lasts_as_long_as_its_script(engine: Engine) -> None:
    with reading(engine) as session:
        rows = (
            session.connection()
            .execute(
                text(
                    "SELECT t.model, c.talk_s FROM transcripts t JOIN recordings r ON r.id = t.recording_id"
                    " JOIN calls c ON c.id = r.call_id"
                )
            )
            .all()
        )
    assert len(rows) == 12
    for name, talk_s in rows:
        assert talk_s == pytest.approx(SAMPLE_RECORDINGS[name].duration_s, abs=0.01)


def test_writing_the_history_again_adds_only_new_calls(engine: Engine) -> None:
    with reading(engine) as session:
        before = row_counts(session)
    later = NOW + timedelta(minutes=30)
    assert fill_gaps(engine, 1, SINCE, NOW) == 0
    assert fill_gaps(engine, 1, SINCE, later) == 1
    write_history(engine, 1, NOW - timedelta(hours=5), later)
    with reading(engine) as session:
        after = row_counts(session)
        assert queue_coverage(session, 1, SINCE, later).gaps == ()
        twice = text("SELECT count(*) FROM (SELECT 1 FROM queue_visits GROUP BY uniqueid, queue HAVING count(*) > 1)")
        assert session.scalar(twice) == 0
        stale = text(
            "SELECT count(*) FROM queue_visits WHERE outcome = 'in_progress'"
            " AND joined_at < unixepoch('2026-11-19 14:20')"
        )
        assert session.scalar(stale) == 0
    more = [call for call in calls_between(NOW, later) if NOW < call.started_at <= later]
    assert after[0] - before[0] == len(more)


def test_sealing_days_changes_no_figure(engine: Engine) -> None:
    with reading(engine) as session:
        rows = figures_by(session, WANTED, "queue")
    assert seal_history(engine, 1, before=NOW) > 0
    with reading(engine) as session:
        assert figures_by(session, WANTED, "queue") == rows


def test_filling_gaps_writes_only_the_gaps(engine: Engine) -> None:
    """With `live`, the time after the last listening span is left to the listener."""
    later = NOW + timedelta(hours=2)
    with reading(engine) as session:
        before = row_counts(session)
    assert fill_gaps(engine, 1, SINCE, later, live=True) == 0
    assert fill_gaps(engine, 1, SINCE, later, go_on=lambda: False) == 1
    with reading(engine) as session:
        assert row_counts(session) == before


def test_a_visit_answered_as_the_listener_starts_stays_in_progress(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, pbx_data_dir=tmp_path)  # type: ignore[call-arg]
    opened = open_engine(settings)
    save_connection(opened, settings, Connection(host="127.0.0.1", ami_port=1, ari_port=1))
    call = next(one for one in calls_of_the_day() if one.outcome == "answered" and one.talk_s > 30)
    assert call.answered_at is not None
    moment = call.answered_at + timedelta(seconds=5)
    write_history(opened, 1, moment - timedelta(minutes=20), moment - timedelta(seconds=10))
    with writing(opened) as session:
        session.connection().execute(text("UPDATE queue_visits SET outcome = 'unknown' WHERE outcome = 'in_progress'"))
    assert fill_gaps(opened, 1, moment - timedelta(minutes=20), moment) == 1
    with reading(opened) as session:
        query = text("SELECT outcome, agent FROM queue_visits WHERE uniqueid = :uniqueid")
        found = session.connection().execute(query, {"uniqueid": call.uniqueid}).one()
    opened.dispose()
    assert call.agent is not None
    assert tuple(found) == ("in_progress", call.agent.name)


def test_a_call_of_today_gets_its_transcript_after_it_ends(tmp_path: Path) -> None:
    newest = recorded_calls(NOW)[0]
    opened = open_engine(settings := Settings(_env_file=None, pbx_data_dir=tmp_path))  # type: ignore[call-arg]
    try:
        connection_id = save_connection(opened, settings, Connection(host="x", ari_port=1, ami_port=1))
        write_history(
            opened, connection_id, newest.started_at - timedelta(hours=1), newest.ended_at - timedelta(seconds=1)
        )
        now = newest.ended_at + timedelta(seconds=1)
        with writing(opened) as session:  # the sync that the end of the recording requested
            name = recording_name(newest)
            add_recordings(session, connection_id, [ListedRecording(name, "wav", parse_name(name, ZoneInfo(ZONE)))])
        fill_gaps(opened, connection_id, newest.started_at, now)
        with reading(opened) as session:
            model = text("SELECT t.model FROM transcripts t JOIN recordings r ON r.id = recording_id WHERE r.name = :n")
            assert list(session.connection().scalars(model, {"n": name})) == [newest.recording]
            assert session.scalar(text("SELECT count(*) FROM transcripts")) == len(SAMPLE_RECORDINGS) + 1
    finally:
        opened.dispose()
