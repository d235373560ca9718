"""`collect` stores real Asterisk's replies in the cache, and writes them to a file completely or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, func
from sqlmodel import select

from pbx.errors import AmiLoginError, DataError, StorageFull, Unreachable
from pbx.live.collect import collect_snapshot, write_atomically
from pbx.settings import Connection, load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import ExtensionSample, MemberSample, QueueSample, SnapshotRow, TrunkSample
from pbx.store.pbx_connections import ActiveConnection, active_connection, save_connection
from pbx.store.snapshots import latest_snapshot
from tests.operating_systems import file_size_limit
from tests.unit.asterisk.ami.replay_server import VERSIONS, Session, replay


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def save_as_active(engine: Engine, connection: Connection) -> ActiveConnection:
    save_connection(engine, load_settings(), connection)
    active = active_connection(engine, load_settings())
    assert active is not None
    return active


def row_count(engine: Engine, model: type) -> int:
    with reading(engine) as session:
        return session.exec(select(func.count()).select_from(model)).one()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_snapshot_is_stored_and_written_to_the_file(engine: Engine, tmp_path: Path, version: int) -> None:
    output = tmp_path / "out" / "freepbx.json"
    with replay(version=version) as server:
        active = save_as_active(engine, server.connection())
        snapshot = collect_snapshot(engine, active, output=output)
    with reading(engine) as session:
        assert latest_snapshot(session, active.id) == snapshot
    assert row_count(engine, QueueSample) == 3
    assert row_count(engine, TrunkSample) == len(snapshot.trunks)
    assert row_count(engine, MemberSample) == sum(len(queue.members) for queue in snapshot.queues)
    written = json.loads(output.read_text(encoding="utf-8"))
    assert datetime.fromisoformat(written["collected_at"]) == snapshot.taken_at
    assert datetime.fromisoformat(written["collected_at"]).tzinfo == UTC
    assert written["system_info"]["version"].startswith(f"{version}.")
    assert written["system_info"]["uptime"].count(":") == 2
    assert {"extension": "1003", "tech": "PJSIP", "status": "Unavailable"}.items() <= written["extensions"][2].items()
    assert {"carrier": "registered", "badcarrier": "rejected"}.items() <= {
        trunk["name"]: trunk["state"] for trunk in written["trunks"] if trunk["tech"]
    }.items()
    support = next(queue for queue in written["queues"] if queue["name"] == "support")
    assert support["calls"] == 2
    assert {"name", "interface", "status", "paused"} <= support["members"][0].keys()
    assert {"channel", "caller_id", "state"} <= written["active_calls"][0].keys()
    assert 'Zoë "Zo" <O\'Brien> 日本' in output.read_text(encoding="utf-8").replace('\\"', '"')


def test_no_secret_of_the_pbx_reaches_the_file_or_the_cache(engine: Engine, tmp_path: Path) -> None:
    output = tmp_path / "freepbx.json"
    with replay() as server:
        collect_snapshot(engine, save_as_active(engine, server.connection()), output=output)
    engine.dispose()
    for file in (output, *load_settings().pbx_data_dir.iterdir()):
        for secret in (b"lab-trunk-secret", b"lab-ami-secret", b"lab-phone-secret"):
            assert secret not in file.read_bytes(), file


def test_without_an_output_only_the_cache_is_written(engine: Engine, no_real_data: Path) -> None:
    with replay() as server:
        collect_snapshot(engine, save_as_active(engine, server.connection()), output=None)
    assert row_count(engine, SnapshotRow) == 1
    assert list(no_real_data.glob("*.json")) == []


def test_missing_permissions_are_written_as_denied_and_not_as_empty_lists(engine: Engine, tmp_path: Path) -> None:
    output = tmp_path / "freepbx.json"
    with replay(prefix="denied-") as server:
        snapshot = collect_snapshot(engine, save_as_active(engine, server.connection()), output=output)
    assert snapshot.parts["trunks"].state == "denied"
    assert row_count(engine, SnapshotRow) == 1
    assert row_count(engine, TrunkSample) == row_count(engine, ExtensionSample) == 0
    assert row_count(engine, QueueSample) == 3  # Asterisk requires no permission for these
    written = json.loads(output.read_text(encoding="utf-8"))
    assert written["parts"]["trunks"]["state"] == "denied"
    assert written["system_info"]["version"] is None


def refuse(session: Session) -> None:
    session.log_in("login-wrong-secret")


def hang_up(session: Session) -> None:
    session.log_in()
    session.next_action()


@pytest.mark.parametrize(("script", "error"), [(refuse, AmiLoginError), (hang_up, Unreachable)])
def test_an_unreachable_pbx_changes_neither_the_cache_nor_the_file(
    engine: Engine, tmp_path: Path, script: object, error: type[Exception]
) -> None:
    output = tmp_path / "freepbx.json"
    output.write_text("{}")
    with replay(script) as server, pytest.raises(error):  # type: ignore[arg-type]
        collect_snapshot(engine, save_as_active(engine, server.connection()), output=output)
    assert row_count(engine, SnapshotRow) == 0
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["freepbx.json"]
    assert output.read_text(encoding="utf-8") == "{}"


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    output = tmp_path / "freepbx.json"
    write_atomically(output, "old")
    with file_size_limit(1000), pytest.raises(DataError, match=r"freepbx\.json can't be written") as caught:
        write_atomically(output, "x" * 100_000)
    assert "--output" in caught.value.fix
    assert output.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["freepbx.json"]


def test_a_full_disk_raises_storage_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match="Not enough disk space"):
        write_atomically(tmp_path / "freepbx.json", "new")
    assert [file for file in tmp_path.iterdir() if file.is_file()] == []


def test_a_file_with_the_output_folders_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="can't be written") as caught:
        write_atomically(tmp_path / "out" / "freepbx.json", "new")
    assert "--output" in caught.value.fix


def test_the_file_is_readable_by_others_unless_private(tmp_path: Path) -> None:
    write_atomically(tmp_path / "freepbx.json", "ä")
    assert (tmp_path / "freepbx.json").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "freepbx.json").read_bytes() == "ä".encode()
    write_atomically(tmp_path / "new" / "folder" / "freepbx.json", "ä")
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o755
    write_atomically(tmp_path / "freepbx.json", "ä", private=True)
    assert (tmp_path / "freepbx.json").stat().st_mode & 0o777 == 0o600
