"""The demo PBX's ARI server: the resources that the app uses, answered as Asterisk does for a read-only user.

The order of checks, headers and fields is that of res_ari.c and resource_recordings.c. tests/lab/test_demo_ari.py
compares the answers with those of real servers.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes
from uuid import NAMESPACE_OID, uuid5
from zoneinfo import ZoneInfo

from pbx.demo.ami_messages import Release
from pbx.demo.asterisk_http import BadRequest, HttpReply, Request, html_reply, json_reply, read_request
from pbx.demo.channels import CHANNEL_STATES, Channel
from pbx.demo.client_connection import ClientConnection
from pbx.demo.company import ZONE
from pbx.demo.recording_dir import RecordingDir, StoredFile
from pbx.demo.simulated_asterisk import SimulatedAsterisk

ENTITY_ID = "02:00:00:00:60:00"  # a locally administered address, which no network card has
_REALM = 'WWW-Authenticate: Basic realm="Asterisk REST Interface"'
_NOT_FOUND = "The requested URL was not found on this server."


class AriHost(Protocol):
    """What ARI needs of its PBX, which is a DemoPbx."""

    release: Release
    username: str
    password: str
    asterisk: SimulatedAsterisk
    clock: Callable[[], datetime]  # of the simulation

    @property
    def recordings(self) -> RecordingDir: ...
    def pbx_now(self) -> datetime: ...


HttpAnswer = Callable[[AriHost, str], HttpReply | StoredFile]  # the second argument is the name in the path


class _Resource(NamedTuple):
    """A path below /ari, its methods, and the answer to GET. `*` in the path matches any name."""

    path: tuple[str, ...]
    methods: str
    answer: HttpAnswer | None = None


class AriConnection:
    """One client's connection to ARI."""

    def __init__(self, pbx: AriHost, connection: ClientConnection) -> None:
        self._pbx, self._connection = pbx, connection

    @property
    def _server(self) -> str:
        return f"Asterisk/{self._pbx.release.version}"

    async def serve(self) -> None:
        """Answer requests until the client leaves or is silent for KEEP_ALIVE_S. Raises ConnectionError."""
        open_ = True
        while open_:
            try:
                request = await read_request(self._connection.reader)
            except BadRequest as error:
                await self._send_reply(html_reply(error.status, error.text, self._server, close=True), close=True)
                return
            open_ = request is not None and await self._serve_one(request)

    async def _serve_one(self, request: Request) -> bool:
        """Answer a request. Returns whether the connection stays open."""
        answer = self._answer(request)
        file = answer if isinstance(answer, StoredFile) else None
        reply = (
            answer
            if isinstance(answer, HttpReply)
            else HttpReply(200, answer.read(), (f"Content-Type: audio/{answer.format}",))
        )
        await self._send_reply(reply, close=request.wants_close)
        if file:
            await self._send_growth(file, len(reply.body))
        return not (reply.close or request.wants_close)

    def _answer(self, request: Request) -> HttpReply | StoredFile:
        return answer_request(request, self._pbx, self._server)

    async def _send_reply(self, reply: HttpReply, *, close: bool) -> None:
        head = reply.head(self._server, self._pbx.pbx_now(), self._announced_bytes(reply), close=close)
        await self._connection.send(head + reply.body)

    def _announced_bytes(self, reply: HttpReply) -> int:
        """The Content-Length."""
        return len(reply.body)

    async def _send_growth(self, file: StoredFile, sent_bytes: int) -> None:
        """Send what was added to the file meanwhile. Asterisk sends a file to its end, whatever its Content-Length."""
        while more := file.read()[sent_bytes:]:
            await self._connection.write(more)
            sent_bytes += len(more)


def answer_request(request: Request, pbx: AriHost, server: str) -> HttpReply | StoredFile:
    """ARI's reply to a request, or the file that it sends."""
    prefix, _, path = request.path.removeprefix("/").partition("/")
    if prefix != "ari" or not request.path.startswith("/"):
        return html_reply(404, _NOT_FOUND, server)
    if not _is_authenticated(request, pbx):
        return json_reply({"message": "Authentication required"}, 401, _REALM)
    if request.method not in ("GET", "OPTIONS"):
        return json_reply({"message": "Write access denied"}, 403)
    if path.endswith("/"):
        return _missing(f"ARI URLs do not end with a slash. Try /ari/{path[:-1]}")
    parts = path.partition("//")[0].split("/") if path and not path.startswith("/") else []
    words = tuple(unquote_to_bytes(part.replace("+", " ")).decode(errors="surrogateescape") for part in parts)
    resource = next((one for one in _RESOURCES if _matches(one.path, words)), None)
    if resource is None:
        return _missing("Resource not found")
    allowed = f"Allow: {resource.methods}"
    if request.method == "OPTIONS":
        return HttpReply(204, headers=(allowed,))
    if resource.answer is None:
        return json_reply({"message": "Invalid method"}, 405, allowed)
    return resource.answer(
        pbx, next((word for word, part in zip(words, resource.path, strict=True) if part == "*"), "")
    )


