"""Raw HTTP requests to the ARI of a simulated or a real PBX, and what their replies must have in common."""

import base64
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from pbx.demo.simulated_asterisk import SimulatedAsterisk, last_regular_boot
from pbx.settings import Connection
from tests.sockets import read_until


def busy_moment() -> datetime:
    """A moment of a working day with several calls in progress."""
    at = datetime(2026, 11, 20, 9, tzinfo=UTC)
    while len(SimulatedAsterisk(last_regular_boot(at)).channels_at(at)) < 5:
        at += timedelta(seconds=30)
    return at


class Answer:
    """One HTTP reply."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *self.headers = head.decode().split("\r\n")
        self.status = first.removeprefix("HTTP/1.1 ")

    def header(self, name: str) -> str:
        """The value of a header, "" if it is missing. Names are case-sensitive, because replies are compared."""
        return next((line.split(": ", 1)[1] for line in self.headers if line.startswith(f"{name}: ")), "")

    @property
    def shape(self) -> tuple[str, list[str], object]:
        """What must be the same as in Asterisk: the status, the headers in their order, and the body.

        Of JSON with status 200, only the fields and their types count; of sounds, nothing counts.
        """
        headers = [re.sub(r"^(Server: Asterisk|Date|Content-Length)\b.*", r"\1", line) for line in self.headers]
        if not self.status.startswith("200"):
            return self.status, headers, re.sub(rb"(Asterisk/)[^<]*", rb"\1", self.body)
        return self.status, headers, _fields(json.loads(self.body)) if "json" in self.header("Content-type") else None


def _fields(value: object) -> object:
    if isinstance(value, dict):
        return [(name, _fields(one)) for name, one in value.items()]
    if isinstance(value, list):
        return sorted({repr(_fields(one)) for one in value})
    return type(value).__name__


def authorization(connection: Connection, password: str | None = None) -> str:
    """The header of Basic authentication, with the connection's password unless another is given."""
    password = connection.ari_password.get_secret_value() if password is None else password
    return f"Authorization: Basic {base64.b64encode(f'{connection.ari_username}:{password}'.encode()).decode()}"


def request(connection: Connection, path: str, *headers: str, method: str = "GET") -> bytes:
    """A request of the connection's own user."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", authorization(connection), *headers, "", ""]).encode()


def ask(connection: Connection, path: str, *headers: str, method: str = "GET") -> Answer:
    """One request of the connection's own user, and its answer."""
    return Answer(ask_raw(connection, request(connection, path, *headers, method=method)))


def ask_raw(connection: Connection, request: bytes) -> bytes:
    """The PBX's complete answer to these bytes. The client sends nothing after them."""
    with _line(connection) as line:
        line.sendall(request)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))


def ask_and_stay(connection: Connection, request: bytes) -> tuple[Answer, bool]:
    """The reply to a request, and whether the connection accepts another request."""
    with _line(connection) as line:
        line.sendall(request)
        raw = read_until(line, _is_complete)
        try:
            line.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
            stays = line.recv(1) == b"H"
        except ConnectionError:
            stays = False
        return Answer(raw), stays


def _is_complete(raw: bytes) -> bool:
    length = re.search(rb"\r\nContent-Length: (\d+)\r\n", raw)
    _, end, body = raw.partition(b"\r\n\r\n")
    return bool(end) and length is not None and len(body) >= int(length[1])


@contextmanager
def _line(connection: Connection) -> Iterator[socket.socket]:
    with socket.create_connection((connection.host, connection.ari_port), timeout=10) as line:
        yield line
