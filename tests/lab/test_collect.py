"""Collecting snapshots from real Asterisk, and the cache on a full or read-only disk."""

import errno
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlmodel import func, select

from pbx.analytics.trunk_status import trunk_history
from pbx.errors import AmiLoginError, DataError, StorageFull, Unreachable
from pbx.live.collect import collect_snapshot, write_atomically
from pbx.settings import Connection, load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import ExtensionSample, Job, MemberSample, QueueSample, SnapshotRow, TrunkSample
from pbx.store.pbx_connections import active_connection, save_connection
from pbx.store.snapshots import latest_snapshot, queue_history
from tests.lab.calls import place_queue_call
from tests.lab.servers import LabServer

pytestmark = pytest.mark.lab
FILLER = "x" * 10_000


def collect(connection: Connection, output: Path | None = None) -> None:
    settings = load_settings()
    engine = open_engine(settings)
    try:
        save_connection(engine, settings, connection)
        active = active_connection(engine, settings)
        assert active is not None
        collect_snapshot(engine, active, output=output)
    finally:
        engine.dispose()


def fill(disk: Path, *, step: int = 4096) -> None:
    """Fill a disk until it has no free space."""
    try:
        with (disk / "filler").open("wb", buffering=0) as file:
            while file.write(b"x" * step):
                pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def write_jobs(count: int) -> None:
    engine = open_engine(load_settings())
    try:
        for _ in range(count):
            with writing(engine) as session:
                session.add(Job(id=str(uuid4()), kind="sync", error=FILLER))
    finally:
        engine.dispose()


def wait_for_the_next_second() -> None:
    """Wait, because only the first of two snapshots in one second is stored."""
    time.sleep(1.05 - time.time() % 1)


def counts() -> dict[str, int]:
    engine = open_engine(load_settings())
    with reading(engine) as session:
        rows = {
            model.__name__: session.exec(select(func.count()).select_from(model)).one()
            for model in (SnapshotRow, QueueSample, TrunkSample, MemberSample, ExtensionSample)
        }
    engine.dispose()
    return rows


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_snapshot_of_the_lab_is_written_without_secrets(server: LabServer, tmp_path: Path, tls: bool) -> None:
    output = tmp_path / "freepbx.json"
    collect(server.connection(tls=tls), output)
    written = json.loads(output.read_text())
    states = {trunk["name"]: trunk["state"] for trunk in written["trunks"]}
    assert states["carrier"] == "registered"
    assert states["badcarrier"] == "rejected"
    assert states["peer-down"] == "unreachable"
    assert {queue["name"] for queue in written["queues"]} == {"billing", "desk", "sales", "support"}
    assert {"1001", "1002", "1003", "1004"} <= {extension["extension"] for extension in written["extensions"]}
    assert not states.keys() & {extension["extension"] for extension in written["extensions"]}
    assert written["system_info"]["uptime"]
    for secret in ("lab-ami-secret", "lab-trunk-secret", "lab-phone-secret"):
        assert secret not in output.read_text()


def test_snapshots_become_history(server: LabServer) -> None:
    collect(server.connection())
    first = counts()
    place_queue_call(server, "answered", seconds=1)
    wait_for_the_next_second()
    collect(server.connection())
    second = counts()
    assert second["SnapshotRow"] == 2
    assert second["QueueSample"] == 2 * first["QueueSample"]
    assert second["TrunkSample"] == 2 * first["TrunkSample"]
    assert second["ExtensionSample"] < 2 * first["ExtensionSample"]
    engine = open_engine(load_settings())
    with reading(engine) as session:
        latest = latest_snapshot(session, 1)
        assert latest is not None
        span = (latest.taken_at.replace(hour=0), latest.taken_at.replace(year=latest.taken_at.year + 1))
        assert len(queue_history(session, 1, "sales", *span)) >= 1
        assert trunk_history(session, 1, "carrier", *span)[-1].state == "registered"
    engine.dispose()


def test_parts_that_a_user_may_not_read_are_not_stored_as_removed(server: LabServer, tmp_path: Path) -> None:
    collect(server.connection())
    before = counts()
    wait_for_the_next_second()
    clerk = server.connection().model_copy(update={"ami_username": "clerk"})
    collect(clerk, tmp_path / "freepbx.json")
    after = counts()
    assert after["SnapshotRow"] == 2
    assert after["ExtensionSample"] == before["ExtensionSample"]
    assert after["TrunkSample"] == before["TrunkSample"]
    parts = json.loads((tmp_path / "freepbx.json").read_text())["parts"]
    assert parts["trunks"]["state"] == "denied"
    assert parts["trunks"]["reason"]


@pytest.mark.parametrize(
    ("change", "error"),
    [({"ami_password": SecretStr("wrong")}, AmiLoginError), ({"ami_port": 9}, Unreachable)],
)
def test_a_failed_collection_changes_nothing(
    server: LabServer, tmp_path: Path, change: dict[str, object], error: type[Exception]
) -> None:
    output = tmp_path / "freepbx.json"
    collect(server.connection(), output)
    before, text = counts(), output.read_bytes()
    with pytest.raises(error):
        collect(server.connection().model_copy(update=change), output)
    assert counts() == before
    assert output.read_bytes() == text
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["freepbx.json"]


@pytest.fixture
def small_disk(no_real_data: Path) -> Iterator[Path]:
    """A data directory on a file system of 1 MB."""
    no_real_data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", no_real_data], check=True)
    yield no_real_data
    subprocess.run(["umount", "-l", no_real_data], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(small_disk: Path) -> None:
    write_jobs(5)
    with pytest.raises(StorageFull, match="Not enough disk space") as caught:
        write_jobs(200)
    assert "Free disk space" in caught.value.fix
    engine = open_engine(load_settings())
    with reading(engine) as session:
        written = session.exec(select(Job)).all()
    engine.dispose()
    assert len(written) > 5
    assert {job.error for job in written} == {FILLER}
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)  # free some space
    write_jobs(200)


def test_a_disk_that_is_full_at_the_start_is_reported(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(StorageFull, match="Not enough disk space"):
        open_engine(load_settings())


def test_a_snapshot_that_does_not_fit_on_the_disk_is_reported(
    server: LabServer, small_disk: Path, tmp_path: Path
) -> None:
    collect(server.connection(), small_disk / "freepbx.json")
    before = (small_disk / "freepbx.json").read_bytes()
    fill(small_disk, step=512)
    with pytest.raises(StorageFull):
        collect(server.connection(), small_disk / "freepbx.json")
    assert (small_disk / "freepbx.json").read_bytes() == before
    (small_disk / "filler").unlink()
    assert counts()["SnapshotRow"] >= 1


def test_a_read_only_data_directory_is_reported(small_disk: Path) -> None:
    write_jobs(1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(DataError) as caught:
        write_jobs(1)
    assert str(small_disk) in str(caught.value)
    assert "right to write" in caught.value.fix
    with pytest.raises(DataError, match=r"freepbx\.json can't be written"):
        write_atomically(small_disk / "freepbx.json", "{}")


def test_a_directory_that_turns_read_only_is_reported(small_disk: Path) -> None:
    engine = open_engine(load_settings())
    subprocess.run(["mount", "-o", "bind", small_disk, small_disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", small_disk], check=True)
    with pytest.raises(DataError, match="can't be") as caught:
        write_jobs(1)
    engine.dispose()
    subprocess.run(["umount", "-l", small_disk], check=True)
    assert "right to write" in caught.value.fix
