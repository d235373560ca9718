"""The command `transcribe`: which recordings, what it prints, and once with the real engine."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.errors import ModelError
from pbx.process_lock import take_process_lock
from pbx.settings import Settings, load_settings
from pbx.speech.transcriber import Transcriber
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.engine import reading, writing
from pbx.store.models import RecordingRow
from pbx.store.pbx_connections import active_connection
from pbx.store.transcripts import current_transcript, segments_of
from pbx.transcription import inline as here
from pbx.transcription import transcriber_process as transcriber
from tests.paths import ROOT
from tests.unit.transcription.scripted_engine import Scripted, add_recording, ask, row_of, said, states

FIXTURES = ROOT / "tests/fixtures"
run = CliRunner().invoke


@pytest.fixture
def settings(no_real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    return load_settings()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(settings: Settings, model: str, progress: object) -> Transcriber:
        if model == "huge":
            raise ModelError("The model huge is not there.", "Fetch it.")
        return Scripted(settings.pbx_data_dir, model or "scripted")

    monkeypatch.setattr(transcriber, "load_model", load)
    monkeypatch.setattr(here, "POLL_S", 0.05)


def test_without_a_pbx_it_says_what_to_do() -> None:
    told = run(app, ["transcribe"])
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.startswith("✗ No PBX is set up yet.")


def test_recordings_are_transcribed_by_name(engine: Engine, settings: Settings, scripted: None) -> None:
    for _ in range(3):
        add_recording(engine, settings)
    told = run(app, ["transcribe", "r3", "r1", "--json"])
    assert (told.exit_code, told.stderr) == (0, "")
    result = json.loads(told.stdout)
    assert (result["requested"], result["completed"], result["failed"], result["audio_s"]) == (2, 2, [], 40.0)
    assert states(engine) == {1: "completed", 3: "completed"}
    assert row_of(engine, 1).requested_by == "command line"
    assert "requested 1, completed 1, failed 0: 20 s of audio in" in run(app, ["transcribe", "r1"]).stdout


def test_new_failed_and_queued_ones(engine: Engine, settings: Settings, scripted: None) -> None:
    first, broken, last = (add_recording(engine, settings, **fault) for fault in ({}, {"fault": "broken"}, {}))
    assert run(app, ["transcribe", "--all-new", "--limit", "1"]).exit_code == 0
    assert states(engine) == {last: "completed"}
    told = run(app, ["transcribe", "--all-new"])
    assert told.exit_code == 1
    assert f"✗ r{broken}: It holds a header and no sound. There is nothing to hear.\n" in told.stderr
    assert states(engine) == {first: "completed", broken: "failed", last: "completed"}
    (settings.audio_dir / f"r{broken}.wav").write_text('{"parts": 1}')
    assert run(app, ["transcribe", "--failed"]).exit_code == 0
    ask(engine, settings, first)
    assert json.loads(run(app, ["transcribe", "--json"]).stdout)["requested"] == 1
    assert set(states(engine).values()) == {"completed"}
    assert json.loads(run(app, ["transcribe", "--json"]).stdout)["requested"] == 0
    speech = json.loads(run(app, ["status", "--json"]).stdout)["transcriptions"]
    assert (speech["new"], speech["completed"], speech["failed"]) == (0, 3, 0)
    assert "0 new, 0 queued, 0 transcribing, 3 completed, 0 failed" in run(app, ["status"]).stdout


def test_a_name_that_is_not_known_is_said(engine: Engine, settings: Settings, scripted: None) -> None:
    told = run(app, ["transcribe", "2026/nothing"])
    assert told.exit_code == 1
    assert "There is no recording 2026/nothing in the cache." in told.stderr


def test_another_model(engine: Engine, settings: Settings, scripted: None) -> None:
    number = add_recording(engine, settings)
    assert run(app, ["transcribe", "r1", "--model", "small"]).exit_code == 0
    with reading(engine) as session:
        transcript = current_transcript(session, number)
    assert transcript is not None
    assert transcript.model == "small"
    told = run(app, ["transcribe", "r1", "--model", "huge"])
    assert told.exit_code == 1
    assert "✗ r1: The model huge is not there. Fetch it." in told.stderr
    assert said(engine, number) == ["part 0", "part 1"]


def test_without_a_model_they_stay_queued(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_recording(engine, settings)
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path / "nothing.pt"))  # the real engine says so, torch or not
    told = run(app, ["transcribe", "--all-new", "--json"])
    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]
    assert states(engine) == {1: "queued"}


def test_what_another_process_is_at_is_waited_for(engine: Engine, settings: Settings, scripted: None) -> None:
    number = add_recording(engine, settings)
    ask(engine, settings, number)
    active = active_connection(engine, settings)
    assert active is not None
    with take_process_lock(settings.pbx_data_dir, "transcriber") as slot:
        with writing(engine) as session:
            claims.claim_recordings(session, active.id, slot.name, "", 1)
            transcriptions.set_paused(session, active.id, True)

        def complete() -> None:
            with writing(engine) as session:
                claims.complete(session, slot.name, number, 20.0)

        timer = threading.Timer(2.0, complete)  # by then the command waits for it
        timer.start()
        result = json.loads(run(app, ["transcribe", "r1", "--json"]).stdout)
        timer.join()
    assert (result["completed"], said(engine, number)) == (1, [])


def test_the_real_engine_understands_a_phrase(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings)
    shutil.copy(FIXTURES / "audio/phrase-1.ulaw", settings.audio_dir / f"r{number}.wav")
    with writing(engine) as session:
        row = session.get_one(RecordingRow, number)
        session.add(row.sqlmodel_update({"file": "r1.ulaw"}))
    (settings.audio_dir / "r1.wav").rename(settings.audio_dir / "r1.ulaw")
    environment = os.environ | {
        "WHISPER_MODEL": str(FIXTURES / "speech/micro-whisper.pt"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pbx", "transcribe", "r1", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with reading(engine) as session:
        transcript = current_transcript(session, number)
        assert transcript is not None
        assert transcript.id is not None
        heard = [row.text for row in segments_of(session, transcript.id)]
    assert heard == ["Thank you for calling support."]


def test_what_a_killed_command_left_is_done_by_the_next(engine: Engine, settings: Settings, scripted: None) -> None:
    """The next one gets the killed one's name, and must not take its work for its own, or for somebody else's."""
    ask(engine, settings, add_recording(engine, settings))
    with writing(engine) as session:
        assert claims.claim_recordings(session, 1, "here-0", "", 1)
    told = run(app, ["transcribe", "r1", "--json"])
    assert (told.exit_code, json.loads(told.stdout)["completed"]) == (0, 1)
