"""A sync killed at any moment: nothing half under a final name, nothing twice, nothing lost."""

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlmodel import select

from pbx.recordings.sync import SyncResult, sync_recordings
from pbx.settings import Settings
from pbx.store.connections import active_connection
from pbx.store.engine import open_engine, reading
from pbx.store.models import CallRow, RecordingRow
from tests.paths import ROOT
from tests.unit.asterisk.ari.replay import PASSWORD, ReplayPbx, replay, wav

ROUNDS = 6
COUNT = 600


def start(pbx: ReplayPbx, data: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.unit.recordings.sync_once",
        "127.0.0.1",
        str(pbx.connection.ari_port),
        PASSWORD,
    ]
    return subprocess.Popen([*command, str(data)], cwd=ROOT, stderr=subprocess.PIPE)


def check_files(pbx: ReplayPbx, data: Path) -> None:
    """Every file under a final name is byte for byte the PBX's."""
    for file in (data / "audio" / "1").rglob("*.wav"):
        assert file.read_bytes() == pbx.recordings[str(file.relative_to(data / "audio" / "1"))[:-4]]


def test_killed_in_the_middle_again_and_again(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    first = datetime(2026, 11, 20, 8, tzinfo=UTC)
    with replay() as pbx:
        for n in range(COUNT):
            at = first + timedelta(seconds=n)
            uniqueid = f"{int(at.timestamp()) - n % 2}.{n // 2}"  # two recordings a call
            pbx.recordings[f"2026/11/20/out-555{n}-1001-{at:%Y%m%d-%H%M%S}-{uniqueid}"] = wav(
                bytes(40_000) + b"%4d" % n
            )
        pbx.delay_s = 0.002
        for _ in range(ROUNDS):
            asked_before = sum(pbx.downloads().values())
            running = start(pbx, tmp_path)
            more = chance.randrange(1, COUNT // ROUNDS)
            while running.poll() is None and sum(pbx.downloads().values()) < asked_before + more:
                time.sleep(0.001)
            time.sleep(chance.random() * 0.05)
            assert running.poll() is None, running.stderr and running.stderr.read()
            running.kill()
            running.communicate()
            check_files(pbx, tmp_path)
        settings = Settings(
            _env_file=None,
            freepbx_host="127.0.0.1",
            freepbx_ari_port=pbx.connection.ari_port,
            freepbx_ari_username="notebook",
            freepbx_ari_password=PASSWORD,
            pbx_data_dir=tmp_path,
        )
        engine = open_engine(settings)
        active = active_connection(engine, settings)
        assert active is not None
        sync_recordings(engine, active, settings.audio_dir)
        assert sync_recordings(engine, active, settings.audio_dir) == SyncResult(listed=COUNT)
        check_files(pbx, tmp_path)
        with reading(engine) as session:
            rows = session.exec(select(RecordingRow)).all()
            calls = session.exec(select(CallRow)).all()
        engine.dispose()
    assert sorted(row.name for row in rows) == sorted(pbx.recordings)
    assert {row.state for row in rows} == {call.state for call in calls} == {"downloaded"}
    assert len(calls) == COUNT // 2
    kept = {str(file.relative_to(settings.audio_dir)) for file in settings.audio_dir.rglob("*") if file.is_file()}
    assert kept == {row.file for row in rows} | {".sync.lock"}
