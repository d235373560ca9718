"""Runs the app's jobs on a simulated PBX, and checks that no fault leaves anything partial or lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.asterisk.ami.client import DEFAULT_TIMING, AmiClient, AmiTiming
from pbx.asterisk.ari.client import AriClient
from pbx.errors import PbxError
from pbx.jobs.worker import run_inline
from pbx.settings import Connection, Settings, load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import Job, JobKind, RecordingRow, SnapshotRow
from tests.simulator.simulated_pbx import SimulatedPbx

IDLE_S = 0.7


class AppOnPbx:
    """The app with its cache of a simulated PBX, and the jobs that fill the cache."""

    def __init__(self, pbx: SimulatedPbx, settings: Settings) -> None:
        self.pbx, self.settings = pbx, settings
        self.engine: Engine = open_engine(settings)

    def run(self, kind: JobKind, **options: Any) -> dict[str, Any]:
        """Run a job in this process, as the command line does. Raises what the job raises."""
        try:
            return run_inline(self.engine, self.settings, kind, options)
        finally:
            self.check()

    def fail(self, kind: JobKind) -> PbxError:
        """Run a job that must fail. Checks that its error has a fix and is stored with the job, and returns it."""
        with pytest.raises(PbxError) as caught:
            self.run(kind)
        with reading(self.engine) as session:
            last = session.exec(select(Job).where(Job.kind == kind).order_by(col(Job.requested_at).desc())).first()
        assert last is not None
        assert (last.state, last.error) == ("failed", caught.value.advice)
        assert caught.value.fix
        assert self.pbx.password not in caught.value.advice
        return caught.value

    def recordings(self) -> dict[str, RecordingRow]:
        """The recordings in the cache, by name."""
        with reading(self.engine) as session:
            return {row.name: row for row in session.exec(select(RecordingRow))}

    def states(self) -> dict[str, str]:
        """The state of each recording in the cache, by name."""
        return {name: row.state for name, row in self.recordings().items()}

    def snapshots(self) -> int:
        """The number of snapshots in the cache."""
        with reading(self.engine) as session:
            return len(session.exec(select(SnapshotRow)).all())

    def is_complete(self) -> bool:
        """Whether the cache has exactly the recordings of the PBX."""
        rows = self.recordings()
        return set(rows) == set(self.pbx.recordings.names()) and all(
            row.state == "downloaded" and self._content(row) == self.pbx.recordings.content(name)
            for name, row in rows.items()
        )

    def _content(self, row: RecordingRow) -> bytes:
        content: bytes = (self.settings.audio_dir / row.file).read_bytes()
        return content

    def check(self) -> None:
        """Check what must hold after every job."""
        downloaded = {row.file: row for row in self.recordings().values() if row.state == "downloaded"}
        files = [path for path in self.settings.pbx_data_dir.rglob("*") if path.is_file()]
        partial = [path for path in files if path.suffix == ".part" or ".parts" in path.parts or "json-" in path.name]
        assert partial == []
        audio = self.settings.audio_dir
        assert {str(path.relative_to(audio)) for path in files if path.suffix == ".wav"} == set(downloaded)
        assert all(row.size_bytes == len(self._content(row)) for row in downloaded.values())
        assert "downloading" not in self.states().values()
        with reading(self.engine) as session:
            assert {job.state for job in session.exec(select(Job))} <= {"done", "failed"}


@contextmanager
def app_on(pbx: SimulatedPbx, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppOnPbx]:
    """The app, set up for a PBX by environment variables, with clients that have short timeouts."""
    usual = {"idle_s": IDLE_S, "deadline_s": 5.0, "connect_s": 3.0, "retry_s": 0.05}
    connect = AmiClient.connect

    def connect_quickly(connection: Connection, timing: AmiTiming = DEFAULT_TIMING, **more: str) -> AmiClient:
        return connect(connection, timing=replace(timing, **usual), **more)

    monkeypatch.setattr(AmiClient, "connect", connect_quickly)
    monkeypatch.setattr("pbx.recordings.sync.AriClient", partial(AriClient, idle_timeout_s=IDLE_S, backoff_s=0.001))
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    for side, port in (("AMI", pbx.ami_port), ("ARI", pbx.ari_port)):
        for name, value in (("PORT", port), ("USERNAME", pbx.username), ("PASSWORD", pbx.password)):
            monkeypatch.setenv(f"FREEPBX_{side}_{name}", str(value))
    app = AppOnPbx(pbx, load_settings())
    try:
        yield app
    finally:
        app.engine.dispose()
