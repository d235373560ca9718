"""The database opens in any state, processes share it, and errors say why it can't be used."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from pbx.errors import DataError, NewerDatabase, SettingsError, StorageFull
from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.job_rows import add_job, get_job
from pbx.store.models import CallRow, Job, PbxConnection
from tests.operating_systems import file_size_limit
from tests.paths import ROOT


@pytest.fixture
def settings() -> Settings:
    """Settings for SQLite: these tests check what only SQLite does."""
    return load_settings()


def run_processes(code: str, count: int, *arguments: str) -> list[str]:
    """Run one program in several processes at the same time, in this test's data directory; return their outputs."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(count)
    ]
    outputs = [process.communicate(timeout=100)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count, "\n".join(outputs)
    return outputs


def scalar(engine: Engine, statement: str) -> object:
    with reading(engine) as session:
        return session.connection().exec_driver_sql(statement).scalar()


def fill(engine: Engine, *, pages: int | None = None) -> None:
    """Write more than a small disk holds, in one transaction."""
    with writing(engine) as session:
        if pages is not None:
            session.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        session.add_all(Job(id=f"{number}", kind="sync", error="x" * 200) for number in range(2000))


def test_opening_creates_the_data_directory_and_the_database(settings: Settings, engine: Engine) -> None:
    assert (settings.pbx_data_dir / "pbx.sqlite").is_file()
    assert scalar(engine, "PRAGMA journal_mode") == "wal"
    assert scalar(engine, "PRAGMA foreign_keys") == 1
    assert scalar(engine, "PRAGMA synchronous") == 1
    assert int(str(scalar(engine, "PRAGMA busy_timeout"))) >= 30_000


def test_rows_are_still_there_after_reopening(settings: Settings, engine: Engine) -> None:
    with writing(engine) as session:
        add_job(session, "one", "sync", connection_id=None, requested_by="test")
    engine.dispose()
    reopened = open_engine(settings)
    with reading(reopened) as session:
        assert get_job(session, "one") is not None
    reopened.dispose()


def test_an_error_while_writing_rolls_everything_back(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as session:
            add_job(session, "one", "sync", connection_id=None, requested_by="test")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    with reading(engine) as session:
        assert get_job(session, "one") is None


def test_a_foreign_key_without_its_row_is_refused(engine: Engine) -> None:
    with pytest.raises(IntegrityError), writing(engine) as session:
        session.add(CallRow(connection_id=99, linkedid="1"))


def test_a_reader_keeps_its_view_and_does_not_wait_for_writers(engine: Engine) -> None:
    with reading(engine) as before, writing(engine) as session:
        assert before.get(Job, "one") is None
        add_job(session, "one", "sync", connection_id=None, requested_by="test")
        session.commit()
        with reading(engine) as after:
            assert after.get(Job, "one") is not None
        assert before.connection().execute(text("SELECT count(*) FROM jobs")).scalar() == 0


def test_processes_that_start_at_the_same_time_create_one_database(settings: Settings) -> None:
    code = (
        "from pbx.settings import load_settings\nfrom pbx.store.engine import *\n"
        "e = open_engine(load_settings())\n"
        "with reading(e) as s: print(s.connection().exec_driver_sql('SELECT count(*) FROM jobs').scalar())"
    )
    assert [output.strip() for output in run_processes(code, 6)] == ["0"] * 6


def test_processes_that_write_at_the_same_time_get_no_lock_error(settings: Settings, engine: Engine) -> None:
    code = (
        "import sys\nfrom pbx.settings import load_settings\nfrom pbx.store.engine import *\n"
        "from pbx.store.models import PbxConnection\nfrom sqlmodel import select\n"
        "e = open_engine(load_settings())\n"
        "for turn in range(int(sys.argv[2])):\n"
        "    with writing(e) as s:\n"
        "        row = s.exec(select(PbxConnection)).one()\n"  # reading before writing fails with a deferred lock
        "        row.ari_port += 1\n"
        "        s.add(row)\n"
    )
    with writing(engine) as session:
        session.add(PbxConnection(host="pbx", ari_port=0))
    run_processes(code, 4, "50")
    assert scalar(engine, "SELECT ari_port FROM connections") == 200


def test_a_database_of_a_newer_version_is_refused_and_unchanged(settings: Settings, engine: Engine) -> None:
    with writing(engine) as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match="newer version") as caught:
        open_engine(settings)
    assert "Update the app" in caught.value.fix
    assert scalar(engine, "SELECT version_num FROM alembic_version") == "9999"


def test_the_error_names_a_file_that_is_not_a_database(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    file = settings.pbx_data_dir / "pbx.sqlite"
    file.write_text("A letter to the editor, long enough to be no header of any database at all." * 20)
    with pytest.raises(DataError, match=r"pbx\.sqlite is not a database") as caught:
        open_engine(settings)
    assert "PBX_DATA_DIR" in caught.value.fix
    assert file.read_text().startswith("A letter")


def test_a_damaged_database_raises_an_error(settings: Settings, engine: Engine) -> None:
    fill(engine)
    engine.dispose()
    file = settings.pbx_data_dir / "pbx.sqlite"
    content = bytearray(file.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    file.write_bytes(content)
    with pytest.raises(DataError, match="is damaged") as caught, reading(open_engine(settings)) as session:
        session.connection().exec_driver_sql("SELECT count(error) FROM jobs").scalar()
    assert "backup" in caught.value.fix


def test_the_error_names_a_file_in_place_of_the_data_directory(settings: Settings) -> None:
    settings.pbx_data_dir.write_text("")
    with pytest.raises(DataError, match=f"data directory {settings.pbx_data_dir} can't be made") as caught:
        open_engine(settings)
    assert "PBX_DATA_DIR" in caught.value.fix


def test_a_directory_in_place_of_the_database_raises_an_error(settings: Settings) -> None:
    (settings.pbx_data_dir / "pbx.sqlite").mkdir(parents=True)
    with pytest.raises(DataError, match="can't be opened"):
        open_engine(settings)


def test_a_full_disk_raises_an_error_and_keeps_earlier_rows(settings: Settings, engine: Engine) -> None:
    with writing(engine) as session:
        add_job(session, "before", "sync", connection_id=None, requested_by="test")
    with pytest.raises(StorageFull, match="Not enough disk space") as caught:
        fill(engine, pages=40)
    assert "Free disk space" in caught.value.fix
    with reading(engine) as session:
        assert get_job(session, "before") is not None
        assert get_job(session, "0") is None


def test_a_refused_write_raises_an_error_that_names_the_directory(settings: Settings, engine: Engine) -> None:
    with file_size_limit(200_000), pytest.raises(DataError) as caught:
        fill(engine)
    assert str(settings.pbx_data_dir) in str(caught.value)
    with reading(engine) as session:
        assert get_job(session, "0") is None


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:s3cret-value@host/name",
        "postgresql+nothing://user:s3cret-value@host/name",
        "postgresql://user:s3cret-value@host:port/name",
        "s3cret-value",
    ],
)
def test_the_error_of_an_unusable_address_hides_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PBX_DATABASE_URL", url)
    with pytest.raises(SettingsError, match="PBX_DATABASE_URL") as caught:
        open_engine(load_settings())
    assert "s3cret-value" not in f"{caught.value.advice} {caught.value!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_error_of_an_unreachable_database_hides_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PBX_DATABASE_URL", "postgresql://user:s3cret-value@127.0.0.1:1/name")
    with pytest.raises(DataError, match=r"127\.0\.0\.1 doesn't answer") as caught:
        open_engine(load_settings())
    assert "s3cret-value" not in f"{caught.value.advice} {caught.value!r}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "name", ["a?b", "a#b", "50%", "a%3Fb", "two words", "a?mode=memory&uri=true", "a;b", "ä'\"", "a&b=c", ":memory:"]
)
def test_a_data_directory_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    monkeypatch.setenv("PBX_DATA_DIR", str(folder))
    for _ in range(2):  # created, then opened again
        engine = open_engine(load_settings())
        with writing(engine) as session:
            session.add(Job(id=f"{id(engine)}", kind="sync"))
        engine.dispose()
    assert (folder / "pbx.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_data_directory_may_be_named_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBX_DATA_DIR", "file:data?mode=memory")
    open_engine(load_settings()).dispose()
    assert [path.name for path in tmp_path.iterdir()] == ["file:data?mode=memory"]
