"""A language server on loopback that answers OpenAI's chat completions, correctly or with any fault."""

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
Behaviour = Callable[["_Handler", dict[str, Any]], None]


def completion(content: Any, *, finish_reason: str = "stop") -> bytes:
    """The complete response body around a text that the model wrote."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980}
    document = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return json.dumps({**document, "choices": [choice]}).encode()


def writes(content: Any, *, finish_reason: str = "stop") -> Behaviour:
    """Responds with `content` as the text that the model wrote."""
    return lambda handler, _: handler.answer(200, completion(content, finish_reason=finish_reason))


def responds(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Behaviour:
    """Responds with a status and a body of these bytes."""
    return lambda handler, _: handler.answer(status, body, kind, headers)


def supports_only(*formats: str) -> Behaviour:
    """Rejects other response formats with 400, as OpenAI's servers do; "" means a request without one."""

    def behave(handler: "_Handler", request: dict[str, Any]) -> None:
        requested = request.get("response_format", {}).get("type", "")
        if requested in formats:
            handler.answer(200, completion(ANSWER))
        else:
            handler.answer(
                400, json.dumps({"error": {"message": f"response_format {requested} is not supported"}}).encode()
            )

    return behave


def trickles_head(handler: "_Handler", request: dict[str, Any]) -> None:
    """Sends an endless header, byte by byte, so that no timeout between bytes expires."""
    handler.drip(b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 10_000)


def trickles_body(handler: "_Handler", request: dict[str, Any]) -> None:
    """Sends a body without Content-Length, byte by byte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    handler.drip(b" " * 10_000)


def hangs(handler: "_Handler", request: dict[str, Any]) -> None:
    """Sends nothing until the client closes the connection."""
    handler.rfile.read(1)


def breaks_off(handler: "_Handler", request: dict[str, Any]) -> None:
    """Closes the connection after half of the announced response."""
    body = completion(ANSWER)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    handler.wfile.write(head.encode() + body[: len(body) // 2])


def hangs_up(handler: "_Handler", request: dict[str, Any]) -> None:
    """Closes the connection without a response."""


class LanguageServer(ThreadingHTTPServer):
    """Uses its `behaviours` one per request, and the last for all later requests. `requests` holds what it received."""

    daemon_threads = True

    def __init__(self, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviours = list(behaviours)
        self.requests: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints no traceback: tests let clients close the connection early."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LanguageServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.requests.append(request)
        server.heads.append(dict(self.headers))
        server.paths.append(self.path)
        behaviour = server.behaviours.pop(0) if len(server.behaviours) > 1 else server.behaviours[0]
        self.close_connection = True
        with suppress(OSError):
            behaviour(self, request)

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
        """Logs nothing."""


@contextmanager
def language_server(*behaviours: Behaviour) -> Iterator[LanguageServer]:
    """Run a server; without behaviours it responds with `ANSWER`."""
    with serve(LanguageServer(*(behaviours or (writes(ANSWER),)))) as server:
        yield server
