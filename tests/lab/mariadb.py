"""A private MariaDB on loopback with FreePBX's CDR table. It is deleted after the tests."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.lab.postgres import free_port

PASSWORD = "l@b:cdr/s3cret"
QUOTED = "l%40b%3Acdr%2Fs3cret"  # the same, quoted for a URL
# As in FreePBX 16 (its module cdr). Over the years `uniqueid` and `linkedid` became wider and got indexes.
CDR_TABLE = """
CREATE TABLE cdr (
  calldate datetime NOT NULL DEFAULT '0000-00-00 00:00:00',
  clid varchar(80) NOT NULL DEFAULT '',
  src varchar(80) NOT NULL DEFAULT '',
  dst varchar(80) NOT NULL DEFAULT '',
  dcontext varchar(80) NOT NULL DEFAULT '',
  channel varchar(80) NOT NULL DEFAULT '',
  dstchannel varchar(80) NOT NULL DEFAULT '',
  lastapp varchar(80) NOT NULL DEFAULT '',
  lastdata varchar(80) NOT NULL DEFAULT '',
  duration int(11) NOT NULL DEFAULT 0,
  billsec int(11) NOT NULL DEFAULT 0,
  disposition varchar(45) NOT NULL DEFAULT '',
  amaflags int(11) NOT NULL DEFAULT 0,
  accountcode varchar(20) NOT NULL DEFAULT '',
  uniqueid varchar(32) NOT NULL DEFAULT '',
  userfield varchar(255) NOT NULL DEFAULT '',
  did varchar(50) NOT NULL DEFAULT '',
  recordingfile varchar(255) NOT NULL DEFAULT '',
  cnum varchar(80) NOT NULL DEFAULT '',
  cnam varchar(80) NOT NULL DEFAULT '',
  outbound_cnum varchar(80) NOT NULL DEFAULT '',
  outbound_cnam varchar(80) NOT NULL DEFAULT '',
  dst_cnam varchar(80) NOT NULL DEFAULT '',
  linkedid varchar(32) NOT NULL DEFAULT '',
  peeraccount varchar(80) NOT NULL DEFAULT '',
  sequence int(11) NOT NULL DEFAULT 0,
  KEY calldate (calldate),
  KEY dst (dst),
  KEY accountcode (accountcode),
  KEY uniqueid (uniqueid),
  KEY did (did),
  KEY recordingfile (recordingfile(191))
) ENGINE={engine} DEFAULT CHARSET=utf8mb4
"""


class MariaDb:
    """A running server. `address` is the URL for a read-only user, `certificate` its self-signed TLS certificate."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port, self.certificate = port, certificate
        self.address = f"mysql+pymysql://reader:{QUOTED}@127.0.0.1:{port}/asteriskcdrdb"

    def execute(self, *statements: str) -> None:
        """Run statements as the administrator."""
        with self._administrator() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS asteriskcdrdb")
            cursor.execute("USE asteriskcdrdb")
            for statement in statements:
                cursor.execute(statement)

    def insert(self, table: str, rows: list[dict[str, object]]) -> None:
        """Insert rows. All have the columns of the first one."""
        names = list(rows[0])
        into = f"INSERT INTO asteriskcdrdb.{table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"
        with self._administrator() as cursor:
            cursor.executemany(into, [[row[name] for name in names] for row in rows])

    @contextmanager
    def _administrator(self) -> Iterator[Any]:
        """Open a cursor for the administrator, in an SQL mode that accepts `0000-00-00`, as FreePBX's does."""
        with (
            pymysql.connect(
                host="127.0.0.1", port=self.port, user="admin", password=PASSWORD, autocommit=True, charset="utf8mb4"
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SET SESSION sql_mode = ''")
            yield cursor

    def fresh_cdr(self, engine: str = "InnoDB") -> None:
        """Create the CDR table again, empty."""
        self.execute("DROP TABLE IF EXISTS cdr", CDR_TABLE.format(engine=engine))


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
    if found is None:
        pytest.fail("MariaDB is not installed: apt-get install mariadb-server.", pytrace=False)
    return found


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A server for all tests. It uses none of the system's MariaDB files or services."""
    folder = Path(tempfile.mkdtemp(prefix="pbx-mariadb-"))
    port, user = free_port(), "mysql" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    as_user = [f"--user={user}"] if user else []
    data = [f"--datadir={folder / 'data'}", "--no-defaults"]
    install = [_program("mariadb-install-db"), data[1], data[0], *as_user, "--auth-root-authentication-method=normal"]
    server = None
    try:
        subprocess.run([*install, "--skip-test-db"], check=True, capture_output=True, timeout=120)
        files = [f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}", f"--log-error={folder / 'log'}"]
        certificate, key = _make_certificate(folder)
        files += [f"--ssl-cert={certificate}", f"--ssl-key={key}"]
        fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-name-resolve"]
        options = ["--bind-address=127.0.0.1", f"--port={port}", *files, *fast, *as_user]
        server = subprocess.Popen([_program("mariadbd"), data[1], data[0], *options])
        _set_users(server, folder)
        yield MariaDb(port, certificate)
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """Create a certificate for loopback. Return the paths of the certificate and its key."""
    certificate, key = folder / "server.pem", folder / "server.key"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    outputs = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *outputs], check=True, capture_output=True, timeout=60)
    key.chmod(0o644)  # the server runs as another user, and the key protects nothing
    return certificate, key


def _set_users(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline, path = time.monotonic() + 60, str(folder / "socket")
    while not _is_listening(path):
        if time.monotonic() > deadline or server.poll() is not None:
            pytest.fail(f"MariaDB didn't start:\n{(folder / 'log').read_text()[-2000:]}", pytrace=False)
        time.sleep(0.1)
    connection = pymysql.connect(unix_socket=path, user="root", autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE asteriskcdrdb")
        cursor.execute("CREATE USER 'admin'@'127.0.0.1' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute("GRANT ALL ON *.* TO 'admin'@'127.0.0.1'")
        cursor.execute("CREATE USER 'reader'@'127.0.0.1' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute("GRANT SELECT ON asteriskcdrdb.* TO 'reader'@'127.0.0.1'")


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(path) == 0
