"""A sync that is killed at any moment leaves no partial files under final names, and loses or repeats nothing."""

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pbx.recordings.sync import SyncResult, sync_recordings
from tests.paths import ROOT
from tests.unit.asterisk.ari.replay_server import PASSWORD, ReplayPbx, replay, wav
from tests.unit.recordings.synced_cache import SyncedCache

ROUNDS = 6
COUNT = 600


def start(pbx: ReplayPbx, data: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "tests.unit.recordings.sync_in_subprocess",
        "127.0.0.1",
        str(pbx.connection.ari_port),
        PASSWORD,
    ]
    return subprocess.Popen([*command, str(data)], cwd=ROOT, stderr=subprocess.PIPE)


def check_files(pbx: ReplayPbx, data: Path) -> None:
    """Check that every file under a final name is identical to that of the PBX."""
    for file in (data / "audio" / "1").rglob("*.wav"):
        assert file.read_bytes() == pbx.recordings[str(file.relative_to(data / "audio" / "1"))[:-4]]


def test_a_sync_killed_six_times_completes_with_every_recording_once(tmp_path: Path) -> None:
    rng = random.Random(20261121)
    first = datetime(2026, 11, 20, 8, tzinfo=UTC)
    with replay() as pbx:
        for n in range(COUNT):
            at = first + timedelta(seconds=n)
            uniqueid = f"{int(at.timestamp()) - n % 2}.{n // 2}"  # two recordings per call
            pbx.recordings[f"2026/11/20/out-555{n}-1001-{at:%Y%m%d-%H%M%S}-{uniqueid}"] = wav(
                bytes(40_000) + b"%4d" % n
            )
        pbx.delay_s = 0.002
        for _ in range(ROUNDS):
            downloads_before = sum(pbx.downloads().values())
            process = start(pbx, tmp_path)
            further_downloads = rng.randrange(1, COUNT // ROUNDS)
            while process.poll() is None and sum(pbx.downloads().values()) < downloads_before + further_downloads:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
            assert process.poll() is None, process.stderr and process.stderr.read()
            process.kill()
            process.communicate()
            check_files(pbx, tmp_path)
        cache = SyncedCache(pbx.connection, tmp_path)
        audio_dir = cache.settings.audio_dir
        sync_recordings(cache.engine, cache.active, audio_dir)
        assert sync_recordings(cache.engine, cache.active, audio_dir) == SyncResult(listed=COUNT)
        check_files(pbx, tmp_path)
        rows, calls = cache.rows(), cache.calls()
        cache.engine.dispose()
    assert sorted(rows) == sorted(pbx.recordings)
    assert {row.state for row in rows.values()} == {call.state for call in calls.values()} == {"downloaded"}
    assert len(calls) == COUNT // 2
    stored_files = {str(file.relative_to(audio_dir)) for file in audio_dir.rglob("*") if file.is_file()}
    assert stored_files == {row.file for row in rows.values()} | {".sync.lock"}
