"""Connects to a database with a total time limit, and turns every failure into an error with a fix.

PyMySQL limits only single reads, accepts any server as MySQL, and raises arbitrary exceptions for unexpected data. Here
a connection and each statement have a total limit, and the server's first bytes are checked before the login.
"""

import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pymysql
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from pbx.errors import DataError, Deadline, PbxError, SettingsError, Unreachable

_NO_CHARSET = 1115  # ER_UNKNOWN_CHARACTER_SET: MySQL up to 5.1 doesn't know utf8mb4
_HELLO_BYTES = 5  # of a MySQL server's first packet: length (3 bytes), number 0, protocol version
_HELLOS = (9, 10, 255)  # protocol versions; 255: an error, such as too many connections
_OTHERS = (
    (b"SSH-", "an SSH server"),
    (b"HTTP", "a web server"),
    (b"220", "a mail or FTP server"),
    (b"\x05\0\0\0\x0b", "MySQL's X protocol"),
    (b"Aster", "Asterisk's manager interface (AMI)"),
)
_PORT = "Check the port: MySQL and MariaDB use 3306 (33060 is MySQL's X protocol), PostgreSQL 5432."
_LOGIN = "Check that it is running, and check host, port, user, password and name. The user needs only SELECT."
_OTHER_LOGIN = (
    "Have the database's administrator change how this user logs in. In MariaDB: ALTER USER … IDENTIFIED VIA "
    "mysql_native_password USING PASSWORD('…')."
)
_OLD = f"The database user's password is stored in the format used before MySQL 4.1. {_OTHER_LOGIN}"
_FIXES = (  # by the message of a server or driver
    ("insecure transport", "The server requires TLS: add ?ssl_ca=/path/to/ca.pem to the address."),
    ("SSL is required", "The server offers no TLS: remove the ssl_… options from the address."),
    (
        "CERTIFICATE_VERIFY",
        "Add the certificate's CA to the address, ?ssl_ca=/path/to/ca.pem, and use the host name in the certificate.",
    ),
    ("auth switch request", _OLD),
    ("mysql_old_password", _OLD),
    ("old insecure", _OLD),
    ("uthentication plugin", _OTHER_LOGIN),
    ("auth method", _OTHER_LOGIN),
    ("SSL negotiation", f"That is not a PostgreSQL server. {_PORT}"),
    ("pg_hba.conf", "Add a line for this machine and user to the server's pg_hba.conf."),
)


class StatementGuard:
    """Shuts down a socket after a time limit, which ends whatever waits on it."""

    def __init__(self, line: socket.socket) -> None:
        self.expired = False
        self._line = line
        self._timer: threading.Timer | None = None

    def arm(self, limit_s: float) -> None:
        """Start the time limit again."""
        self.disarm()
        self._timer = threading.Timer(max(limit_s, 0), self._end)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Stop the time limit."""
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Stop the time limit and close this copy of the socket."""
        self.disarm()
        self._line.close()

    def _end(self) -> None:
        self.expired = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)


def connect_mysql(label: str, options: dict[str, Any], limit_s: float) -> tuple[Any, StatementGuard]:
    """A connection of PyMySQL, and its guard, which is still armed.

    Raises Unreachable when the server isn't MySQL, Deadline when the login takes too long, SettingsError when the user
    needs a login method that isn't installed here, and PyMySQL's own errors.
    """
    until = time.monotonic() + limit_s
    if isinstance(options.get("password"), str):
        options["password"] = options["password"].encode()  # PyMySQL would encode a str as latin1
    # A server may request the password in plain text; these plugins refuse it.
    clear = dict.fromkeys(("mysql_clear_password", "dialog"), _RefusePlain)
    try:
        connection = pymysql.connect(**options, auth_plugin_map=clear, defer_connect=True)
    except OSError as error:
        problem = f"A certificate or key in the database's address can't be used: {error.strerror or error}."
        raise SettingsError(problem, "Check the paths after the ? in the address.") from None
    line = _reach(label, connection, limit_s)
    guard = StatementGuard(line.dup())
    try:
        _check_hello(label, line, until)
        guard.arm(until - time.monotonic())
        connection.connect(line)
    except BaseException as error:
        line.close()
        guard.close()
        if guard.expired:
            raise too_slow(label, limit_s) from None
        if isinstance(error, pymysql.Error) and error.args[:1] == (_NO_CHARSET,) and options["charset"] == "utf8mb4":
            return connect_mysql(label, options | {"charset": "utf8"}, until - time.monotonic())
        if isinstance(error, PbxError) or not isinstance(error, Exception) or isinstance(error, pymysql.Error):
            raise
        raise _login_error(label, error) from None
    return connection, guard


