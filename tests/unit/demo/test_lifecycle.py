"""The demo with real processes: it starts, restarts after being killed, and is removed completely."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from pbx.analytics.coverage import queue_coverage
from pbx.asterisk.ami.client import AmiClient
from pbx.demo import lifecycle, process
from pbx.demo.lifecycle import (
    DemoState,
    demo_alive,
    demo_dir,
    demo_state,
    ensure_demo,
    is_unconfigured,
    remove_demo,
    start_demo,
    was_removed,
)
from pbx.errors import DataError, SettingsError
from pbx.process_lock import try_process_lock
from pbx.settings import DEMO_MARK, DEMO_PBX, Connection, Settings, load_folder_settings, load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.job_queue import worker_alive
from pbx.store.pbx_connections import save_connection

PATIENCE_S = 90.0  # for a busy machine
FOUND = "SELECT group_concat(quote(id) || quote(host) || quote(ami_password_encrypted)) FROM connections"


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def real(no_real_data: Path) -> Iterator[Settings]:
    settings = load_folder_settings()
    assert settings.pbx_data_dir == no_real_data
    yield settings
    remove_demo(settings)
    wait_for(lambda: not demo_alive(settings), "the demo's process ends")


def count(settings: Settings, query: str) -> int:
    database = sqlite3.connect(settings.pbx_data_dir / "pbx.sqlite")
    try:
        return int(database.execute(query).fetchone()[0])
    finally:
        database.close()


def test_the_demo_starts_restarts_after_being_killed_and_is_removed(real: Settings) -> None:
    assert demo_state(real) == DemoState("off")
    start_demo(real)
    start_demo(real)  # a second request starts no second process
    assert demo_state(real).status == "preparing"
    wait_for(lambda: load_settings().demo_id, demo_state(real).error)
    demo = load_settings()
    assert demo.home_dir == real.pbx_data_dir
    _assert_complete(demo)
    first = json.loads((demo_dir(real) / DEMO_PBX).read_text())
    assert (demo_dir(real) / DEMO_PBX).stat().st_mode & 0o077 == 0
    for file in (one for one in demo_dir(real).rglob("*") if one.is_file()):
        assert file.name == DEMO_PBX or first["password"].encode() not in file.read_bytes(), file.name

    wait_for(lambda: worker_alive(demo), "a worker begins")
    lifecycle._started[-1].kill()
    wait_for(lambda: not demo_alive(real), "it is dead")
    wait_for(lambda: not worker_alive(demo), "its worker ends automatically")
    assert load_settings().demo_id == demo.demo_id  # the pages still show the stored data
    calls = count(demo, "SELECT count(*) FROM calls")
    ensure_demo(demo)
    wait_for(lambda: (demo_dir(real) / DEMO_PBX).exists() and worker_alive(demo), "it lives again")
    again = load_settings()
    assert again.demo_id == demo.demo_id
    assert again.connection is not None
    assert demo.connection is not None
    assert again.connection.ami_password != demo.connection.ami_password
    assert count(demo, "SELECT count(*) FROM calls") >= calls
    _assert_complete(again)

    remove_demo(real)
    assert not demo_alive(real)
    assert sorted(file.name for file in real.pbx_data_dir.iterdir()) == [
        ".process-locks",
        "demo-0.lock",
        "demo-left",
        "demo-start.lock",
    ]
    assert load_settings().demo_id == ""
    assert was_removed(real)


def _assert_complete(demo: Settings) -> None:
    """Assert that the demo's PBX answers and that its last week has no gap."""
    assert demo.connection is not None
    with AmiClient.connect(demo.connection) as client:
        assert not client.submit("CoreStatus").result().failed
    engine = open_engine(demo)
    now = datetime.now(UTC)
    try:
        with reading(engine) as session:
            covered = queue_coverage(session, 1, now - timedelta(days=7), now - timedelta(minutes=1))
    finally:
        engine.dispose()
    assert covered.gaps == ()
    assert count(demo, "SELECT count(*) FROM queue_visits WHERE joined_at > unixepoch() - 7 * 86400") > 1000
    # A starting listener marks visits that end at that moment as unknown, until the gap is filled.
    wait_for(lambda: not count(demo, "SELECT count(*) FROM queue_visits WHERE outcome = 'unknown'"), "none is lost")
    assert count(demo, "SELECT count(*) FROM transcripts WHERE current") == 12
    twice = "SELECT count(*) FROM (SELECT 1 FROM queue_visits GROUP BY uniqueid, queue HAVING count(*) > 1)"
    assert count(demo, twice) == 0


