"""Connections to other servers, faulty ones and old databases end before the deadline, with a clear error."""

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
# The greeting of MariaDB 10.11: protocol 10, version, thread, salt, capabilities, and the password plugin.
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
    """A server that sends its first answer immediately, and each further one after it has received something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    for number, answer in enumerate(answers):
                        if number:
                            sock.recv(65_536)
                        sock.sendall(answer)
                    if then is not None:
                        then(sock)
                    while sock.recv(65_536):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def send_slowly(sock: socket.socket) -> None:
    """Send a packet of 16 MB, one byte every 50 ms."""
    sock.sendall(b"\xff\xff\x7f\0\x0a")
    for _ in range(600):
        time.sleep(0.05)
        sock.sendall(b"x")


def refusal(port: int, kind: str = "mysql", statement_s: int = 1, options: str = "") -> PbxError:
    """The error that a connection attempt raises. It must not contain the password."""
    address = f"{kind}://reader:{SECRET}@127.0.0.1:{port}/asteriskcdrdb{options}"
    started = time.monotonic()
    with pytest.raises(PbxError) as caught, open_source(source_url(address), statement_s) as source:
        source.connect().close()
    assert time.monotonic() - started < 5
    shown = f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"
    assert SECRET not in shown
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "an SSH server"),
        (b"\x05\0\0\0\x0b\x08\x05\x1a\0", "X protocol"),  # the notice that MySQL 8 sends first on port 33060
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a web server"),
        (b"220 mail.example.com ESMTP Postfix\r\n", "a mail or FTP server"),
        (b"Asterisk Call Manager/5.0.2\r\n", "AMI"),
        (b"\x00\x01\x02\x03\x04\x05", "something else"),
    ],
)
def test_another_kind_of_server_is_named(answer: bytes, expected: str) -> None:
    with server(answer) as port:
        error = refusal(port)
    assert expected in str(error)
    assert "3306" in error.fix


def test_a_silent_server_hits_the_deadline() -> None:
    with server() as port:  # as HTTP, PostgreSQL or Redis do
        assert "no MySQL greeting" in str(refusal(port))


def test_a_login_reply_that_trickles_in_hits_the_deadline() -> None:
    with server(then=send_slowly) as port:
        assert isinstance(refusal(port), Deadline)


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_server_that_closes_the_connection_is_unreachable(kind: str) -> None:
    with server(then=lambda sock: sock.shutdown(socket.SHUT_RDWR)) as port:
        assert isinstance(refusal(port, kind), Unreachable)
    assert isinstance(refusal(port, kind), Unreachable)  # the port is closed


@pytest.mark.parametrize(
    "rest",
    [b"", b"\0", b"\x0a", b"\x0a5.5\0", b"\x0a5.5\0abc", b"\x0ax\0" + b"\0" * 60, b"\x0a\xff\xff\xff" + b"\xff" * 90],
)
def test_a_damaged_greeting_is_unreachable(rest: bytes) -> None:
    with server(packet(0, rest or b"\x09"), packet(2, b"\xff\xff")) as port:
        assert isinstance(refusal(port), Unreachable)


def test_a_login_by_ed25519_names_the_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are those of MariaDB; tests/lab uses a real one."""
    monkeypatch.setitem(__import__("sys").modules, "nacl", None)
    monkeypatch.setattr("pymysql._auth._nacl_bindings", False)
    with server(hello(), packet(2, b"\xfeclient_ed25519\0" + b"s" * 32)) as port:
        error = refusal(port)
    assert isinstance(error, SettingsError)
    assert "pynacl" in error.fix


