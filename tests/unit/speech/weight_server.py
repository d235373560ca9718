"""A server of model weights on loopback that sends complete files, parts of them, or errors."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.web_servers import serve

Fault = Callable[["Handler", bytes, int], None]  # sends its own response, given the content and the offset


class WeightServer(ThreadingHTTPServer):
    """Serves `files` by path. Each request uses up one of the `faults` instead, while there are any."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requested: list[tuple[str, str]] = []  # path and Range
        self.sends_checksums = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: WeightServer

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.server.requested.append((self.path, span))
        content = self.server.files.get(self.path.removeprefix("/moved"))
        if content is None:
            self.send_error(404)
            return
        # Like the Hugging Face hub: the redirect to the file contains its checksum.
        if self.path.endswith("model.bin") and not self.path.startswith("/moved"):
            self.send_response(302)
            if self.server.sends_checksums:
                self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Location", f"/moved{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = int(span.removeprefix("bytes=").rstrip("-") or 0)
        if self.server.faults:
            self.server.faults.pop(0)(self, content, begin)
        else:
            self.send(content, begin)

    def send(self, content: bytes, begin: int = 0, kind: str = "application/octet-stream", cut: int = 0) -> None:
        """Send the content from `begin`, without its last `cut` bytes although Content-Length includes them."""
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        with suppress(ConnectionError):  # a client without disk space closes the connection
            self.wfile.write(content[begin : len(content) - cut])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None: ...


def cut_off(handler: Handler, content: bytes, begin: int) -> None:
    """Closes the connection after half of the remaining bytes."""
    handler.send(content, begin, cut=(len(content) - begin) // 2)


def web_page(handler: Handler, content: bytes, begin: int) -> None:
    """Sends the sign-in page of a proxy."""
    handler.send(b"<!doctype html><title>Sign in</title>", kind="text/html; charset=utf-8")


def damaged(handler: Handler, content: bytes, begin: int) -> None:
    handler.send(bytes(len(content)), begin)


def busy(handler: Handler, content: bytes, begin: int) -> None:
    handler.send_error(503)


def forbidden(handler: Handler, content: bytes, begin: int) -> None:
    handler.send_error(403)


@contextmanager
def weight_server() -> Iterator[WeightServer]:
    with serve(WeightServer()) as server:
        yield server
