"""Import jobs: uploads are recognized, imported and deleted, and the database is imported on schedule."""

import gzip
import io
import os
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import func, select

from pbx.errors import DataError, SettingsError, UnreadableFile
from pbx.imports import preview as preview_module
from pbx.imports.file_types import kind_of
from pbx.imports.job import import_history
from pbx.imports.preview import TablePreview, preview_history
from pbx.imports.uploads import safe_name, save_uploads
from pbx.jobs.worker import run_worker
from pbx.settings import Settings
from pbx.store import job_queue
from pbx.store.engine import reading, writing
from pbx.store.import_source import forget_history_source, history_source, save_history_source, schedule_slot
from pbx.store.models import Job, SealedDay, VisitRow
from pbx.store.pbx_connections import ActiveConnection, active_connection, forget_saved
from tests.unit.asterisk.formats.sample_queue_logs import T, lines

VISIT = ("0|9.1|sales|NONE|ENTERQUEUE||555|1", "3|9.1|sales|NONE|ABANDON|1|1|3")
RECORD = (
    '"","1001","1002","from-internal","""Eve"" <1001>","PJSIP/1001-00000001","PJSIP/1002-00000002","Dial","x",'
    '"2026-03-02 12:00:00","2026-03-02 12:00:05","2026-03-02 12:01:00",60,55,"ANSWERED","DOCUMENTATION",'
    '"1772452800.1",""\n'
)
SECRET = "s3cret-of-the-database"


