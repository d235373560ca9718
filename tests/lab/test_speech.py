"""What was said in a call of the lab: recorded by Asterisk, fetched, transcribed, and compared with what was said."""

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

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]  # to transcribe goes behind everything else
CALLS, CLIPS = 4, 32  # concurrent calls, as many as there are agents


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


def test_the_words_survive_the_whole_path(server: LabServer, no_real_data: Path) -> None:
    known, unknown = (clips(CLIPS, held_out, seed=server.version) for held_out in (False, True))
    of_known, of_unknown = (place_spoken_calls(server, said, CALLS) for said in (known, unknown))
    legs = [f"{one.call.recording}-{leg}" for one in (*of_known, *of_unknown) for leg in "rt"]
    pbx(server, "sync")
    reported = pbx(server, "transcribe", *legs)
    assert reported["completed"] == len(legs), reported
    settings = load_settings()
    wrong, said = total(errors_of_call(settings, one) for one in of_known)
    assert wrong / said < 0.05
    wrong, said = total(errors_of_call(settings, one) for one in of_unknown)
    stock_wrong, stock_said = total(map(errors_of_stock, unknown))
    assert stock_said == said
    assert wrong / said <= stock_wrong / stock_said + 0.02


def total(counted: Iterable[tuple[int, int]]) -> tuple[int, int]:
    wrong, said = zip(*counted, strict=True)
    return sum(wrong), sum(said)


def errors_of_call(settings: Settings, spoken: SpokenCall) -> tuple[int, int]:
    """Words wrong, and words said; what each side said must be the right side's."""
    engine = open_engine(settings)
    with reading(engine) as session:
        found = session.exec(select(RecordingRow).where(RecordingRow.name == f"{spoken.call.recording}-r")).one()
        transcripts = transcripts_of_call(session, found.call_id)
    engine.dispose()
    heard = {"caller": "", "agent": ""}
    for _, _, segments in transcripts:
        for segment in segments:
            heard[segment.speaker] += f" {segment.text}"
    sides = {"caller": spoken.caller, "agent": spoken.agent}
    counted = [errors_in(" ".join(clip.text for clip in sides[side]), heard[side]) for side in sides]
    return sum(wrong for wrong, _ in counted), sum(said for _, said in counted)


def errors_of_stock(clip: Clip) -> tuple[int, int]:
    """The same by openai-whisper's own `transcribe()`, on the clip as it was before any telephone."""
    heard = stock().transcribe(clip.sound, language="en", temperature=0.0, condition_on_previous_text=False, fp16=False)
    return errors_in(clip.text, heard["text"])


@functools.cache
def stock() -> Any:
    import whisper

    return whisper.load_model(str(CHECKPOINT), device="cpu")