def _matches(path: Sequence[str], words: Sequence[str]) -> bool:
    return len(path) == len(words) and all(part in ("*", word) for part, word in zip(path, words, strict=True))


def _is_authenticated(request: Request, pbx: AriHost) -> bool:
    """Whether the password is right, in Basic authentication or otherwise in `api_key=user:password`."""
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    given = request.query.get("api_key", [""])[0].encode(errors="surrogateescape")
    if "authorization" in request.headers:
        try:
            given = base64.b64decode(credentials) if kind.lower() == "basic" else b""
        except binascii.Error:
            given = b""
    return hmac.compare_digest(given, f"{pbx.username}:{pbx.password}".encode())


def _missing(message: str) -> HttpReply:
    return json_reply({"message": message}, 404)


def _info(pbx: AriHost, _name: str) -> HttpReply:
    build = {"os": "Linux", "kernel": "unknown", "machine": "unknown", "options": "OPTIONAL_API"}
    started_at = ari_time(pbx.asterisk.booted_at)
    return json_reply(
        {
            "build": build | {"date": "2026-01-05 08:00:00 UTC", "user": "demo"},
            "system": {"version": pbx.release.version, "entity_id": ENTITY_ID},
            "config": {"name": "", "default_language": "en", "setid": {"user": "", "group": ""}},
            "status": {"startup_time": started_at, "last_reload_time": started_at},
        }
    )


def _ping(pbx: AriHost, _name: str) -> HttpReply:
    return json_reply({"ping": "pong", "timestamp": ari_time(pbx.pbx_now()), "asterisk_id": ENTITY_ID})


def _channels(pbx: AriHost, _name: str) -> HttpReply:
    return json_reply([_channel_document(channel) for channel in pbx.asterisk.channels_at(pbx.clock())])


def _channel(pbx: AriHost, name: str) -> HttpReply:
    found = next(
        (channel for channel in pbx.asterisk.channels_at(pbx.clock()) if name in (channel.uniqueid, channel.name)), None
    )
    return json_reply(_channel_document(found)) if found else _missing("Channel not found")


def _channel_document(channel: Channel) -> dict[str, object]:
    """A channel as Asterisk's ast_channel_snapshot_to_json writes it."""
    return {
        "id": channel.uniqueid,
        "name": channel.name,
        "state": CHANNEL_STATES[channel.state],
        "protocol_id": str(uuid5(NAMESPACE_OID, channel.uniqueid)),  # SIP's Call-ID
        "caller": {"name": channel.caller_name, "number": channel.number},
        "connected": {"name": channel.connected_name, "number": channel.connected},
        "accountcode": "",
        "dialplan": {
            "context": channel.context,
            "exten": channel.exten,
            "priority": channel.priority,
            "app_name": channel.application,
            "app_data": channel.data,
        },
        "creationtime": ari_time(channel.created_at),
        "language": "en",
    }


def _list(pbx: AriHost, _name: str) -> HttpReply:
    body = pbx.recordings.listing()
    if body is None:
        return json_reply({"error": "Allocation failed"}, 500)
    return HttpReply(200, body, ("Content-type: application/json",))


def _stored(pbx: AriHost, name: str) -> HttpReply:
    file = pbx.recordings.file(name)
    return json_reply({"name": name, "format": file.format}) if file else _missing("Recording not found")


def _file(pbx: AriHost, name: str) -> HttpReply | StoredFile:
    return pbx.recordings.file(name) or _missing("Recording not found")


def ari_time(at: datetime) -> str:
    """A moment in the format of ARI: local time to the millisecond, with an offset without a colon."""
    local = at.astimezone(ZoneInfo(ZONE))
    return f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond // 1000:03}{local:%z}"


_RESOURCES = (
    _Resource((), "OPTIONS"),
    _Resource(("asterisk",), "OPTIONS"),
    _Resource(("asterisk", "info"), "OPTIONS,GET", _info),
    _Resource(("asterisk", "ping"), "OPTIONS,GET", _ping),
    _Resource(("channels",), "OPTIONS,GET,POST", _channels),
    _Resource(("channels", "*"), "OPTIONS,GET,POST,DELETE", _channel),
    _Resource(("recordings",), "OPTIONS"),
    _Resource(("recordings", "stored"), "OPTIONS,GET", _list),
    _Resource(("recordings", "stored", "*"), "OPTIONS,GET,DELETE", _stored),
    _Resource(("recordings", "stored", "*", "file"), "OPTIONS,GET", _file),
    _Resource(("recordings", "stored", "*", "copy"), "OPTIONS,POST"),
)
