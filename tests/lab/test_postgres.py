"""The cache on a real PostgreSQL, where it differs from SQLite. tests/unit/store has the common tests."""

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from pbx.errors import DataError, NewerDatabase, StorageFull
from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import Job, PbxConnection, Table
from tests.lab.postgres import PASSWORD, drop_tables, postgres
from tests.paths import ROOT
from tests.unit.store.test_migrations import (
    MODELS_ONLY,
    upgrade_calls_stored_live,
    upgrade_packed_days,
    upgrade_stored_values,
)

__all__ = ["postgres"]
pytestmark = pytest.mark.lab


@pytest.fixture
def settings(postgres: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    drop_tables(postgres)
    monkeypatch.setenv("PBX_DATABASE_URL", postgres)
    return load_settings()


def test_the_migrations_create_the_tables_of_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=MODELS_ONLY), Table.metadata) == []


def test_an_upgrade_adds_queues_to_calls_that_were_stored_live(settings: Settings) -> None:
    upgrade_calls_stored_live(settings)


def test_an_upgrade_renames_stored_values_of_earlier_versions(settings: Settings) -> None:
    upgrade_stored_values(settings)


def test_an_upgrade_replaces_packed_days(settings: Settings) -> None:
    upgrade_packed_days(settings)


def test_processes_that_start_and_write_at_the_same_time_lose_nothing(settings: Settings) -> None:
    code = (
        "from pbx.settings import load_settings\nfrom pbx.store.engine import *\n"
        "from pbx.store.models import PbxConnection\nfrom sqlmodel import select\n"
        "e = open_engine(load_settings())\n"
        "for turn in range(50):\n"
        "    with writing(e) as s:\n"
        "        row = s.exec(select(PbxConnection)).one_or_none() or PbxConnection(host='pbx', ari_port=0)\n"
        "        row.ari_port += 1\n"
        "        s.add(row)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(5)]
    assert [process.wait(timeout=100) for process in processes] == [0] * 5
    engine = open_engine(settings)
    with reading(engine) as session:
        row = session.get(PbxConnection, 1)
    engine.dispose()
    assert row is not None
    assert row.ari_port == 250


def test_reading_cannot_write(engine: Engine) -> None:
    def write() -> None:
        with reading(engine) as session:
            session.add(Job(id="one", kind="sync"))
            session.commit()

    with pytest.raises(DataError, match="read-only transaction"):
        write()


def test_a_newer_database_is_refused(settings: Settings, engine: Engine) -> None:
    with writing(engine) as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match="newer version"):
        open_engine(settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [((PASSWORD, "another-s3cret"), "refuses the login"), (("/postgres", "/nowhere"), "refuses the login")],
)
def test_a_refusal_is_reported_without_the_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, str], message: str
) -> None:
    monkeypatch.setenv("PBX_DATABASE_URL", str(settings.database_url).replace(*wrong))
    with pytest.raises(DataError, match=message) as caught:
        open_engine(load_settings())
    assert "PBX_DATABASE_URL" in caught.value.fix
    for secret in (PASSWORD, "another-s3cret"):
        assert secret not in f"{caught.value.advice} {caught.value!r}"


def test_a_full_disk_is_reported(engine: Engine) -> None:
    raise_disk_full = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    with pytest.raises(StorageFull, match="not enough disk space"), writing(engine) as session:
        session.connection().exec_driver_sql(raise_disk_full)


def test_a_lost_connection_is_reported_and_opened_again(engine: Engine) -> None:
    with pytest.raises(DataError, match="can't be used"), writing(engine) as session:
        session.connection().exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    with writing(engine) as session:  # the next transaction connects again
        session.add(Job(id="one", kind="sync"))