@pytest.fixture
def active(engine: Engine, settings: Settings) -> ActiveConnection:
    found = active_connection(engine, settings)
    assert found is not None
    return found


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database of a PBX, with one call and one visit."""
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table cdr (calldate, src, dst, channel, dstchannel, duration, billsec, uniqueid)")
        connection.execute(
            "insert into cdr values ('2026-03-02 12:00:00', '1', '2', 'PJSIP/1-1', 'PJSIP/2-1', 9, 5, '1772452800.1')"
        )
        connection.execute("create table queuelog (time, callid, queuename, agent, event, data)")
        connection.execute(f"insert into queuelog values ('{T}', '9.1', 'sales', 'NONE', 'ENTERQUEUE', '|555|1')")
    connection.close()
    return path


def queue_log(*events: str) -> bytes:
    return b"\n".join(lines(*events)) + b"\n"


def upload(settings: Settings, **files: bytes) -> list[str]:
    return [str(path) for path in save_uploads(settings, [(name, io.BytesIO(text)) for name, text in files.items()])]


def run_import(engine: Engine, settings: Settings, active: ActiveConnection, **options: Any) -> dict[str, Any]:
    return import_history(engine, settings, active, options, None, threading.Event())


def visit_count(engine: Engine) -> int:
    with reading(engine) as session:
        return session.exec(select(func.count()).select_from(VisitRow)).one()


def remaining_uploads(settings: Settings) -> list[Path]:
    return [path for path in settings.imports_dir.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "file"),
        ("", "file"),
        (".hidden", "hidden"),
        ("queue_log\0.gz\n", "queue_log_.gz_"),
        ("Über log.gz", "Über log.gz"),
        ("x" * 300, "x" * 80),
    ],
)
def test_an_uploads_name_cannot_leave_the_uploads_folder(settings: Settings, name: str, safe: str) -> None:
    assert safe_name(name) == safe
    (path,) = save_uploads(settings, [(name, io.BytesIO(b"x"))])
    assert path.is_file()
    assert path.is_relative_to(settings.imports_dir.resolve())


def test_a_files_kind_is_recognized_by_its_content(settings: Settings) -> None:
    paths = upload(
        settings, a=queue_log(*VISIT), b=RECORD.encode(), c=gzip.compress(RECORD.encode()), d=b"\xffodd" * 99
    )
    assert [kind_of(Path(path)) for path in paths[:3]] == ["queue_log", "cdr", "cdr"]
    with pytest.raises(UnreadableFile, match="neither a queue_log nor a CDR"):
        kind_of(Path(paths[3]))


def test_several_files_are_imported_counted_and_deleted(
    engine: Engine, settings: Settings, active: ActiveConnection
) -> None:
    log = queue_log(*VISIT)
    files = upload(settings, queue_log=log + b"nonsense\n", packed=gzip.compress(log), Master=RECORD.encode(), odd=b"?")
    progress: list[tuple[int, int | None]] = []
    result = import_history(
        engine,
        settings,
        active,
        {"files": files},
        lambda done, total: progress.append((done, total)),
        threading.Event(),
    )
    assert {name: result[name] for name in ("rows", "unreadable", "visits", "calls", "legs")} == {
        "rows": 6, "unreadable": 1, "visits": 1, "calls": 1, "legs": 1,
    }  # fmt: skip
    by_name = {source["source"]: source for source in result["sources"]}
    assert by_name["queue_log"]["errors"] == [(3, "1 fields where queue_log has 5 or more: nonsense")]
    assert "neither" in by_name["odd"]["failure"]
    assert str(settings.imports_dir.resolve()) not in str(result)
    assert progress[-1][0] == progress[-1][1]
    assert remaining_uploads(settings) == []
    with reading(engine) as session:
        assert {one.dataset for one in session.exec(select(SealedDay))} >= {"calls", "queue_visits"}


def test_a_file_imported_before_adds_nothing(engine: Engine, settings: Settings, active: ActiveConnection) -> None:
    for rows in (2, 0):
        assert run_import(engine, settings, active, files=upload(settings, queue_log=queue_log(*VISIT)))["rows"] == rows
    assert visit_count(engine) == 1


def test_a_job_without_any_readable_file_fails(engine: Engine, settings: Settings, active: ActiveConnection) -> None:
    with pytest.raises(DataError, match="Nothing could be read from odd: it is neither"):
        run_import(engine, settings, active, files=upload(settings, odd=b"?"))
    assert remaining_uploads(settings) == []


def test_files_other_than_uploads_are_not_deleted(
    engine: Engine, settings: Settings, active: ActiveConnection, tmp_path: Path
) -> None:
    log = tmp_path / "a/b/queue_log"
    log.parent.mkdir(parents=True)
    log.write_bytes(queue_log(*VISIT))
    run_import(engine, settings, active, files=[str(log)])
    assert log.exists()


def test_a_requeued_job_still_has_its_files(engine: Engine, settings: Settings, active: ActiveConnection) -> None:
    files = upload(settings, queue_log=queue_log(*VISIT))
    stopped = threading.Event()
    stopped.set()
    import_history(engine, settings, active, {"files": files}, None, stopped)
    assert len(remaining_uploads(settings)) == 1
    assert run_import(engine, settings, active, files=files)["visits"] == 1


def test_old_uploads_without_a_job_are_deleted(engine: Engine, settings: Settings, active: ActiveConnection) -> None:
    old, queued, recent = (upload(settings, queue_log=queue_log(*VISIT)) for _ in range(3))
    job_queue.request_job(engine, settings, "import", requested_by="page", options={"files": queued})
    for path in (*old, *queued):
        folder = Path(path).parent.parent
        os.utime(folder, (time.time() - 100_000,) * 2)
    run_import(engine, settings, active, files=upload(settings, queue_log=queue_log(*VISIT)))
    assert sorted(map(str, remaining_uploads(settings))) == sorted([*queued, *recent])


def test_the_worker_runs_each_import_job(engine: Engine, settings: Settings) -> None:
    files = [upload(settings, queue_log=queue_log(event)) for event in VISIT]
    for one in files:  # two uploads are two jobs
        job_queue.request_job(engine, settings, "import", requested_by="page", options={"files": one})
    run_worker(settings, once=True)
    with reading(engine) as session:
        jobs = session.exec(select(Job).where(Job.kind == "import")).all()
        assert [(job.state, job.result["rows"]) for job in jobs] == [("done", 1), ("done", 1)]
        assert [visit.outcome for visit in session.exec(select(VisitRow))] == ["abandoned"]
    assert remaining_uploads(settings) == []


def test_the_database_is_imported_from_the_tables_it_has(
    engine: Engine, settings: Settings, active: ActiveConnection, database: Path
) -> None:
    address = f"sqlite:///{database}"
    newest = datetime(2026, 3, 2, 12)  # noqa: DTZ001 - local time, as in the table
    previews = {"cdr": TablePreview(1, newest=newest), "queuelog": TablePreview(1)}
    assert preview_history(engine, active, address) == previews
    with pytest.raises(SettingsError, match="No database of the PBX is known"):
        run_import(engine, settings, active)
    configured = settings.model_copy(update={"pbx_import_url": SecretStr(address)})
    result = run_import(engine, configured, active)
    assert [source["kind"] for source in result["sources"]] == ["cdr", "queue_log"]
    assert (result["rows"], result["calls"], result["visits"]) == (2, 1, 1)
    assert run_import(engine, configured, active)["rows"] == 0
    assert [preview.new for preview in preview_history(engine, active, address).values()] == [0, 0]
    with pytest.raises(DataError, match="no table of history"):
        preview_history(engine, active, f"sqlite:///{settings.pbx_data_dir / 'pbx.sqlite'}")


def test_a_preview_of_an_endless_table_has_no_count(
    engine: Engine, active: ActiveConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's preview of an endless CDR table ends at the time limit and still lists the tables."""
    monkeypatch.setattr(preview_module, "STATEMENT_TIMEOUT_S", 0.1)
    with sqlite3.connect(tmp_path / "endless.sqlite") as connection:
        connection.execute(
            "create view cdr as with recursive n (uniqueid) as (select 1 union all select uniqueid + 1 from n) "
            "select '2026-03-02 12:00:00' as calldate, uniqueid from n"
        )
        connection.execute("create table queuelog (time, callid, queuename, agent, event, data)")
    connection.close()
    previews = preview_history(engine, active, f"sqlite:///{tmp_path}/endless.sqlite")
    assert previews == {"cdr": TablePreview(None), "queuelog": TablePreview(0)}


