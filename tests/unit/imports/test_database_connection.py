"""What may answer in place of a database: each ends in time, in a sentence, and without a traceback."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pbx.errors import Deadline, PbxError, SettingsError, Unreachable
from pbx.imports.database_connection import connect_mysql
from pbx.imports.databases import _read_only_mysql, open_source, source_url

SECRET = "s3cret-of-the-database"
# What MariaDB 10.11 greets with: protocol 10, version, thread, salt, capabilities, the plugin for a password.
CAPABILITIES = 0x81BFF7FE & ~0x800  # without TLS, as the tests have no certificate


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def hello(version: bytes = b"5.5.5-10.11.19-MariaDB", capabilities: int = CAPABILITIES) -> bytes:
    low, high = capabilities & 0xFFFF, capabilities >> 16
    begin, salt = b"\x0a" + version + b"\0" + struct.pack("<I", 7) + b"saltsalt\0", b"twelvebytes!\0"
    can = struct.pack("<HBHHB", low, 45, 2, high, 21)
    return packet(0, begin + can + b"\0" * 10 + salt + b"mysql_native_password\0")


@contextmanager
def server(*answers: bytes, then: Callable[[socket.socket], None] | None = None) -> Iterator[int]:
    """A server that sends its first answer at once, and each other one when it was sent something."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                line, _ = listening.accept()
                with line:
                    for number, answer in enumerate(answers):
                        if number:
                            line.recv(65_536)
                        line.sendall(answer)
                    if then is not None:
                        then(line)
                    while line.recv(65_536):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def drip(line: socket.socket) -> None:
    """One byte now and then, of a packet that would have 16 MB."""
    line.sendall(b"\xff\xff\x7f\0\x0a")
    for _ in range(600):
        time.sleep(0.05)
        line.sendall(b"x")


def refusal(port: int, kind: str = "mysql", statement_s: int = 1, options: str = "") -> PbxError:
    """The error that a connection ends in, which doesn't show the password."""
    address = f"{kind}://reader:{SECRET}@127.0.0.1:{port}/asteriskcdrdb{options}"
    begun = time.monotonic()
    with pytest.raises(PbxError) as caught, open_source(source_url(address), statement_s) as source:
        source.connect().close()
    assert time.monotonic() - begun < 5
    shown = f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"
    assert SECRET not in shown
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "an SSH server"),
        (b"\x05\0\0\0\x0b\x08\x05\x1a\0", "X protocol"),  # the notice with which MySQL 8 greets on 33060
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server"),
        (b"220 mail.example.com ESMTP Postfix\r\n", "a mail or FTP server"),
        (b"Asterisk Call Manager/5.0.2\r\n", "AMI"),
        (b"\x00\x01\x02\x03\x04\x05", "something else"),
    ],
)
def test_another_kind_of_server_is_named(answer: bytes, said: str) -> None:
    with server(answer) as port:
        error = refusal(port)
    assert said in str(error)
    assert "3306" in error.fix


def test_a_server_that_says_nothing_is_left_after_its_time() -> None:
    with server() as port:  # as HTTP, PostgreSQL or Redis do
        assert "no MySQL greeting" in str(refusal(port))


def test_a_login_that_drips_ends_in_time() -> None:
    with server(then=drip) as port:
        assert isinstance(refusal(port), Deadline)


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_server_that_closes_at_once_is_unreachable(kind: str) -> None:
    with server(then=lambda line: line.shutdown(socket.SHUT_RDWR)) as port:
        assert isinstance(refusal(port, kind), Unreachable)
    assert isinstance(refusal(port, kind), Unreachable)  # nobody listens any more


@pytest.mark.parametrize(
    "rest",
    [b"", b"\0", b"\x0a", b"\x0a5.5\0", b"\x0a5.5\0abc", b"\x0ax\0" + b"\0" * 60, b"\x0a\xff\xff\xff" + b"\xff" * 90],
)
def test_a_greeting_that_is_cut_is_no_traceback(rest: bytes) -> None:
    with server(packet(0, rest or b"\x09"), packet(2, b"\xff\xff")) as port:
        assert isinstance(refusal(port), Unreachable)


def test_a_login_by_ed25519_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MariaDB asks for it; a real one does in tests/lab."""
    monkeypatch.setitem(__import__("sys").modules, "nacl", None)
    monkeypatch.setattr("pymysql._auth._nacl_bindings", False)
    with server(hello(), packet(2, b"\xfeclient_ed25519\0" + b"s" * 32)) as port:
        error = refusal(port)
    assert isinstance(error, SettingsError)
    assert "pynacl" in error.fix


@pytest.mark.parametrize("switch", [b"\xfe", b"\xfemysql_old_password\0saltsalt\0"])
def test_a_password_of_before_mysql_4_1_is_named(switch: bytes) -> None:
    """PyMySQL#786: an old server asks by a packet of one byte."""
    capabilities = CAPABILITIES if len(switch) > 1 else CAPABILITIES & ~0x80000
    denied = (
        b"\xff" + struct.pack("<H", 1275) + b"#HY000Server is running in --secure-auth mode, but 'reader'@'h' has a "
    )
    with server(
        hello(capabilities=capabilities), packet(2, switch), packet(4, denied + b"password in the old format")
    ) as port:
        error = refusal(port)
    assert "before MySQL 4.1" in error.fix


@pytest.mark.parametrize("plugin", [b"mysql_clear_password\0", b"dialog\0\x03Password: "])
def test_the_password_is_never_sent_in_clear(plugin: bytes) -> None:
    seen: list[bytes] = []

    def listen(line: socket.socket) -> None:
        line.settimeout(1)
        with suppress(OSError):
            while data := line.recv(65_536):
                seen.append(data)

    with server(hello(), packet(2, b"\xfe" + plugin), then=listen) as port:
        assert "in plain text" in str(refusal(port))
    assert SECRET.encode() not in b"".join(seen)


