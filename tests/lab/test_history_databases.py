"""Databases with the faults of real sites: text in the wrong encoding, and logins that the app doesn't support."""

from collections.abc import Iterator

import psycopg
import pymysql
import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.errors import PbxError
from pbx.imports.cdr import import_cdr_database
from pbx.imports.job import import_database
from pbx.imports.preview import preview_history
from pbx.imports.run import ImportRun
from pbx.store.engine import reading
from pbx.store.models import CallRow, RingRow, VisitRow
from pbx.store.pbx_connections import ActiveConnection
from tests.lab.active_connection import add_active_connection
from tests.lab.mariadb import CDR_TABLE, PASSWORD, QUOTED, MariaDb, mariadb
from tests.lab.postgres import postgres
from tests.lab.servers import SERVERS

__all__ = ["mariadb", "postgres"]
pytestmark = pytest.mark.lab
NOON = 1_772_452_800  # 2 March 2026, UTC
QUEUE_LOG = """
CREATE TABLE queue_log (
  id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, time varchar(26), callid varchar(40), queuename varchar(40),
  agent varchar(40), event varchar(20), data1 varchar(40), data2 varchar(40), data3 varchar(40), data4 varchar(40),
  data5 varchar(40)
) DEFAULT CHARSET=latin1
"""


@pytest.fixture
def pbx(engine: Engine) -> ActiveConnection:
    """A PBX of which the tests read only the database."""
    return add_active_connection(engine, SERVERS[22])


def insert_as_asterisk(database: MariaDb, statement: str, value: bytes) -> None:
    """Insert bytes over a connection that declares them as latin1, as Asterisk's drivers do by default."""
    connection = pymysql.connect(
        host="127.0.0.1",
        port=database.port,
        user="admin",
        password=PASSWORD,
        database="asteriskcdrdb",
        charset="latin1",
    )
    with connection:
        connection.query("SET SESSION sql_mode = ''")
        connection.query(statement.encode().replace(b"%s", b"'%b'" % value.replace(b"'", b"''")))
        connection.commit()


NAMES = {  # each name, and the bytes that are inserted
    "Jörg": "Jörg".encode(),
    "Čapek": "Čapek".encode(),
    "Лена": "Лена".encode(),
    "日本": "日本".encode(),
    "Jürg": "Jürg".encode("cp1252"),
    "JOÃO": "JOÃO".encode("cp1252"),
    "À la 5 €": "À la 5 €".encode("cp1252"),
}


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4"])
def test_names_are_decoded_whatever_the_columns_encoding(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, charset: str
) -> None:
    """In utf8mb4 columns this connection stores UTF-8 that is encoded twice."""
    table = CDR_TABLE.format(engine="InnoDB").replace("utf8mb4", charset)
    mariadb.execute("DROP TABLE IF EXISTS cdr, queue_log", table, QUEUE_LOG.replace("latin1", charset))
    for number, raw in enumerate(NAMES.values()):
        uid = f"{NOON + number}.{number}"
        insert_as_asterisk(
            mariadb,
            "INSERT INTO cdr (calldate, clid, src, dst, channel, dstchannel, duration, billsec, disposition, uniqueid, "
            f"linkedid) VALUES ('2026-03-02 12:00:{number:02}', %s, '1001', '1002', 'SIP/1001-{number:08x}', "
            f"'SIP/1002-{number:08x}', 9, 5, 'ANSWERED', '{uid}', '{uid}')",
            b'"%b" <1001>' % raw,
        )
        for at, agent, event, data in (
            (0, b"NONE", "ENTERQUEUE", "'', '555', '1'"),
            (5, raw, "CONNECT", "'5', 'x', '3'"),
        ):
            insert_as_asterisk(
                mariadb,
                f"INSERT INTO queue_log (time, callid, queuename, agent, event, data1, data2, data3) "
                f"VALUES ('{NOON + at}', '{uid}', '600', %s, '{event}', {data})",
                agent,
            )
    import_database(ImportRun(engine, pbx), mariadb.address)
    with reading(engine) as session:
        assert set(session.exec(select(CallRow.from_name))) == set(NAMES)
        assert set(session.exec(select(VisitRow.agent))) == set(NAMES)
        assert not session.exec(select(RingRow)).all()
    mariadb.execute("DROP TABLE queue_log")


