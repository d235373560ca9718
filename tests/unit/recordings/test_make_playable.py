"""The worker converts each recording once into a format that browsers play; pages only request it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pbx.errors import DataError
from pbx.jobs.worker import run_inline
from pbx.recordings.playable import is_prepared
from pbx.settings import Settings
from pbx.store.engine import writing
from pbx.store.job_queue import request_job
from pbx.store.models import RecordingRow
from tests.paths import ROOT
from tests.unit.jobs.job_checks import job_state, jobs_of
from tests.unit.transcription.scripted_engine import add_recording

PHRASE = ROOT / "tests/fixtures/audio/phrase-1.ulaw"


def add_phrase(engine: Engine, settings: Settings) -> tuple[int, Path]:
    number = add_recording(engine, settings)
    file = settings.audio_dir / f"p{number}.ulaw"
    file.write_bytes(PHRASE.read_bytes())
    with writing(engine) as session:
        session.add(session.get_one(RecordingRow, number).sqlmodel_update({"file": file.name}))
    return number, file


def test_one_job_is_queued_for_each_recording(engine: Engine, settings: Settings) -> None:
    job_ids = [
        request_job(engine, settings, "make_playable", requested_by="page", options={"recording_id": number}).id
        for number in (1, 2, 1)
    ]
    assert job_ids[0] == job_ids[2] != job_ids[1]
    assert len(jobs_of(engine)) == 2


def test_the_job_makes_a_recording_playable(engine: Engine, settings: Settings) -> None:
    number, file = add_phrase(engine, settings)
    assert not is_prepared(file, settings.playable_dir)
    assert run_inline(engine, settings, "make_playable", {"recording_id": number}) == {"recording_id": number}
    assert is_prepared(file, settings.playable_dir)


def test_a_missing_recording_is_an_error(engine: Engine, settings: Settings) -> None:
    with pytest.raises(DataError, match="not in the cache"):
        run_inline(engine, settings, "make_playable", {"recording_id": 99})


def test_a_file_without_audio_fails_with_its_reason(engine: Engine, settings: Settings) -> None:
    _, file = add_phrase(engine, settings)
    intact, _ = add_phrase(engine, settings)
    file.write_bytes(b"")
    for number in (1, intact):
        request_job(engine, settings, "make_playable", requested_by="page", options={"recording_id": number})
    script = [sys.executable, "-m", "tests.unit.transcription.speech_worker", "--once", "--quiet"]
    assert subprocess.run(script, cwd=ROOT, env=os.environ, capture_output=True, check=False).returncode == 1
    failed, done = sorted(jobs_of(engine), key=lambda job: int(job.options["recording_id"]))
    assert (job_state(engine, failed), job_state(engine, done)) == ("failed", "done")
    assert "0 bytes" in failed.error
