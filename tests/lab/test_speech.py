"""Calls with known words, recorded by Asterisk, downloaded and transcribed. The test counts the wrong words."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import RecordingRow
from pbx.store.transcripts import transcripts_of_call
from tests.lab.servers import LabServer
from tests.lab.spoken_calls import SpokenCall, place_spoken_calls
from tests.unit.speech.synthetic_speech import CHECKPOINT, Clip, clips, errors_in

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]  # transcription runs at a low priority
CALLS, CLIPS = 4, 32  # concurrent calls (one per agent), and clips in all of them


def pbx(server: LabServer, *command: str) -> dict[str, object]:
    """Run `python -m pbx … --json` against a server."""
    environment = os.environ | freepbx(server)
    run = [sys.executable, "-m", "pbx", *command, "--json"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def freepbx(server: LabServer) -> dict[str, str]:
    return {
        "FREEPBX_HOST": server.host,
        "FREEPBX_ARI_PORT": str(server.http_port),
        "FREEPBX_ARI_USERNAME": server.ari_username,
        "FREEPBX_ARI_PASSWORD": server.ari_secret,
        "FREEPBX_AMI_PORT": str(server.ami_port),
        "FREEPBX_AMI_USERNAME": server.ami_username,
        "FREEPBX_AMI_PASSWORD": server.ami_secret,
    }


def test_words_are_transcribed_after_the_complete_path(server: LabServer, no_real_data: Path) -> None:
    trained, held_out_clips = (clips(CLIPS, held_out, seed=server.version) for held_out in (False, True))
    trained_calls, held_out_calls = (
        place_spoken_calls(server, phrases, CALLS) for phrases in (trained, held_out_clips)
    )
    legs = [f"{one.call.recording}-{leg}" for one in (*trained_calls, *held_out_calls) for leg in "rt"]
    pbx(server, "sync")
    result = pbx(server, "transcribe", *legs)
    assert result["completed"] == len(legs), result
    settings = load_settings()
    wrong, words = total(errors_of_call(settings, one) for one in trained_calls)
    assert wrong / words < 0.05
    wrong, words = total(errors_of_call(settings, one) for one in held_out_calls)
    whisper_wrong, whisper_words = total(map(errors_of_whisper, held_out_clips))
    assert whisper_words == words
    assert wrong / words <= whisper_wrong / whisper_words + 0.02


def total(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    wrong, words = zip(*counts, strict=True)
    return sum(wrong), sum(words)


def errors_of_call(settings: Settings, spoken: SpokenCall) -> tuple[int, int]:
    """The number of wrong words and of all words. A word on the wrong side is wrong."""
    engine = open_engine(settings)
    with reading(engine) as session:
        recording = session.exec(select(RecordingRow).where(RecordingRow.name == f"{spoken.call.recording}-r")).one()
        transcripts = transcripts_of_call(session, recording.call_id)
    engine.dispose()
    transcribed = {"caller": "", "agent": ""}
    for _, _, segments in transcripts:
        for segment in segments:
            transcribed[segment.speaker] += f" {segment.text}"
    sides = {"caller": spoken.caller, "agent": spoken.agent}
    counts = [errors_in(" ".join(clip.text for clip in sides[side]), transcribed[side]) for side in sides]
    return sum(wrong for wrong, _ in counts), sum(words for _, words in counts)


def errors_of_whisper(clip: Clip) -> tuple[int, int]:
    """The same counts for openai-whisper's `transcribe()` on the original clip, without a telephone."""
    transcribed = whisper_model().transcribe(
        clip.sound, language="en", temperature=0.0, condition_on_previous_text=False, fp16=False
    )
    return errors_in(clip.text, transcribed["text"])


@functools.cache
def whisper_model() -> Any:
    import whisper

    return whisper.load_model(str(CHECKPOINT), device="cpu")