def guard_of(connection: Any) -> StatementGuard:
    """The guard of an open connection of psycopg."""
    return StatementGuard(socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM))


def clear_error(label: str, url: URL, error: DBAPIError) -> PbxError:
    """The error of a database driver as one with a fix. It never contains the password."""
    where = f"The database {label}"
    password = str(url.password or "")
    reason = str(error.orig.args[-1] if error.orig is not None and error.orig.args else error.orig).strip().rstrip(".")
    if password and password in reason:
        reason = "its reason contains the password, so it isn't shown"
    fix = next((fix for text, fix in _FIXES if text in reason), "")
    if fix or isinstance(error, OperationalError):
        return Unreachable(f"{where} doesn't answer, or refuses: {reason}.", fix or _LOGIN)
    return DataError(f"{where} can't be read: {reason}.", "The user needs SELECT on the table.")


class _RefusePlain:
    def __init__(self, _connection: object) -> None: ...

    def authenticate(self, _packet: object) -> None:
        raise SettingsError("The database requested the password in plain text; it was not sent.", _OTHER_LOGIN)


def _reach(label: str, connection: Any, limit_s: float) -> socket.socket:
    """A socket to the server, for a connection of PyMySQL."""
    try:
        if not connection.unix_socket:
            line = socket.create_connection((connection.host, connection.port), limit_s)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return line
        if not hasattr(socket, "AF_UNIX"):  # on Windows
            raise SettingsError(
                "This system can't reach a database by a socket file.", "Remove unix_socket from the address."
            )
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.settimeout(limit_s)
            line.connect(connection.unix_socket)
        except OSError:
            line.close()
            raise
        return line
    except TimeoutError:
        raise too_slow(label, limit_s) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unreachable(f"The database {label} can't be reached: {reason}.", _LOGIN) from None


def _check_hello(label: str, line: socket.socket, until: float) -> None:
    """Check the first bytes of a server without consuming them. A MySQL server sends first."""
    hello = b""
    while len(hello) < _HELLO_BYTES:
        line.settimeout(max(until - time.monotonic(), 0.001))
        try:
            received = line.recv(_HELLO_BYTES, socket.MSG_PEEK)
        except TimeoutError:
            received = hello
        if time.monotonic() >= until:
            raise Unreachable(f"The server at {label} accepts connections but sends no MySQL greeting.", _PORT)
        if not received:
            return  # closed by the server; PyMySQL reports it
        if len(received) == len(hello):
            time.sleep(0.01)
        hello = received
    if hello[3] != 0 or hello[4] not in _HELLOS:
        other = next((name for start, name in _OTHERS if hello.startswith(start)), "something else")
        raise Unreachable(f"{label} is not a MySQL or MariaDB server: {other} answers there.", _PORT)


def _login_error(label: str, error: Exception) -> PbxError:
    """The error for an exception that PyMySQL raises during the login."""
    if isinstance(error, RuntimeError) and "nacl" in str(error):
        return SettingsError(
            f"This user of the database {label} logs in with ed25519; a Python package for that isn't installed.",
            f"Run `.venv/bin/pip install pynacl`, then import again. To do without the package: {_OTHER_LOGIN}",
        )
    if isinstance(error, RuntimeError) and "cryptography" in str(error):
        return SettingsError(
            f"Logging in to the database {label} needs a Python package that isn't installed: cryptography.",
            "Run `.venv/bin/pip install cryptography`, then import again.",
        )
    if isinstance(error, ValueError) and "username" in str(error):
        return SettingsError(
            f"The address of the database {label} names no user.", "Write mysql://user:password@host/…"
        )
    if "old_password" in str(error):  # PyMySQL#786: it calls what it hasn't got
        return Unreachable(
            f"The database {label} asks for the login method used before MySQL 4.1, which isn't safe.",
            _OLD,
        )
    return Unreachable(f"The server at {label} doesn't speak a MySQL protocol that this app understands.", _PORT)


def too_slow(label: str, limit_s: float) -> Deadline:
    return Deadline(f"The database {label} didn't answer within {limit_s:.0f} s.", f"{_PORT} Check that it isn't busy.")
