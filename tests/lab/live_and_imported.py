"""Stores the same calls in two caches: in one from live events, in the other from queue_log and the CDR."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete
from sqlmodel import col, select

from pbx.imports.cdr import import_cdr_file
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.run import ImportRun
from pbx.live.collect import collect_snapshot
from pbx.settings import load_settings
from pbx.store.counter_resets import Reset, resets_of
from pbx.store.engine import open_engine, reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.models import AgentEventRow, CallRow, LegRow, RingRow, VisitRow
from tests.lab.process import wait_until
from tests.lab.scripted_calls import DESK, ScriptedCalls, exclusive_desk, place_scripted_calls
from tests.lab.servers import LabServer
from tests.unit.live.fake_pbx import listening

LIVE, IMPORTED = "live", "imported"
SOURCES = (LIVE, IMPORTED)


def environment(server: LabServer) -> dict[str, str]:
    """The app's settings for a server, as environment variables."""
    settings = {
        "HOST": server.host,
        "AMI_PORT": server.ami_port,
        "AMI_USERNAME": "notebook",
        "AMI_PASSWORD": server.ami_secret,
        "ARI_PORT": server.http_port,
        "ARI_USERNAME": server.ari_username,
        "ARI_PASSWORD": server.ari_secret,
    }
    return {f"FREEPBX_{name}": str(value) for name, value in settings.items()}


@dataclass(frozen=True)
class LiveAndImported:
    """The scripted calls, and the folder that holds the two caches."""

    scripted: ScriptedCalls
    folder: Path

    @contextmanager
    def open_cache(self, source: str) -> Iterator[Engine]:
        """Open one of the caches, LIVE or IMPORTED, and point the app's settings to it."""
        with use_settings_of(self.scripted.server, self.folder / source), open_app_engine() as engine:
            yield engine


def fill_both_caches(server: LabServer, folder: Path) -> LiveAndImported:
    """Place the scripted calls while listening to the server, then import the files that it wrote."""
    with use_settings_of(server, folder / LIVE), open_app_engine() as live, exclusive_desk(server):
        with listening(live) as listener:
            scripted = place_scripted_calls(server, lambda: store_snapshot(server, folder))
            time.sleep(2)  # late events
            server.cli(f"queue reset stats {DESK}")
            listener.poller.wake()
            wait_until("a snapshot shows the reset", lambda: bool(desk_resets_since(live, scripted.until)))
        delete_other_calls(live, scripted)
    with use_settings_of(server, folder / IMPORTED), open_app_engine() as imported:
        active = required_connection(imported, load_settings())
        queue_log = scripted.write_queue_log(folder / "queue_log")
        (result,) = import_queue_log_files(ImportRun(imported, active), [queue_log])
        assert (result.unreadable, result.unknown) == (0, {})
        assert import_cdr_file(ImportRun(imported, active), scripted.write_cdr(folder / "Master.csv")).unreadable == 0
    return LiveAndImported(scripted, folder)


def desk_resets_since(engine: Engine, since: datetime) -> list[Reset]:
    """The resets of the desk's counters since a moment."""
    with reading(engine) as session:
        return resets_of(session, 1, since - timedelta(seconds=1), since + timedelta(hours=1), DESK)


def store_snapshot(server: LabServer, folder: Path) -> None:
    """Store a snapshot: files lack the service level's target, the trunks and the names of agents' interfaces."""
    with use_settings_of(server, folder / IMPORTED), open_app_engine() as engine:
        collect_snapshot(engine, required_connection(engine, load_settings()), output=None)


@contextmanager
def use_settings_of(server: LabServer, folder: Path) -> Iterator[None]:
    """Set the app's PBX and data directory for the duration of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PBX_DATA_DIR", str(folder))
        for name, value in environment(server).items():
            patch.setenv(name, value)
        yield


@contextmanager
def open_app_engine() -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def delete_other_calls(engine: Engine, scripted: ScriptedCalls) -> None:
    """Delete the calls that other tests placed on the server at the same time."""
    with writing(engine) as session:
        scripted_ids = select(CallRow.id).where(col(CallRow.linkedid).in_(scripted.linkedids))
        for query in (
            delete(LegRow).where(col(LegRow.call_id).not_in(scripted_ids)),
            delete(CallRow).where(col(CallRow.linkedid).not_in(scripted.linkedids)),
            *(delete(table).where(col(table.queue) != DESK) for table in (VisitRow, RingRow, AgentEventRow)),
        ):
            session.connection().execute(query)