def test_a_server_that_wants_tls_says_so() -> None:
    denied = b"\xff" + struct.pack("<H", 3159) + b"#HY000Connections using insecure transport are prohibited"
    with server(hello(), packet(2, denied)) as port:
        assert "?ssl_ca=" in refusal(port).fix


def test_an_old_mysql_is_read_with_what_it_knows() -> None:
    """MySQL 5.1 knows neither utf8mb4 nor a transaction that only reads; MariaDB 5.5 not the latter."""
    said: list[bytes] = []
    unknown = b"\xff" + struct.pack("<H", 1115) + b"#42000Unknown character set: 'utf8mb4'"
    syntax = b"\xff" + struct.pack("<H", 1064) + b"#42000You have an error in your SQL syntax"
    done = b"\0\0\0\2\0\0\0"

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                line, _ = listening.accept()
                with line:
                    line.sendall(hello(b"5.1.73"))
                    line.recv(65_536)
                    line.sendall(packet(2, done))
                    while statement := line.recv(65_536)[5:]:
                        said.append(statement)
                        wrong = syntax if b"READ ONLY" in statement else unknown if b"utf8mb4" in statement else done
                        line.sendall(packet(1, wrong))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=[listening], daemon=True).start()
        options = {"host": "127.0.0.1", "port": listening.getsockname()[1], "user": "u", "password": SECRET}
        connection, guard = connect_mysql("mysql://h/x", options | {"charset": "utf8mb4"}, 5)
        _read_only_mysql(connection, None)
        guard.close()
        connection.close()
    assert b"SET NAMES utf8" in said
    assert b"SET time_zone = '+00:00'" in said


def test_a_statement_whose_answer_drips_ends_in_time() -> None:
    """Each byte is in time; all of them never are."""

    def talk(line: socket.socket) -> None:
        for _ in range(2):  # SET NAMES, autocommit
            line.recv(65_536)
            line.sendall(packet(1, b"\0\0\0\2\0\0\0"))
        line.recv(65_536)
        line.sendall(b"\x40\0\0\x01")
        for _ in range(600):
            time.sleep(0.05)
            line.sendall(b"x")

    with server(hello(), packet(2, b"\0\0\0\2\0\0\0"), then=talk) as port:
        assert isinstance(refusal(port), Deadline)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", hello(), b"\0" * 9]
)
def test_what_is_no_postgresql_is_a_sentence(answer: bytes) -> None:
    with server(answer) as port:
        assert isinstance(refusal(port, "postgresql", 3), Unreachable)


def test_a_postgresql_that_says_nothing_is_left_after_its_time() -> None:
    with server() as port:
        assert isinstance(refusal(port, "postgresql", 2), Unreachable)


@pytest.mark.parametrize(
    "address",
    [
        f"mysql://reader:{SECRET}@127.0.0.1:70000/x",
        f"mysql://reader:{SECRET}@127.0.0.1:0/x",
        f"mysql://reader:{SECRET}@127.0.0.1:port/x",
        f"mysql://reader:{SECRET}@[::1/x",
        f"mysql://reader:{SECRET}@h\0st/x",
        f"mysql://reader:{SECRET}@{'x' * 300}/x",
        f"mysql://reader:{SECRET}@127.0.0.1:1/x?connect_timeout=soon",
        f"mysql://reader:{SECRET}@127.0.0.1:1/x?no_such=1",
        f"mysql://reader:{SECRET}@127.0.0.1:1/x?ssl_ca=/nowhere.pem",
        f"mysql://reader:{SECRET}@127.0.0.1:1/x?unix_socket=/nowhere",
        f"mysql://reader:{SECRET}@127.0.0.1:1/x?charset=klingon",
        f"mysql://:{SECRET}@127.0.0.1:1/x",
        f"mysql://re%E2%82%ACder:{SECRET}%E2%82%AC@127.0.0.1:1/x",
        f"postgresql://reader:{SECRET}@127.0.0.1:1/x?sslmode=sometimes",
        f"postgresql://reader:{SECRET}@127.0.0.1:1/x?no_such=1",
        f"postgresql://reader:{SECRET}@127.0.0.1:1/x?connect_timeout=soon",
        f"postgresql://reader:{SECRET}@127.0.0.1:1/x?service=none",
        f"postgresql://reader:{SECRET}@h\0st/x",
        f"postgresql+asyncpg://reader:{SECRET}@127.0.0.1:1/x",
        "sqlite:////nowhere/at.all",
        "sqlite:///x?mode=rw",
    ],
)
def test_an_address_that_leads_nowhere_is_a_sentence(address: str) -> None:
    begun = time.monotonic()
    with pytest.raises(PbxError) as caught, open_source(source_url(address), 2) as source:
        source.connect().close()
    assert time.monotonic() - begun < 5
    assert SECRET not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.fix


def test_an_address_in_the_way_of_odbc_is_none_and_its_password_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as refused:
        source_url("mysql://reader@pbx.example.com/asteriskcdrdb;password=s3cr3t")
    assert "s3cr3t" not in refused.value.advice


def test_a_file_of_options_that_is_none_is_an_odd_option(tmp_path: Path) -> None:
    (tmp_path / "odd.cnf").write_text("s3cr3t\n")
    url = source_url(f"mysql://reader@127.0.0.1:1/asteriskcdrdb?read_default_file={tmp_path}/odd.cnf")
    with pytest.raises(SettingsError) as refused, open_source(url) as engine, engine.connect():
        pass
    assert "s3cr3t" not in refused.value.advice
