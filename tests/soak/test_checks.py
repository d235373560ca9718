"""The soak test's checks find lost, changed and invented data, and leaks."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pbx.asterisk.formats.recording_names import RecordingName
from pbx.model.history import Visit
from pbx.settings import Settings
from pbx.store.engine import writing
from pbx.store.job_rows import add_job, start_job
from pbx.store.listening_spans import begin_span, prolong_span
from pbx.store.models import PbxConnection, now
from pbx.store.recordings import DownloadResult, ListedRecording, add_recordings, store_outcomes
from pbx.store.visits import store_visits
from tests.soak import checks

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
LATE_S = 3.0
SOUND = b"a whole recording"
DIGEST = hashlib.sha256(SOUND).hexdigest()


@pytest.fixture
def engine(engine: Engine) -> Engine:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="h", ari_port=1, ami_port=1))
    return engine


def add_downloaded(engine: Engine, audio_dir: Path, content: bytes = SOUND) -> None:
    """Add one downloaded recording to the cache."""
    with writing(engine) as session:
        add_recordings(session, 1, [ListedRecording("a", "wav", RecordingName())])
        store_outcomes(session, [DownloadResult(1, "downloaded", "", "1/a.wav", len(content))])
    (audio_dir / "1").mkdir(parents=True)
    (audio_dir / "1" / "a.wav").write_bytes(content)


def test_a_cache_with_all_recordings_has_no_errors(engine: Engine, settings: Settings) -> None:
    add_downloaded(engine, settings.audio_dir)
    assert checks.check_cache(engine, settings.audio_dir, {"a": DIGEST}, set()) == []


def test_lost_changed_and_unknown_recordings_are_found(engine: Engine, settings: Settings) -> None:
    add_downloaded(engine, settings.audio_dir, SOUND[:-1])
    (settings.audio_dir / "1" / "b.wav").write_bytes(b"x")
    errors = checks.check_cache(engine, settings.audio_dir, {"a": DIGEST, "c": DIGEST}, {"d"})
    assert [text.split(" ", 1)[0] for text in errors] == ["a", "c", "1/b.wav"]
    assert "not what was recorded" in errors[0]
    assert "is not in the cache" in errors[1]
    assert checks.check_cache(engine, settings.audio_dir, {}, set())[0] == "a is in the cache, but was never recorded"


def test_a_too_large_recording_must_be_marked_as_such(engine: Engine, settings: Settings) -> None:
    add_downloaded(engine, settings.audio_dir)
    assert "is downloaded" in checks.check_cache(engine, settings.audio_dir, {"a": DIGEST}, set(), {"a"})[0]
    with writing(engine) as session:
        store_outcomes(session, [DownloadResult(1, "too_large", "It is.", size_bytes=10**10)])
    (settings.audio_dir / "1" / "a.wav").unlink()
    assert checks.check_cache(engine, settings.audio_dir, {"a": DIGEST}, set(), {"a"}) == []
    assert "is too_large" in checks.check_cache(engine, settings.audio_dir, {"a": DIGEST}, set())[0]


def test_partial_files_stuck_jobs_and_tracebacks_are_found(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    started = now()
    assert checks.check_files(settings.pbx_data_dir) == checks.check_jobs(engine, started) == []
    (settings.pbx_data_dir / "x.part").touch()
    with writing(engine) as session:
        add_job(session, "job", "sync", connection_id=1, requested_by="soak")
    (tmp_path / "app.log").write_text("well\nTraceback (most recent call last)\n  File\nValueError: no\n")
    later = started + timedelta(minutes=1)
    assert len(checks.check_files(settings.pbx_data_dir)) == len(checks.check_jobs(engine, later)) == 1
    assert checks.check_jobs(engine, started) == []  # requested after all jobs were done
    with writing(engine) as session:
        start_job(session, "job", "worker-0")
    assert "job sync is running" in checks.check_jobs(engine, started)[0]
    assert "ValueError: no" in checks.check_logs([tmp_path / "app.log"])[0]


VISIT = Visit(
    "1.1", "600", AT, AT + timedelta(seconds=5), AT + timedelta(seconds=30), "answered", agent="Eve", caller="0301"
)


def visit_errors(engine: Engine, *visits: Visit) -> list[str]:
    """The errors found when these visits were stored in two minutes of listening."""
    with writing(engine) as session:
        span = begin_span(session, 1, AT - timedelta(minutes=1))
        prolong_span(session, span, AT + timedelta(minutes=1))
        store_visits(session, 1, list(visits), "live")
    errors, compared, gaps = checks.check_visits(engine, [VISIT], AT + timedelta(hours=1), LATE_S)
    assert (compared, gaps) == (1, 0)
    return errors


def changed_visit(**fields: object) -> Visit:
    return Visit(**({name: getattr(VISIT, name) for name in VISIT.__slots__} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("visits", "error"),
    [
        ([], "is not in the cache"),
        ([changed_visit(outcome="abandoned")], "outcome is 'abandoned'"),
        ([changed_visit(ended_at=AT + timedelta(seconds=50))], "ended_at is"),
        ([changed_visit(ended_at=None, outcome="unknown")], "has no end"),
        ([changed_visit(ended_at=None, outcome="in_progress")], "still in progress"),
        ([VISIT, changed_visit(uniqueid="9.9")], "was not simulated"),
    ],
)
def test_visits_that_differ_from_the_simulation_are_found(engine: Engine, visits: list[Visit], error: str) -> None:
    assert any(error in text for text in visit_errors(engine, *visits))


def test_visits_as_simulated_have_no_errors(engine: Engine) -> None:
    assert visit_errors(engine, VISIT) == []


def test_a_leak_is_distinguished_from_a_periodic_change() -> None:
    flat = [(2.0 * at, 100_000_000 + at % 7 * 300_000) for at in range(90)]
    leaking = [(at_s, size + round(at_s * 50_000)) for at_s, size in flat]  # 3 MB a minute
    assert checks.slope_mb_per_min(flat) == pytest.approx(0, abs=0.1)
    assert checks.slope_mb_per_min(leaking) == pytest.approx(3, abs=0.2)
    assert checks.slope_mb_per_min(flat[:10]) is None