def test_the_saved_address_is_encrypted_and_overrides_the_environment(
    engine: Engine, settings: Settings, active: ActiveConnection
) -> None:
    address = SecretStr(f"mysql://u:{SECRET}@h/asteriskcdrdb")
    configured = settings.model_copy(update={"pbx_import_url": SecretStr("sqlite:///other")})
    with writing(engine) as session:
        save_history_source(session, configured, active.id, address=address, every="hour")
        save_history_source(session, configured, active.id, address=None, every="night")
    with reading(engine) as session:
        saved = history_source(session, configured, active.id)
    assert (saved.address, saved.saved, saved.every) == (address, True, "night")
    engine.dispose()
    for file in settings.pbx_data_dir.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    with writing(engine) as session:
        forget_history_source(session, active.id)
        saved = history_source(session, configured, active.id)
    assert (saved.address.get_secret_value(), saved.saved, saved.every) == ("sqlite:///other", False, "")


def test_deleting_the_connection_settings_deletes_the_address(
    engine: Engine, settings: Settings, active: ActiveConnection
) -> None:
    with writing(engine) as session:
        save_history_source(session, settings, active.id, address=SecretStr("sqlite:///x"), every="hour")
    forget_saved(engine)
    with reading(engine) as session:
        assert not history_source(session, settings, active.id)


def test_the_database_is_imported_on_schedule(engine: Engine, settings: Settings, active: ActiveConnection) -> None:
    def imports(at: datetime) -> int:
        job_queue.schedule_jobs(engine, settings, active, at)
        with writing(engine) as session:
            jobs = session.exec(select(Job).where(Job.kind == "import")).all()
            for job in jobs:
                job.state = "done"
                session.add(job)
            return len(jobs)

    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    with writing(engine) as session:
        save_history_source(session, settings, active.id, address=None, every="hour")
    assert imports(noon) == 0  # no address is set
    with writing(engine) as session:
        save_history_source(session, settings, active.id, address=SecretStr("sqlite:///x"), every="hour")
    assert [imports(noon + timedelta(minutes=minutes)) for minutes in (0, 1, 59, 60, 61)] == [1, 1, 1, 2, 2]
    with writing(engine) as session:
        save_history_source(session, settings, active.id, address=None, every="")
    assert imports(noon + timedelta(days=3)) == 2


def test_a_night_is_in_the_pbx_time_zone_and_occurs_once_when_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    change = datetime(2026, 10, 25, 0, tzinfo=UTC)  # 02:00 summer time; an hour later it is 02:00 again
    slots = [schedule_slot("night", change + timedelta(hours=hours), berlin) for hours in (-1, 0, 1, 24, 25)]
    assert slots == ["2026-10-24", "2026-10-25", "2026-10-25", "2026-10-25", "2026-10-26"]


def test_a_command_line_import_finds_its_address_by_its_label(
    engine: Engine, settings: Settings, active: ActiveConnection, database: Path
) -> None:
    """The job doesn't contain the address, which has a password, so another worker may not know it."""
    label = f"sqlite:///{database}"
    with pytest.raises(SettingsError, match=r"The password of the database .+ was not kept"):
        run_import(engine, settings, active, database=label)
    given = settings.model_copy(update={"pbx_import_url": SecretStr(label)})
    result = run_import(engine, given, active, database=label, kind="queue_log")
    assert [source["kind"] for source in result["sources"]] == ["queue_log"]
