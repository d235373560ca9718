"""The command `transcribe`: which recordings it takes and what it prints. One test uses the real engine."""

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
from pbx.transcription import inline
from pbx.transcription import transcriber_process as transcriber
from tests.paths import ROOT
from tests.unit.transcription.scripted_engine import (
    ScriptedEngine,
    add_recording,
    request_transcription,
    row_of,
    states,
    transcript_parts,
)

FIXTURES = ROOT / "tests/fixtures"
run = CliRunner().invoke


@pytest.fixture
def settings(no_real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    return load_settings()


@pytest.fixture
def scripted_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(settings: Settings, model: str, progress: object) -> Transcriber:
        if model == "huge":
            raise ModelError("The model huge is not there.", "Fetch it.")
        return ScriptedEngine(settings.pbx_data_dir, model or "scripted")

    monkeypatch.setattr(transcriber, "load_model", load)
    monkeypatch.setattr(inline, "POLL_S", 0.05)


def test_without_a_pbx_the_error_says_what_to_do() -> None:
    result = run(app, ["transcribe"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("✗ No PBX is set up yet.")


def test_named_recordings_are_transcribed(engine: Engine, settings: Settings, scripted_engine: None) -> None:
    for _ in range(3):
        add_recording(engine, settings)
    result = run(app, ["transcribe", "r3", "r1", "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    counts = json.loads(result.stdout)
    assert (counts["requested"], counts["completed"], counts["failed"], counts["audio_s"]) == (2, 2, [], 40.0)
    assert states(engine) == {1: "completed", 3: "completed"}
    assert row_of(engine, 1).requested_by == "command line"
    assert "requested 1, completed 1, failed 0: 20 s of audio in" in run(app, ["transcribe", "r1"]).stdout


def test_new_failed_and_queued_recordings_are_transcribed(
    engine: Engine, settings: Settings, scripted_engine: None
) -> None:
    first, broken, last = (add_recording(engine, settings, **fault) for fault in ({}, {"fault": "broken"}, {}))
    assert run(app, ["transcribe", "--all-new", "--limit", "1"]).exit_code == 0
    assert states(engine) == {last: "completed"}
    result = run(app, ["transcribe", "--all-new"])
    assert result.exit_code == 1
    assert f"✗ r{broken}: It holds a header and no sound. There is nothing to hear.\n" in result.stderr
    assert states(engine) == {first: "completed", broken: "failed", last: "completed"}
    (settings.audio_dir / f"r{broken}.wav").write_text('{"parts": 1}')
    assert run(app, ["transcribe", "--failed"]).exit_code == 0
    request_transcription(engine, settings, first)
    assert json.loads(run(app, ["transcribe", "--json"]).stdout)["requested"] == 1
    assert set(states(engine).values()) == {"completed"}
    assert json.loads(run(app, ["transcribe", "--json"]).stdout)["requested"] == 0
    speech = json.loads(run(app, ["status", "--json"]).stdout)["transcriptions"]
    assert (speech["new"], speech["completed"], speech["failed"]) == (0, 3, 0)
    assert "0 new, 0 queued, 0 transcribing, 3 completed, 0 failed" in run(app, ["status"]).stdout


def test_an_unknown_name_is_reported(engine: Engine, settings: Settings, scripted_engine: None) -> None:
    result = run(app, ["transcribe", "2026/nothing"])
    assert result.exit_code == 1
    assert "There is no recording 2026/nothing in the cache." in result.stderr


def test_the_model_option_selects_the_model(engine: Engine, settings: Settings, scripted_engine: None) -> None:
    number = add_recording(engine, settings)
    assert run(app, ["transcribe", "r1", "--model", "small"]).exit_code == 0
    with reading(engine) as session:
        transcript = current_transcript(session, number)
    assert transcript is not None
    assert transcript.model == "small"
    result = run(app, ["transcribe", "r1", "--model", "huge"])
    assert result.exit_code == 1
    assert "✗ r1: The model huge is not there. Fetch it." in result.stderr
    assert transcript_parts(engine, number) == ["part 0", "part 1"]


def test_without_a_model_recordings_stay_queued(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_recording(engine, settings)
    # The real engine reports the missing file, with or without torch.
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path / "nothing.pt"))
    result = run(app, ["transcribe", "--all-new", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]
    assert states(engine) == {1: "queued"}


def test_the_command_waits_for_a_recording_of_another_process(
    engine: Engine, settings: Settings, scripted_engine: None
) -> None:
    number = add_recording(engine, settings)
    request_transcription(engine, settings, number)
    active = active_connection(engine, settings)
    assert active is not None
    with take_process_lock(settings.pbx_data_dir, "transcriber") as lock:
        with writing(engine) as session:
            claims.claim_recordings(session, active.id, lock.name, "", 1)
            transcriptions.set_paused(session, active.id, True)

        def complete() -> None:
            with writing(engine) as session:
                claims.complete(session, lock.name, number, 20.0)

        timer = threading.Timer(2.0, complete)  # by then the command is waiting
        timer.start()
        result = json.loads(run(app, ["transcribe", "r1", "--json"]).stdout)
        timer.join()
    assert (result["completed"], transcript_parts(engine, number)) == (1, [])


def test_the_real_engine_transcribes_a_phrase(engine: Engine, settings: Settings) -> None:
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
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    with reading(engine) as session:
        transcript = current_transcript(session, number)
        assert transcript is not None
        assert transcript.id is not None
        texts = [row.text for row in segments_of(session, transcript.id)]
    assert texts == ["Thank you for calling support."]


def test_the_next_command_transcribes_what_a_killed_command_claimed(
    engine: Engine, settings: Settings, scripted_engine: None
) -> None:
    """The next command has the killed one's name, but must not mistake the claim for its own or another process's."""
    request_transcription(engine, settings, add_recording(engine, settings))
    with writing(engine) as session:
        assert claims.claim_recordings(session, 1, "here-0", "", 1)
    result = run(app, ["transcribe", "r1", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["completed"]) == (0, 1)
