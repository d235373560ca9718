"""A language server on loopback with OpenAI's chat completions that can fail in every way."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.web_servers import serve

ANSWER = {
    "summary": "A customer was charged twice for March. The second payment is refunded.",
    "reason": "Charged twice on the March invoice.",
    "outcome": "The duplicate payment is refunded within five working days.",
    "follow_ups": ["Send a corrected invoice."],
    "sentiment": "neutral",
}
Behaviour = Callable[["_Line", dict[str, Any]], None]


def completion(content: Any, *, finish: str = "stop") -> bytes:
    """A whole answer of the protocol around what the model wrote."""
    written = content if isinstance(content, str) or content is None else json.dumps(content)
    message = {"role": "assistant", "content": written}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980}
    document = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return json.dumps({**document, "choices": [choice]}).encode()


def says(content: Any, *, finish: str = "stop") -> Behaviour:
    """Answers that the model wrote this."""
    return lambda line, _: line.answer(200, completion(content, finish=finish))


def raw(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Behaviour:
    """Answers with these bytes."""
    return lambda line, _: line.answer(status, body, kind, headers)


def knows_only(*forms: str) -> Behaviour:
    """Refuses by 400 the response formats that it doesn't know ("" stands for none), as OpenAI's servers do."""

    def behave(line: "_Line", request: dict[str, Any]) -> None:
        form = request.get("response_format", {}).get("type", "")
        if form in forms:
            line.answer(200, completion(ANSWER))
        else:
            line.answer(400, json.dumps({"error": {"message": f"response_format {form} is not supported"}}).encode())

    return behave


def trickles_head(line: "_Line", request: dict[str, Any]) -> None:
    """A header that never ends, a byte now and then: no timeout between bytes would notice."""
    line.drip(b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 10_000)


def trickles_body(line: "_Line", request: dict[str, Any]) -> None:
    """A body of no announced length, a byte now and then."""
    line.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    line.drip(b" " * 10_000)


def hangs(line: "_Line", request: dict[str, Any]) -> None:
    """Nothing, until the client gives up."""
    line.rfile.read(1)


def breaks_off(line: "_Line", request: dict[str, Any]) -> None:
    """Half of the announced answer, then the connection is gone."""
    body = completion(ANSWER)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    line.wfile.write(head.encode() + body[: len(body) // 2])


def hangs_up(line: "_Line", request: dict[str, Any]) -> None:
    """The connection is closed without a word."""


class LanguageServer(ThreadingHTTPServer):
    """`behaviours` are used one after the other, the last for all that come then. `requests` are those it got."""

    daemon_threads = True

    def __init__(self, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Line)
        self.behaviours = list(behaviours)
        self.requests: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is what is tested; its broken pipe needs no traceback."""


class _Line(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LanguageServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.requests.append(request)
        server.heads.append(dict(self.headers))
        server.paths.append(self.path)
        behave = server.behaviours.pop(0) if len(server.behaviours) > 1 else server.behaviours[0]
        self.close_connection = True
        with suppress(OSError):
            behave(self, request)

    def answer(self, status: int, body: bytes, kind: str = "application/json", headers: Any = ()) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, data: bytes) -> None:
        for at in range(len(data)):
            self.wfile.write(data[at : at + 1])
            time.sleep(0.02)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def language_server(*behaviours: Behaviour) -> Iterator[LanguageServer]:
    """A server at work; without behaviours it gives a good answer."""
    with serve(LanguageServer(*(behaviours or (says(ANSWER),)))) as server:
        yield server
