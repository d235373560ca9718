"""Summaries by a language server: any that speaks OpenAI's chat completions (Ollama, llama.cpp, vLLM ...).

What it answers is believed only as far as a schema goes: it may be wrong, slow, hostile, or talked into something by
the transcript. No error tells the key, the address's credentials, the transcript, or what the server wrote.
"""

import base64
import html
import json
import re
import socket
import ssl
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import urllib3.exceptions
from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints, ValidationError
from pydantic.types import conlist

from pbx.errors import AnalysisError
from pbx.timed_http import OutOfTime, TimedHTTPConnection, TimedHTTPSConnection, time_limit
from pbx.transcription.analysis.findings import Analysis, SpokenSegment
from pbx.transcription.analysis.prompt import ANSWER_SCHEMA, build_messages

DEADLINE_S = 60.0
MOST_BYTES = 1024 * 1024  # of an answer
_CONNECT_S = 10.0
_MOST_TOKENS = 1000
_CHUNK_BYTES = 64 * 1024
_ADDRESS_MEND = "Set ANALYSIS_URL to the API's address, up to and with /v1, such as http://127.0.0.1:11434/v1."
_RETRY_MEND = "It is asked again later; until then the summary is made on this machine."
# Each form that a server may refuse is followed by one that asks less of it; the last is nothing but messages.
_FORMS: tuple[dict[str, Any], ...] = (
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "call_summary", "strict": True, "schema": ANSWER_SCHEMA},
        },
        "max_tokens": _MOST_TOKENS,
        "temperature": 0,
    },
    {"response_format": {"type": "json_object"}, "max_tokens": _MOST_TOKENS, "temperature": 0},
    {},
)
_REFUSALS = {
    401: ("refuses the key (401)", "Check ANALYSIS_KEY."),
    403: ("refuses the key (403)", "Check ANALYSIS_KEY and what it may do."),
    404: ("knows no such address or model (404)", f"Check ANALYSIS_MODEL. {_ADDRESS_MEND}"),
    400: ("can't do what it is asked (400)", "Check ANALYSIS_MODEL, and that the model reads 4,096 tokens or more."),
    422: ("can't do what it is asked (422)", "Check ANALYSIS_MODEL, and that the model reads 4,096 tokens or more."),
    413: ("finds the transcript too long (413)", "Give the model a context of 4,096 tokens or more."),
    429: ("has too much to do (429)", _RETRY_MEND),
}
_TAG = re.compile(r"<(?:[a-zA-Z/!?][^<>]*>|(?:script|style|iframe|img|svg|object|embed|link)\b[^<>]*$)", re.I)
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^)\n]*\)")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.S)
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.S)

Sentiment = Literal["positive", "neutral", "negative", "mixed"]


class _SummaryAnswer(BaseModel):
    """What a server may say; more, less or longer is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    summary: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    reason: Annotated[str, StringConstraints(max_length=500)]
    outcome: Annotated[str, StringConstraints(max_length=500)]
    follow_ups: conlist(Annotated[str, StringConstraints(max_length=300)], max_length=20)  # type: ignore[valid-type]
    sentiment: Sentiment


@dataclass(frozen=True)
class _Server:
    """Where to ask: an address taken apart, so that what is said of it holds no secret."""

    scheme: str
    host: str
    port: int | None
    path: str  # of chat completions, with the query if any
    login: str = field(repr=False)  # "user:password" of the address, or ""

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"The language server at {self.scheme}://{host}{f':{self.port}' if self.port else ''}"

    def fault(self, what: str, fix: str) -> AnalysisError:
        return AnalysisError(f"{self.name} {what}.", fix)


def summarise(
    segments: Sequence[SpokenSegment], *, url: str, model: str, key: SecretStr, deadline_s: float = DEADLINE_S
) -> Analysis:
    """Return summary, reason, outcome, follow-ups and sentiment as the server at `url` (…/v1) gives them.

    The rest of the Analysis is empty; `engine` is the model. All attempts together take `deadline_s` at most. Raises
    AnalysisError when there is nothing to summarise, the server can't be reached in time, or its answer isn't usable.
    """
    messages = build_messages(segments)
    if not messages:
        raise AnalysisError("There are no words to summarise.", "Listen to the recording.")
    try:
        answer = _ask(_parse(url), key, {"model": model} if model else {}, messages, deadline_s)
    except AnalysisError as error:
        error.__context__ = None  # it may hold what the server wrote, or the address, for tools that look behind
        raise
    return Analysis(
        summary=answer.summary,
        reason=answer.reason,
        outcome=answer.outcome,
        follow_ups=list(answer.follow_ups),
        sentiment=answer.sentiment,
        engine=model or "language server",
    )


def _ask(
    server: _Server, key: SecretStr, base: dict[str, Any], messages: list[dict[str, str]], deadline_s: float
) -> _SummaryAnswer:
    headers = _headers(server, key)
    end = time.monotonic() + deadline_s
    status, kind, body = 0, "", b""
    for form in _FORMS:
        request = json.dumps({**base, "messages": messages, "stream": False, **form}).encode()
        status, kind, body = _post(server, headers, request, end, deadline_s)
        if status not in (400, 422):
            break
    if status != 200:
        raise _refusal(server, status)
    return _read_answer(server, kind, body)


def _parse(url: str) -> _Server:
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError:
        parts, port, host = urlsplit(""), None, ""
    path = f"{parts.path.rstrip('/')}/chat/completions" + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or not host or not path.isascii() or not path.isprintable() or " " in path:
        raise AnalysisError("ANALYSIS_URL is not the address of a server.", _ADDRESS_MEND)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return _Server(parts.scheme, host, port, path, login)


def _headers(server: _Server, key: SecretStr) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    secret = key.get_secret_value()
    if not secret.isascii() or not secret.isprintable():  # http.client would quote it in its error
        raise AnalysisError("ANALYSIS_KEY holds characters that no key has.", "Copy it again, without line breaks.")
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    elif server.login:
        headers["Authorization"] = f"Basic {base64.b64encode(server.login.encode()).decode()}"
    return headers


def _post(
    server: _Server, headers: Mapping[str, str], body: bytes, end: float, deadline_s: float
) -> tuple[int, str, bytes]:
    """Ask once; return status, content type and body. No redirect is followed, no environment's proxy is used."""
    too_slow = server.fault(f"took longer than {deadline_s:g} s", f"A smaller model answers sooner. {_RETRY_MEND}")
    left_s = end - time.monotonic()
    if left_s <= 0:
        raise too_slow
    line = _connection(server, min(left_s, _CONNECT_S))
    try:
        with time_limit(left_s):
            line.connect()
            line.timeout = left_s
            line.request("POST", server.path, body=body, headers=headers, preload_content=False, decode_content=False)
            response = line.getresponse()
            return response.status, response.headers.get("Content-Type", ""), _read_body(server, response)
    except OutOfTime:
        raise too_slow from None
    except (OSError, HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise (too_slow if time.monotonic() >= end else _line_fault(server, error)) from None
    finally:
        line.close()


def _connection(server: _Server, timeout_s: float) -> TimedHTTPConnection | TimedHTTPSConnection:
    if server.scheme == "https":
        context = ssl.create_default_context()
        return TimedHTTPSConnection(server.host, server.port, timeout=timeout_s, ssl_context=context)
    return TimedHTTPConnection(server.host, server.port, timeout=timeout_s)


def _read_body(server: _Server, response: urllib3.BaseHTTPResponse) -> bytes:
    body = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        body += chunk
        if len(body) > MOST_BYTES:
            raise server.fault("answers with more than 1 MB", "It isn't a summary that it sends; check ANALYSIS_URL.")
    return bytes(body)


def _line_fault(server: _Server, error: Exception) -> AnalysisError:
    causes = [error, getattr(error, "reason", None), error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLError | urllib3.exceptions.SSLError) for cause in causes):
        return server.fault("can't be trusted: its TLS certificate or protocol is wrong", "Check ANALYSIS_URL.")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return server.fault("can't be reached: connection refused", "Is it running, and is the port right?")
    if isinstance(error, urllib3.exceptions.NameResolutionError | socket.gaierror):
        return server.fault("can't be reached: its name is not known", _ADDRESS_MEND)
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return server.fault("can't be reached: it doesn't answer", "Is it running, and is the port right?")
    return server.fault("broke off its answer", _RETRY_MEND)


