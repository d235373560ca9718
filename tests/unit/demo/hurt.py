"""The app's own jobs on a demo PBX, and what must hold whatever happened: nothing half, nothing lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ari.client import AriClient
from pbx.demo.pbx import DemoPbx
from pbx.errors import PbxError
from pbx.jobs.worker import run_inline
from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import Job, JobKind, RecordingRow, SnapshotRow

IMPATIENT_S = 0.7


class House:
    """A cache of the demo PBX, and the jobs that fill it."""

    def __init__(self, pbx: DemoPbx, settings: Settings) -> None:
        self.pbx, self.settings = pbx, settings
        self.engine: Engine = open_engine(settings)

    def do(self, kind: JobKind, **options: Any) -> dict[str, Any]:
        """Do a job here and now, as the command line does. Raises what it raises."""
        try:
            return run_inline(self.engine, self.settings, kind, options)
        finally:
            self.check()

    def fail(self, kind: JobKind) -> PbxError:
        """Do a job that must fail, and return the error: it says what to do, and so does the job's row."""
        with pytest.raises(PbxError) as caught:
            self.do(kind)
        with reading(self.engine) as session:
            last = session.exec(select(Job).where(Job.kind == kind).order_by(col(Job.requested_at).desc())).first()
        assert last is not None
        assert (last.state, last.error) == ("failed", caught.value.advice)
        assert caught.value.fix
        assert self.pbx.password not in caught.value.advice
        return caught.value

    def recordings(self) -> dict[str, RecordingRow]:
        with reading(self.engine) as session:
            return {row.name: row for row in session.exec(select(RecordingRow))}

    def states(self) -> dict[str, str]:
        return {name: row.state for name, row in self.recordings().items()}

    def snapshots(self) -> int:
        with reading(self.engine) as session:
            return len(session.exec(select(SnapshotRow)).all())

    def is_whole(self) -> bool:
        """Whether the cache holds exactly what lies on the shelf."""
        rows = self.recordings()
        return set(rows) == set(self.pbx.shelf.names()) and all(
            row.state == "downloaded" and self._content(row) == self.pbx.shelf.content(name)
            for name, row in rows.items()
        )

    def _content(self, row: RecordingRow) -> bytes:
        content: bytes = (self.settings.audio_dir / row.file).read_bytes()
        return content

    def check(self) -> None:
        """What always holds."""
        kept = {row.file: row for row in self.recordings().values() if row.state == "downloaded"}
        files = [path for path in self.settings.pbx_data_dir.rglob("*") if path.is_file()]
        halves = [path for path in files if path.suffix == ".part" or ".parts" in path.parts or "json-" in path.name]
        assert halves == []
        audio = self.settings.audio_dir
        assert {str(path.relative_to(audio)) for path in files if path.suffix == ".wav"} == set(kept)
        assert all(row.size_bytes == len(self._content(row)) for row in kept.values())
        assert "downloading" not in self.states().values()
        with reading(self.engine) as session:
            assert {job.state for job in session.exec(select(Job))} <= {"done", "failed"}


@contextmanager
def housed(pbx: DemoPbx, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The app set up for a demo PBX by its environment, with clients that don't wait for long."""
    usual = {"idle_s": IMPATIENT_S, "deadline_s": 5.0, "connect_s": 3.0, "retry_s": 0.05}
    connect = AmiClient.connect
    monkeypatch.setattr(AmiClient, "connect", lambda connection, **more: connect(connection, **(usual | more)))
    monkeypatch.setattr(
        "pbx.recordings.sync.AriClient", partial(AriClient, idle_timeout_s=IMPATIENT_S, backoff_s=0.001)
    )
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    for side, port in (("AMI", pbx.ami_port), ("ARI", pbx.ari_port)):
        for name, value in (("PORT", port), ("USERNAME", pbx.username), ("PASSWORD", pbx.password)):
            monkeypatch.setenv(f"FREEPBX_{side}_{name}", str(value))
    house = House(pbx, load_settings())
    try:
        yield house
    finally:
        house.engine.dispose()