def test_a_name_cut_within_a_character_is_read(engine: Engine, pbx: ActiveConnection, mariadb: MariaDb) -> None:
    """Asterisk stores 79 bytes of name and number, and may cut within a character."""
    mariadb.execute("DROP TABLE IF EXISTS cdr", CDR_TABLE.format(engine="InnoDB").replace("utf8mb4", "latin1"))
    names = ["Müller & Söhne, " * 3 + "ü" * 20, "x" * 40 + "é" * 30, "A" * 77 + "é", "B" * 90]
    for number, name in enumerate(names):
        insert_as_asterisk(
            mariadb,
            "INSERT INTO cdr (calldate, clid, src, dst, channel, uniqueid, linkedid) "
            f"VALUES ('2026-03-02 12:00:00', %s, '1', '2', 'SIP/1-{number:08x}', '{NOON}.{number}', '{NOON}.{number}')",
            f'"{name}" <1001>'.encode()[:79],
        )
    assert import_cdr_database(ImportRun(engine, pbx), mariadb.address).legs == 4
    with reading(engine) as session:
        reported = session.exec(select(CallRow.from_name).order_by(CallRow.linkedid)).all()
    assert [(name.startswith(one), len(one) >= 50) for one, name in zip(reported, names, strict=True)] == [
        (True, True)
    ] * 4


@pytest.fixture
def admin(mariadb: MariaDb) -> Iterator[pymysql.cursors.Cursor]:
    """A cursor for the administrator, connected before a test restricts logins."""
    with (
        pymysql.connect(
            host="127.0.0.1",
            port=mariadb.port,
            user="admin",
            password=PASSWORD,
            database="asteriskcdrdb",
            autocommit=True,
        ) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def refusal(engine: Engine, pbx: ActiveConnection, address: str) -> str:
    """The message of a refused connection, which must not contain the password."""
    with pytest.raises(PbxError) as caught:
        preview_history(engine, pbx, address)
    for secret in (PASSWORD, QUOTED):
        assert secret not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"
    return caught.value.advice


def test_a_login_by_ed25519_is_refused_with_an_explanation(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, admin: pymysql.cursors.Cursor
) -> None:
    admin.execute("INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'")
    admin.execute("CREATE OR REPLACE USER 'ed'@'127.0.0.1' IDENTIFIED VIA ed25519 USING PASSWORD(%s)", (PASSWORD,))
    message = refusal(engine, pbx, mariadb.address.replace("reader:", "ed:"))
    assert "ed25519" in message
    assert "pynacl" in message


def test_an_old_password_is_refused_with_an_explanation(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, admin: pymysql.cursors.Cursor
) -> None:
    admin.execute("SET GLOBAL secure_auth = OFF")
    admin.execute("CREATE OR REPLACE USER 'old'@'127.0.0.1' IDENTIFIED VIA mysql_old_password USING '5d2e19393cc5ef67'")
    message = refusal(engine, pbx, mariadb.address.replace("reader:", "old:"))
    admin.execute("SET GLOBAL secure_auth = ON")
    assert "before MySQL 4.1" in message


def test_a_server_that_requires_tls_is_read(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, admin: pymysql.cursors.Cursor
) -> None:
    mariadb.fresh_cdr()
    admin.execute("SET GLOBAL require_secure_transport = ON")
    try:
        assert preview_history(engine, pbx, mariadb.address)["cdr"].new == 0
        assert preview_history(engine, pbx, f"{mariadb.address}?ssl_ca={mariadb.certificate}")["cdr"].new == 0
        assert "Access denied" in refusal(engine, pbx, f"{mariadb.address}?ssl_disabled=true")
        assert "ssl_ca" in refusal(engine, pbx, f"{mariadb.address}?ssl_ca=/etc/ssl/certs/ca-certificates.crt")
    finally:
        admin.execute("SET GLOBAL require_secure_transport = OFF")


def test_an_address_of_the_wrong_kind_of_database_is_explained(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, postgres: str
) -> None:
    at_mariadb = mariadb.address.replace("mysql+pymysql", "postgresql")
    assert "PostgreSQL" in refusal(engine, pbx, at_mariadb)
    assert "3306" in refusal(engine, pbx, postgres.replace("postgresql+psycopg", "mysql"))


def test_names_in_a_postgresql_without_an_encoding_are_decoded(
    engine: Engine, pbx: ActiveConnection, postgres: str
) -> None:
    """A database with the encoding SQL_ASCII stores any bytes."""
    address = postgres.replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS ascii")
        connection.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    address = address.removesuffix("/postgres") + "/ascii"
    with psycopg.connect(address, autocommit=True) as connection:
        columns = (
            "calldate timestamp, clid text, src text, dst text, channel text, uniqueid text, duration int, billsec int"
        )
        connection.execute(f"CREATE TABLE cdr ({columns}, linkedid text)".encode())
        for number, raw in enumerate((b"J\xc3\xb6rg", b"J\xfcrg")):
            uid, clid = b"%d.%d" % (NOON, number), b'"%b" <1>' % raw
            values = (b"2026-03-02 12:00:00", clid, b"1", b"2", b"SIP/1-%d" % number, uid, b"9", b"5", uid)
            connection.execute(b"INSERT INTO cdr VALUES ('" + b"', '".join(values) + b"')")
    assert import_cdr_database(ImportRun(engine, pbx), address).legs == 2
    with reading(engine) as session:
        assert set(session.exec(select(CallRow.from_name))) == {"Jörg", "Jürg"}