def _refusal(server: _Server, status: int) -> AnalysisError:
    if status in _REFUSALS:
        return server.fault(*_REFUSALS[status])
    if 300 <= status < 400:
        return server.fault(f"sends to another address ({status})", "Set ANALYSIS_URL to that one itself.")
    return server.fault(f"failed ({status})", f"Its own log tells why. {_RETRY_MEND}")


def _read_answer(server: _Server, kind: str, body: bytes) -> _SummaryAnswer:
    """The checked answer in a response, or an AnalysisError that says what is wrong with it."""
    if "html" in kind or body.lstrip()[:1] == b"<":
        raise server.fault("answers with a web page, not with JSON", _ADDRESS_MEND)
    try:
        choice = json.loads(body)["choices"][0]
        content, ending = choice["message"]["content"], choice.get("finish_reason")
        if not isinstance(content, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise server.fault("doesn't answer in OpenAI's protocol", _ADDRESS_MEND) from None
    if ending == "length":
        raise server.fault("broke off in the middle of its answer, for its length", "Give the model a longer context.")
    written = _THOUGHT.sub("", content)
    if fenced := _FENCE.match(written):
        written = fenced[1]
    try:
        given = json.loads(written)
        answer = _SummaryAnswer.model_validate(_cleaned(given))
    except RecursionError:
        raise server.fault("didn't write JSON", _RETRY_MEND) from None
    except ValidationError as error:
        raise server.fault(f"didn't keep to the form asked for ({_wrong(error)})", _RETRY_MEND) from None
    except ValueError:
        raise server.fault("didn't write JSON", f"Another model may keep to it. {_RETRY_MEND}") from None
    return answer.model_copy(update={"follow_ups": [text for text in answer.follow_ups if text]})


def _wrong(error: ValidationError) -> str:
    """Which of our own names is wrong; a name of the server's making isn't repeated."""
    names = {str(fault["loc"][0]) for fault in error.errors(include_input=False, include_url=False) if fault["loc"]}
    known = sorted(names & set(_SummaryAnswer.model_fields))
    return ", ".join(known) if known else "other keys than asked for"


def _cleaned(value: Any) -> Any:
    """The values of an answer as plain text: no markup, no links, no control characters."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_clean(item) if isinstance(item, str) else item for item in value]
    if isinstance(value, dict):
        return {name: _cleaned(item) if isinstance(item, str | list) else item for name, item in value.items()}
    return value


def _clean(text: str) -> str:
    plain = html.unescape(html.unescape(text[:4000]))
    while (bare := _TAG.sub("", plain)) != plain:  # what is left may make a tag together
        plain = bare
    plain = _LINK.sub(r"\1", plain)
    visible = (" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in plain)
    kept = (char for char in visible if unicodedata.category(char) not in ("Cf", "Cs", "Co") or char in "\u200c\u200d")
    return " ".join("".join(kept).split())
