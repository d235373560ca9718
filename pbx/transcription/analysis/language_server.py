"""Summaries by a language server: any with OpenAI's chat completions API (Ollama, llama.cpp, vLLM ...).

Its answers are checked against a schema, because it may be wrong, slow, hostile, or manipulated by the transcript.
No error message contains the key, the credentials in the URL, the transcript, or what the server wrote.
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
MAX_ANSWER_BYTES = 1024 * 1024
_CONNECT_S = 10.0
_MAX_TOKENS = 1000
_CHUNK_BYTES = 64 * 1024
_FIX_URL = "Set ANALYSIS_URL to the API’s URL including /v1, such as http://127.0.0.1:11434/v1."
_RETRIED_LATER = "The app tries again later and makes the summary on this machine until then."
# Request parameters. If a server rejects them, the next set, which requires less of it, is tried; the last is empty.
_REQUEST_PARAMETERS: tuple[dict[str, Any], ...] = (
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "call_summary", "strict": True, "schema": ANSWER_SCHEMA},
        },
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
    },
    {"response_format": {"type": "json_object"}, "max_tokens": _MAX_TOKENS, "temperature": 0},
    {},
)
_REFUSALS = {
    401: ("rejected the key (401)", "Check ANALYSIS_KEY."),
    403: ("rejected the key (403)", "Check ANALYSIS_KEY and its permissions."),
    404: ("doesn’t know the URL or the model (404)", f"Check ANALYSIS_MODEL. {_FIX_URL}"),
    400: ("rejected the request (400)", "Check ANALYSIS_MODEL. The model needs a context of 4,096 tokens or more."),
    422: ("rejected the request (422)", "Check ANALYSIS_MODEL. The model needs a context of 4,096 tokens or more."),
    413: ("rejected the transcript as too long (413)", "Give the model a context of 4,096 tokens or more."),
    429: ("is overloaded (429)", _RETRIED_LATER),
}
_TAG = re.compile(r"<(?:[a-zA-Z/!?][^<>]*>|(?:script|style|iframe|img|svg|object|embed|link)\b[^<>]*$)", re.I)
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^)\n]*\)")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.S)
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.S)

Sentiment = Literal["positive", "neutral", "negative", "mixed"]


class _SummaryAnswer(BaseModel):
    """The answer of a server. Answers with other keys, or with longer texts, are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True)

    summary: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    reason: Annotated[str, StringConstraints(max_length=500)]
    outcome: Annotated[str, StringConstraints(max_length=500)]
    follow_ups: conlist(Annotated[str, StringConstraints(max_length=300)], max_length=20)  # type: ignore[valid-type]
    sentiment: Sentiment


@dataclass(frozen=True)
class _Server:
    """The server's URL in its parts, so that messages about it contain no secret."""

    scheme: str
    host: str
    port: int | None
    path: str  # of chat completions, with the query if any
    login: str = field(repr=False)  # "user:password" of the URL, or ""

    @property
    def name(self) -> str:
        """The server as error messages name it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"The language server at {self.scheme}://{host}{f':{self.port}' if self.port else ''}"

    def error(self, what: str, fix: str) -> AnalysisError:
        """Return an error that says what the server did, and how to fix it."""
        return AnalysisError(f"{self.name} {what}.", fix)


def summarise(
    segments: Sequence[SpokenSegment], *, url: str, model: str, key: SecretStr, deadline_s: float = DEADLINE_S
) -> Analysis:
    """Return the summary, reason, outcome, follow-ups and sentiment from the server at `url` (…/v1).

    The rest of the Analysis is empty; `engine` is the model. All attempts together take at most `deadline_s`. Raises
    AnalysisError if there is nothing to summarise, the server doesn't answer by the deadline, or its answer is not
    usable.
    """
    messages = build_messages(segments)
    if not messages:
        raise AnalysisError("There are no words to summarise.", "Listen to the recording.")
    try:
        answer = _request_summary(_parse_url(url), key, {"model": model} if model else {}, messages, deadline_s)
    except AnalysisError as error:
        error.__context__ = None  # it may contain what the server wrote, or the URL
        raise
    return Analysis(
        summary=answer.summary,
        reason=answer.reason,
        outcome=answer.outcome,
        follow_ups=list(answer.follow_ups),
        sentiment=answer.sentiment,
        engine=model or "language server",
    )


def _request_summary(
    server: _Server, key: SecretStr, base: dict[str, Any], messages: list[dict[str, str]], deadline_s: float
) -> _SummaryAnswer:
    headers = _headers(server, key)
    end = time.monotonic() + deadline_s
    status, kind, body = 0, "", b""
    for parameters in _REQUEST_PARAMETERS:
        request = json.dumps({**base, "messages": messages, "stream": False, **parameters}).encode()
        status, kind, body = _post(server, headers, request, end, deadline_s)
        if status not in (400, 422):
            break
    if status != 200:
        raise _refusal(server, status)
    return _read_answer(server, kind, body)


def _parse_url(url: str) -> _Server:
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError:
        parts, port, host = urlsplit(""), None, ""
    path = f"{parts.path.rstrip('/')}/chat/completions" + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or not host or not path.isascii() or not path.isprintable() or " " in path:
        raise AnalysisError("ANALYSIS_URL is not a valid URL of a server.", _FIX_URL)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return _Server(parts.scheme, host, port, path, login)


def _headers(server: _Server, key: SecretStr) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    secret = key.get_secret_value()
    if not secret.isascii() or not secret.isprintable():  # http.client would quote it in its error
        raise AnalysisError("ANALYSIS_KEY contains invalid characters.", "Copy the key again, without line breaks.")
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    elif server.login:
        headers["Authorization"] = f"Basic {base64.b64encode(server.login.encode()).decode()}"
    return headers


def _post(
    server: _Server, headers: Mapping[str, str], body: bytes, end: float, deadline_s: float
) -> tuple[int, str, bytes]:
    """Send one request; return status, content type and body. Ignores redirects and the environment's proxy."""
    too_slow = server.error(f"took longer than {deadline_s:g} s", f"A smaller model is faster. {_RETRIED_LATER}")
    remaining_s = end - time.monotonic()
    if remaining_s <= 0:
        raise too_slow
    connection = _connection(server, min(remaining_s, _CONNECT_S))
    try:
        with time_limit(remaining_s):
            connection.connect()
            connection.timeout = remaining_s
            connection.request(
                "POST", server.path, body=body, headers=headers, preload_content=False, decode_content=False
            )
            response = connection.getresponse()
            return response.status, response.headers.get("Content-Type", ""), _read_body(server, response)
    except OutOfTime:
        raise too_slow from None
    except (OSError, HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise (too_slow if time.monotonic() >= end else _connection_error(server, error)) from None
    finally:
        connection.close()


def _connection(server: _Server, timeout_s: float) -> TimedHTTPConnection | TimedHTTPSConnection:
    if server.scheme == "https":
        context = ssl.create_default_context()
        return TimedHTTPSConnection(server.host, server.port, timeout=timeout_s, ssl_context=context)
    return TimedHTTPConnection(server.host, server.port, timeout=timeout_s)


def _read_body(server: _Server, response: urllib3.BaseHTTPResponse) -> bytes:
    body = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise server.error("sent more than 1 MB", "That isn’t a summary. Check ANALYSIS_URL.")
    return bytes(body)


def _connection_error(server: _Server, error: Exception) -> AnalysisError:
    causes = [error, getattr(error, "reason", None), error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLError | urllib3.exceptions.SSLError) for cause in causes):
        return server.error("can’t be trusted: its TLS certificate or protocol is invalid", "Check ANALYSIS_URL.")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return server.error(
            "can’t be reached: connection refused", "Check that it is running and that the port is right."
        )
    if isinstance(error, urllib3.exceptions.NameResolutionError | socket.gaierror):
        return server.error("can’t be reached: unknown host name", _FIX_URL)
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return server.error("can’t be reached: no answer", "Check that it is running and that the port is right.")
    return server.error("closed the connection before the answer was complete", _RETRIED_LATER)


