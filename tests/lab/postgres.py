"""A private PostgreSQL cluster on loopback. It is deleted after the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from pbx.settings import Settings
from pbx.store.engine import open_engine

PASSWORD = "lab-db-secret"


def bin_dir() -> Path:
    """The folder of the newest PostgreSQL's programs, where Debian's package installs them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql.", pytrace=False)
    return found[-1].parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run(*command: str | Path) -> None:
    # PostgreSQL refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*as_user, *command], check=True, capture_output=True, text=True, cwd="/tmp", timeout=60)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL, with password, of an empty database in a running cluster."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-postgres-"))
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    port, data, tools = free_port(), folder / "data", bin_dir()
    authentication = ["-U", "notebook", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    try:
        run(tools / "initdb", "-D", data, "-N", "-E", "UTF8", "--locale=C.UTF-8", *authentication)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run(tools / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
        try:
            yield f"postgresql+psycopg://notebook:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run(tools / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cache_of_postgres(postgres: str) -> str:
    """The URL of the database with the app's tables, which are created once: that takes a third of a second."""
    open_engine(Settings(_env_file=None, pbx_database_url=SecretStr(postgres))).dispose()
    return postgres


def truncate_tables(url: str) -> str:
    """Empty all of the app's tables, and return the URL again."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        names = connection.execute(
            "SELECT string_agg(tablename, ', ') FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename != 'alembic_version'"
        ).fetchone()
        assert names
        connection.execute(f"TRUNCATE {names[0]} RESTART IDENTITY".encode())
    return url


def drop_tables(url: str) -> None:
    """Drop all tables of the database."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
