"""Invalid data from a PBX or a file makes a command print an error with its fix, never a traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbx.settings import Settings, load_settings
from tests.paths import ROOT
from tests.unit.asterisk.ari.replay_server import PASSWORD, STORED, ReplayPbx, replay, reply
from tests.unit.speech.synthetic_speech import CHECKPOINT
from tests.unit.transcription.scripted_engine import add_recording

INVALID_RESPONSES = {
    "a nested list": reply("list", b"[" * 200_000),
    "a Content-Length of 5,000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n[]",
    "a list of 10 GB": b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n[",
    "a number of 5,000 digits": reply("list", b"[" + b"7" * 5000 + b"]"),
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500,
    "a header of 100 KB": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "an invalid status": b"HTTP/1.1 " + b"9" * 5000 + b"\r\n\r\n",
    "a nested error": b"HTTP/1.1 500 No\r\nContent-Length: 400\r\n\r\n" + b"[" * 400,
}


@pytest.fixture
def pbx(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayPbx]:
    with replay() as server:
        monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
        monkeypatch.setenv("FREEPBX_ARI_PORT", str(server.connection.ari_port))
        monkeypatch.setenv("FREEPBX_ARI_USERNAME", "notebook")
        monkeypatch.setenv("FREEPBX_ARI_PASSWORD", PASSWORD)
        yield server


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pbx", *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=60, check=False)


@pytest.mark.parametrize("response", INVALID_RESPONSES.values(), ids=INVALID_RESPONSES.keys())
def test_sync_reports_an_invalid_response_as_an_error(pbx: ReplayPbx, response: bytes) -> None:
    pbx.answers[STORED] = response
    process = command("sync", "--json")
    assert (process.returncode, process.stderr) == (1, "")
    printed = json.loads(process.stdout)
    assert printed["error"]
    assert printed["fix"]
    assert PASSWORD not in process.stdout


def test_transcribe_reports_a_checkpoint_of_impossible_dimensions_as_damaged(
    tmp_path: Path, pbx: ReplayPbx, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from pbx.store.engine import open_engine

    content = torch.load(CHECKPOINT, weights_only=True)
    content["dims"] |= {"n_audio_state": 81, "n_audio_head": 1}
    torch.save(content, tmp_path / "odd.pt")
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path / "odd.pt"))
    engine = open_engine(load_settings())
    add_recording(engine, load_settings())
    engine.dispose()
    process = command("transcribe", "--all-new", "--json")
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "odd.pt is damaged" in process.stdout
