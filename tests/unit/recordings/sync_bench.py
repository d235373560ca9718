"""A test bench for the sync: a replayed PBX, a cache, and checks of the result."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pbx.asterisk.ari.client import AriClient
from pbx.recordings import sync
from pbx.recordings.sync import SyncResult, sync_recordings
from tests.unit.asterisk.ari.replay_server import ReplayPbx, replay
from tests.unit.recordings.synced_cache import SyncedCache

NOW = datetime.now(UTC).replace(microsecond=0)


class Bench(SyncedCache):
    """A replayed PBX and a cache. Each sync between them is checked for consistency."""

    def __init__(self, pbx: ReplayPbx, data: Path) -> None:
        super().__init__(pbx.connection, data)
        self.pbx = pbx

    def sync(self, **options: Any) -> SyncResult:
        result = sync_recordings(self.engine, self.active, self.settings.audio_dir, **options)
        self.check()
        return result

    def states(self) -> dict[str, str]:
        return {name: row.state for name, row in self.rows().items()}

    def files(self) -> dict[str, bytes]:
        """The content of all files in the audio directory, except the lock."""
        audio = self.settings.audio_dir
        return {
            str(file.relative_to(audio)): file.read_bytes()
            for file in audio.rglob("*")
            if file.is_file() and file.name != ".sync.lock"
        }

    def check(self) -> None:
        """Check that each file is complete and has one row, each row has a call, and no download is unfinished."""
        files, rows = self.files(), self.rows()
        downloaded = {row.file: row for row in rows.values() if row.state == "downloaded"}
        assert set(downloaded) == set(files)
        for file, row in downloaded.items():
            assert row.size_bytes == len(files[file])
            assert row.downloaded_at is not None
            if row.name in self.pbx.recordings:
                assert files[file] == self.pbx.recordings[row.name]
        assert all(row.reason == "" for row in downloaded.values())
        assert "downloading" not in self.states().values()
        assert {row.call_id for row in rows.values()} == {call.id for call in self.calls().values()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sync, "AriClient", partial(AriClient, backoff_s=0.001))
    with replay() as pbx:
        test_bench = Bench(pbx, tmp_path / "data")
        yield test_bench
        test_bench.engine.dispose()


def name(kind: str = "out-5551-1001", at: datetime = NOW, leg: int = 0) -> str:
    """The name of a recording as FreePBX writes it, without its extension."""
    return f"{at:%Y/%m/%d}/{kind}-{at:%Y%m%d-%H%M%S}-{int(at.timestamp())}.{leg}"
