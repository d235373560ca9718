"""A replayed PBX, a cache, and the sync between them, for the tests of the sync."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.asterisk.ari.client import AriClient
from pbx.recordings import sync
from pbx.recordings.sync import SyncResult, sync_recordings
from pbx.settings import Settings
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import open_engine, reading
from pbx.store.models import CallRow, RecordingRow
from tests.unit.asterisk.ari.replay import ReplayPbx, replay

NOW = datetime.now(UTC).replace(microsecond=0)


class Bench:
    """A PBX, a cache, and the sync between them."""

    def __init__(self, pbx: ReplayPbx, data: Path) -> None:
        self.pbx = pbx
        self.settings = Settings(
            _env_file=None,
            freepbx_host="127.0.0.1",
            freepbx_ari_port=pbx.connection.ari_port,
            freepbx_ari_username="notebook",
            freepbx_ari_password=pbx.connection.ari_password,
            pbx_data_dir=data,
        )
        self.engine: Engine = open_engine(self.settings)

    @property
    def active(self) -> ActiveConnection:
        active = active_connection(self.engine, self.settings)
        assert active is not None
        return active

    def sync(self, **options: Any) -> SyncResult:
        result = sync_recordings(self.engine, self.active, self.settings.audio_dir, **options)
        self.check()
        return result

    def rows(self) -> dict[str, RecordingRow]:
        with reading(self.engine) as session:
            return {row.name: row for row in session.exec(select(RecordingRow))}

    def calls(self) -> dict[str, CallRow]:
        with reading(self.engine) as session:
            return {row.linkedid: row for row in session.exec(select(CallRow))}

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
