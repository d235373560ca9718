"""HTTP as Asterisk's own server implements it: reads requests and writes replies, with its headers in its order."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import parse_qs

KEEP_ALIVE_S = 15.0  # session_keep_alive of http.conf: a connection is closed after so long without a request
_MAX_LINE_BYTES = 4096  # MAX_HTTP_LINE_LENGTH
_MAX_HEADERS = 100
_CHUNK_BYTES = 65_536
_PHRASES = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` has no query and is still percent-encoded; the names of `headers` are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def wants_close(self) -> bool:
        """Whether to close after the reply. Unlike in other servers, HTTP/1.0 alone doesn't mean that."""
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply. `headers` are those between Cache-Control and Content-Length."""

    status: int
    body: bytes = b""
    headers: tuple[str, ...] = ()
    close: bool = False

    def head(self, server: str, at: datetime, length_bytes: int, *, close: bool) -> bytes:
        """The status line and all headers, with `length_bytes` as Content-Length."""
        lines = [
            f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Error')}",
            f"Server: {server}",
            f"Date: {format_datetime(at, usegmt=True)}",
            *(["Connection: close"] if self.close or close else []),
            "Cache-Control: no-cache, no-store",
            *self.headers,
            f"Content-Length: {length_bytes}",
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


@dataclass(frozen=True)
class BadRequest(Exception):
    """A request that can't be parsed. The server replies with an error and closes the connection."""

    status: int
    text: str


def json_reply(answer: object, status: int = 200, *headers: str, close: bool = False) -> HttpReply:
    """A reply of ARI: compact JSON in UTF-8. Errors have a field `message`."""
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogateescape")
    return HttpReply(status, body, (*headers, "Content-type: application/json"), close)


def html_reply(status: int, text: str, server: str, *, close: bool = False) -> HttpReply:
    """A reply of the web server itself, for requests outside ARI."""
    phrase = _PHRASES.get(status, "Error")
    lines = (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">',
        "<html><head>",
        f"<title>{status} {phrase}</title>",
        "</head><body>",
        f"<h1>{phrase}</h1>",
        f"<p>{text}</p>",
        "<hr />",
        f"<address>{server}</address>",
        "</body></html>",
    )
    return HttpReply(status, "".join(f"{line}\r\n" for line in lines).encode(), ("Content-type: text/html",), close)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request, without its body. None after the client has left or has sent nothing for KEEP_ALIVE_S.

    Raises BadRequest.
    """
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            words = (await _read_line(reader, "Request line too long")).split()
            headers = await _read_headers(reader)
            if len(words) < 2:
                raise BadRequest(400, "Invalid Request")
            await _skip_body(reader, headers)
    except (TimeoutError, EOFError, OSError):
        return None
    path, _, query = words[1].partition("?")
    return Request(words[0].upper(), path, parse_qs(query, errors="surrogateescape"), headers)


async def _read_line(reader: asyncio.StreamReader, message: str) -> str:
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise BadRequest(400, message) from None
    if len(line) >= _MAX_LINE_BYTES:
        raise BadRequest(400, message)
    return line.decode(errors="surrogateescape").strip()


async def _read_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers up to the empty line. Lines without a colon are ignored."""
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS + 1):
        line = await _read_line(reader, "Header line too long")
        if not line:
            return headers
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    raise BadRequest(413, "Too many headers")


async def _skip_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    """Read a body and drop it: no resource here uses one."""
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise BadRequest(400, "Invalid Content-Length in request!")
    remaining_bytes = int(length)
    while remaining_bytes:
        chunk = await reader.read(min(remaining_bytes, _CHUNK_BYTES))
        if not chunk:
            raise EOFError
        remaining_bytes -= len(chunk)