@pytest.mark.parametrize("switch", [b"\xfe", b"\xfemysql_old_password\0saltsalt\0"])
def test_a_password_from_before_mysql_4_1_is_named(switch: bytes) -> None:
    """An old server requests it by a packet of one byte: https://github.com/PyMySQL/PyMySQL/issues/786"""
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
def test_the_password_is_never_sent_in_plain_text(plugin: bytes) -> None:
    received: list[bytes] = []

    def listen(sock: socket.socket) -> None:
        sock.settimeout(1)
        with suppress(OSError):
            while data := sock.recv(65_536):
                received.append(data)

    with server(hello(), packet(2, b"\xfe" + plugin), then=listen) as port:
        assert "in plain text" in str(refusal(port))
    assert SECRET.encode() not in b"".join(received)


def test_a_server_that_requires_tls_is_explained() -> None:
    denied = b"\xff" + struct.pack("<H", 3159) + b"#HY000Connections using insecure transport are prohibited"
    with server(hello(), packet(2, denied)) as port:
        assert "?ssl_ca=" in refusal(port).fix


def test_an_old_mysql_is_read_without_unsupported_features() -> None:
    """MySQL 5.1 supports neither utf8mb4 nor read-only transactions; MariaDB 5.5 doesn't support the latter."""
    statements: list[bytes] = []
    unknown = b"\xff" + struct.pack("<H", 1115) + b"#42000Unknown character set: 'utf8mb4'"
    syntax = b"\xff" + struct.pack("<H", 1064) + b"#42000You have an error in your SQL syntax"
    done = b"\0\0\0\2\0\0\0"

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(hello(b"5.1.73"))
                    sock.recv(65_536)
                    sock.sendall(packet(2, done))
                    while statement := sock.recv(65_536)[5:]:
                        statements.append(statement)
                        wrong = syntax if b"READ ONLY" in statement else unknown if b"utf8mb4" in statement else done
                        sock.sendall(packet(1, wrong))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        options = {"host": "127.0.0.1", "port": listener.getsockname()[1], "user": "u", "password": SECRET}
        connection, guard = connect_mysql("mysql://h/x", options | {"charset": "utf8mb4"}, 5)
        _read_only_mysql(connection, None)
        guard.close()
        connection.close()
    assert b"SET NAMES utf8" in statements
    assert b"SET time_zone = '+00:00'" in statements


def test_an_answer_that_trickles_in_hits_the_deadline() -> None:
    """Each byte arrives before its deadline, but the complete answer does not."""

    def answer_slowly(sock: socket.socket) -> None:
        for _ in range(2):  # SET NAMES, autocommit
            sock.recv(65_536)
            sock.sendall(packet(1, b"\0\0\0\2\0\0\0"))
        sock.recv(65_536)
        sock.sendall(b"\x40\0\0\x01")
        for _ in range(600):
            time.sleep(0.05)
            sock.sendall(b"x")

    with server(hello(), packet(2, b"\0\0\0\2\0\0\0"), then=answer_slowly) as port:
        assert isinstance(refusal(port), Deadline)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", hello(), b"\0" * 9]
)
def test_a_server_other_than_postgresql_is_unreachable(answer: bytes) -> None:
    with server(answer) as port:
        assert isinstance(refusal(port, "postgresql", 3), Unreachable)


def test_a_silent_postgresql_server_hits_the_deadline() -> None:
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
def test_an_unusable_address_is_an_error_with_a_fix(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(PbxError) as caught, open_source(source_url(address), 2) as source:
        source.connect().close()
    assert time.monotonic() - started < 5
    assert SECRET not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.fix


def test_the_error_of_an_odbc_style_address_omits_the_password() -> None:
    with pytest.raises(SettingsError) as refused:
        source_url("mysql://reader@pbx.example.com/asteriskcdrdb;password=s3cr3t")
    assert "s3cr3t" not in refused.value.advice


def test_the_error_of_an_invalid_options_file_omits_its_content(tmp_path: Path) -> None:
    (tmp_path / "odd.cnf").write_text("s3cr3t\n")
    url = source_url(f"mysql://reader@127.0.0.1:1/asteriskcdrdb?read_default_file={tmp_path}/odd.cnf")
    with pytest.raises(SettingsError) as refused, open_source(url) as engine, engine.connect():
        pass
    assert "s3cr3t" not in refused.value.advice
