"""A replayed PBX, a cache, and the sync between them, for the tests of the sync."""

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
    """A PBX, a cache, and the sync between them."""

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
        """All files below data/audio but the lock."""
        audio = self.settings.audio_dir
        return {
            str(file.relative_to(audio)): file.read_bytes()
            for file in audio.rglob("*")
            if file.is_file() and file.name != ".sync.lock"
        }

    def check(self) -> None:
        """What always holds: each file whole and of one row, each row with its call, nothing in the making."""
        files, rows = self.files(), self.rows()
        kept = {row.file: row for row in rows.values() if row.state == "downloaded"}
        assert set(kept) == set(files)
        for file, row in kept.items():
            assert row.size_bytes == len(files[file])
            assert row.downloaded_at is not None
            if row.name in self.pbx.recordings:
                assert files[file] == self.pbx.recordings[row.name]
        assert all(row.reason == "" for row in kept.values())
        assert "downloading" not in self.states().values()
        assert {row.call_id for row in rows.values()} == {call.id for call in self.calls().values()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sync, "AriClient", partial(AriClient, backoff_s=0.001))
    with replay() as pbx:
        made = Bench(pbx, tmp_path / "data")
        yield made
        made.engine.dispose()


def name(kind: str = "out-5551-1001", at: datetime = NOW, leg: int = 0) -> str:
    return f"{at:%Y/%m/%d}/{kind}-{at:%Y%m%d-%H%M%S}-{int(at.timestamp())}.{leg}"
