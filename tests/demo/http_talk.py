"""Requests to a demo PBX's ARI by hand, and what comes back to the byte."""

import base64
import socket

from pbx.demo.pbx import DemoPbx


class Answer:
    """One HTTP reply."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *self.headers = head.decode().split("\r\n")
        self.status = first.removeprefix("HTTP/1.1 ")

    def header(self, name: str) -> str:
        """Its value, "" where it isn't there; names are told apart by case, as here they are compared."""
        return next((line.split(": ", 1)[1] for line in self.headers if line.startswith(f"{name}: ")), "")


def authorization(username: str, password: str) -> str:
    """The header of Basic authentication."""
    return f"Authorization: Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def ask(pbx: DemoPbx, path: str, *headers: str, method: str = "GET") -> Answer:
    """One request of the demo PBX's user."""
    lines = [f"{method} {path} HTTP/1.1", authorization(pbx.username, pbx.password), *headers, "", ""]
    return Answer(ask_raw(pbx, "\r\n".join(lines).encode()))


def ask_raw(pbx: DemoPbx, request: bytes) -> bytes:
    """All that is answered to these bytes by a PBX that is told that no more come."""
    with socket.create_connection(("127.0.0.1", pbx.ari_port), timeout=10) as line:
        line.sendall(request)
        line.shutdown(socket.SHUT_WR)
        raw = b""
        while more := line.recv(65536):
            raw += more
    return raw