def test_the_demo_is_removed_while_it_is_being_prepared(real: Settings) -> None:
    start_demo(real)
    remove_demo(real)
    assert not demo_alive(real)
    assert not demo_dir(real).exists()
    assert load_settings().demo_id == ""


def test_removing_a_demo_that_does_not_exist_creates_no_files(real: Settings) -> None:
    assert not real.pbx_data_dir.exists()
    remove_demo(real)
    assert not real.pbx_data_dir.exists()


def test_the_database_is_closed_before_its_folder_is_deleted(real: Settings) -> None:
    folder = demo_dir(real)
    folder.mkdir(parents=True)
    engine = open_engine(Settings(_env_file=None, pbx_data_dir=folder, pbx_database_url=None))
    with reading(engine) as session:
        session.connection()
    remove_demo(real)
    assert not folder.exists()
    engine.dispose()


def test_no_demo_starts_if_a_pbx_is_set_up(real: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_unconfigured(real)
    assert not real.pbx_data_dir.exists()  # the question creates no cache
    engine = open_engine(real)
    assert is_unconfigured(real)
    saved = Connection(host="pbx.example.com", ami_port=5038, ari_port=8088, ami_password=SecretStr("secret"))
    save_connection(engine, real, saved)
    engine.dispose()
    assert not is_unconfigured(real)
    with pytest.raises(SettingsError, match="A PBX is set up"):
        start_demo(real)
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example.com")
    assert not is_unconfigured(load_folder_settings())


def test_an_unfinished_folder_of_a_killed_process_is_no_demo(real: Settings) -> None:
    folder = demo_dir(real)
    folder.mkdir(parents=True)
    (folder / "pbx.sqlite").write_bytes(b"half a database")
    (folder / "preparing.json").write_text(json.dumps({"done": 0.5}))
    (folder / DEMO_PBX).write_text("{")
    assert load_settings().demo_id == ""
    assert demo_state(real) == DemoState("off")


def test_an_error_during_preparation_is_reported(real: Settings) -> None:
    folder = demo_dir(real)
    folder.mkdir(parents=True)
    (folder / "preparing.json").write_text(json.dumps({"error": "Not enough disk space."}))
    assert demo_state(real) == DemoState("off", 0.0, "Not enough disk space.")


def test_a_second_process_is_refused(real: Settings) -> None:
    lock = try_process_lock(real.home_dir, "demo-0")
    assert lock is not None
    with lock, pytest.raises(DataError, match="already running"):
        process.run_demo(real, threading.Event())


def test_a_folder_with_another_history_is_replaced(real: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of another version may not fit."""
    monkeypatch.setattr(process, "FIRST_HISTORY_LENGTH", timedelta(hours=2))
    monkeypatch.setattr(process, "HISTORY_LENGTH", timedelta(hours=3))
    folder = demo_dir(real)
    folder.mkdir(parents=True)
    (folder / DEMO_MARK).write_text("0-of-old")
    (folder / "pbx.sqlite").write_bytes(b"not a database")
    stop, ports = threading.Event(), list[int]()

    def ready(*chosen: int) -> None:
        ports.extend(chosen)
        stop.set()

    process.run_demo(real, stop, ready=ready)
    assert len(set(ports)) == 2
    demo = load_settings()
    assert demo.demo_id not in ("", "0-of-old")
    assert count(demo, "SELECT count(*) FROM transcripts") == 12
    assert not (folder / DEMO_PBX).exists()  # the process has stopped