def _refusal(server: _Server, status: int) -> AnalysisError:
    if status in _REFUSALS:
        return server.error(*_REFUSALS[status])
    if 300 <= status < 400:
        return server.error(f"redirects to another URL ({status})", "Set ANALYSIS_URL to that URL.")
    return server.error(f"failed ({status})", f"See the server’s log. {_RETRIED_LATER}")


def _read_answer(server: _Server, kind: str, body: bytes) -> _SummaryAnswer:
    """Return the checked answer in a response. Raises AnalysisError if it is not usable."""
    if "html" in kind or body.lstrip()[:1] == b"<":
        raise server.error("sent a web page instead of JSON", _FIX_URL)
    try:
        choice = json.loads(body)["choices"][0]
        content, ending = choice["message"]["content"], choice.get("finish_reason")
        if not isinstance(content, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise server.error("doesn’t use OpenAI’s API format", _FIX_URL) from None
    if ending == "length":
        raise server.error("cut its answer off because of its length", "Give the model a longer context.")
    answer_text = _THOUGHT.sub("", content)
    if fenced := _FENCE.match(answer_text):
        answer_text = fenced[1]
    try:
        answer = _SummaryAnswer.model_validate(_cleaned(json.loads(answer_text)))
    except RecursionError:
        raise server.error("didn’t write valid JSON", _RETRIED_LATER) from None
    except ValidationError as error:
        raise server.error(f"didn’t write the requested JSON keys ({_wrong_keys(error)})", _RETRIED_LATER) from None
    except ValueError:
        raise server.error("didn’t write valid JSON", f"Try another model. {_RETRIED_LATER}") from None
    return answer.model_copy(update={"follow_ups": [text for text in answer.follow_ups if text]})


def _wrong_keys(error: ValidationError) -> str:
    """Name the requested keys that are wrong, but no key that the server invented."""
    names = {str(wrong["loc"][0]) for wrong in error.errors(include_input=False, include_url=False) if wrong["loc"]}
    known = sorted(names & set(_SummaryAnswer.model_fields))
    return ", ".join(known) if known else "other keys"


def _cleaned(value: Any) -> Any:
    """Return the values of an answer as plain text, without markup, links and control characters."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_clean(item) if isinstance(item, str) else item for item in value]
    if isinstance(value, dict):
        return {name: _cleaned(item) if isinstance(item, str | list) else item for name, item in value.items()}
    return value


def _clean(text: str) -> str:
    plain = html.unescape(html.unescape(text[:4000]))
    while (bare := _TAG.sub("", plain)) != plain:  # the rest may form another tag
        plain = bare
    plain = _LINK.sub(r"\1", plain)
    visible = (" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in plain)
    kept = (char for char in visible if unicodedata.category(char) not in ("Cf", "Cs", "Co") or char in "\u200c\u200d")
    return " ".join("".join(kept).split())
