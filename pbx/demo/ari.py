"""The demo PBX's ARI: the paths that the app uses and their errors, as Asterisk 16 and 22 answer them to a user who may
only read.

Order of the checks, headers and fields are those of res_ari.c and resource_recordings.c, and are compared with both
servers by tests/lab/test_demo_ari.py.
"""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes
from uuid import NAMESPACE_OID, uuid5
from zoneinfo import ZoneInfo

from pbx.demo.channels import DOWN, RING, RINGING, UP, Channel
from pbx.demo.company import ZONE
from pbx.demo.faults import Faults
from pbx.demo.http import BadRequest, HttpReply, Request, html_reply, json_reply, read_request
from pbx.demo.recording_dir import Shelf, StoredFile
from pbx.demo.wire import Wire
from pbx.demo.world import World

ENTITY_ID = "02:00:00:00:60:00"  # of the locally administered addresses, which no network card has
VERSIONS = {"16": "16.28.0", "22": "22.10.1"}
_LIST = "recordings/stored"
_REALM = 'WWW-Authenticate: Basic realm="Asterisk REST Interface"'
_STATES = {DOWN: "Down", RING: "Ring", RINGING: "Ringing", UP: "Up"}
_NOT_THERE = "The requested URL was not found on this server."


class AriHost(Protocol):
    """What is served: a DemoPbx."""

    version: Literal["16", "22"]
    username: str
    password: str
    faults: Faults
    shelf: Shelf
    world: World
    clock: Callable[[], datetime]  # of the story

    def pbx_now(self) -> datetime: ...


HttpAnswer = Callable[[AriHost, str], HttpReply | StoredFile]  # by the part of the path that is a name


class _Resource(NamedTuple):
    """A path below /ari, its methods, and what answers to GET. A name in it is written *."""

    path: tuple[str, ...]
    methods: str
    answer: HttpAnswer | None = None


async def serve_ari(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pbx: AriHost) -> None:
    """Answer one client's requests until it leaves, asks to close, or asks nothing for 15 s.

    Asks the faults for what lies before the bytes (see pbx.demo.faults); a ConnectionError is the line's.
    """
    wire = Wire(reader, writer, pbx.faults)
    going_on = True
    while going_on:
        try:
            request = await read_request(reader)
        except BadRequest as error:
            reply = html_reply(error.status, error.text, _server(pbx), close=True)
            head = reply.head(_server(pbx), pbx.pbx_now(), len(reply.body), close=True)
            await wire.send(head + reply.body, "ari/")
            return
        if request is None:
            return
        going_on = await _serve_one(request, wire, writer, pbx)


def _server(pbx: AriHost) -> str:
    return f"Asterisk/{VERSIONS[pbx.version]}"


async def _serve_one(request: Request, wire: Wire, writer: asyncio.StreamWriter, pbx: AriHost) -> bool:
    """Answer a request, or do to it what is armed; whether the connection stays open."""
    server = _server(pbx)
    where = f"ari/{request.path.removeprefix('/ari/').lstrip('/')}"
    if pbx.faults.take("mute", where):
        return True
    if request.path == f"/ari/{_LIST}" and (slow := pbx.faults.take("slow_list", where)):
        await asyncio.sleep(slow.seconds)
    failing = pbx.faults.take("server_error", where)
    found = _failure(failing.status, server) if failing else answer_request(request, pbx, server)
    if pbx.faults.take("nested", where):
        found = HttpReply(200, b"[" * 200_000, ("Content-type: application/json",))
    if pbx.faults.take("endless", where):
        await _send_endless(wire, where, pbx)
    file = found if isinstance(found, StoredFile) else None
    reply = (
        found
        if isinstance(found, HttpReply)
        else HttpReply(200, found.read(), (f"Content-Type: audio/{found.format}",))
    )
    wrong = pbx.faults.take("wrong_length", where)
    length_bytes = max(len(reply.body) + (wrong.extra_bytes if wrong else 0), 0)
    head = reply.head(server, pbx.pbx_now(), length_bytes, close=request.wants_close)
    await wire.send(head + reply.body, where)
    if file:
        await _send_growth(file, len(reply.body), writer)
    return not (wrong or reply.close or request.wants_close)


async def _send_endless(wire: Wire, where: str, pbx: AriHost) -> None:
    """Ten gigabytes of a list, as fast as they are taken; a ConnectionError ends it."""
    await wire.send(HttpReply(200).head(_server(pbx), pbx.pbx_now(), 10**10, close=False) + b"[", where)
    while True:
        await wire.send(b'{"name":"a","format":"wav"},' * 2000, where)


async def _send_growth(file: StoredFile, sent_bytes: int, writer: asyncio.StreamWriter) -> None:
    """What a file has grown by meanwhile: Asterisk reads to its end, whatever length it has announced.

    Past the faults, which had their turn with the answer.
    """
    while more := file.read()[sent_bytes:]:
        writer.write(more)
        await writer.drain()
        sent_bytes += len(more)


def answer_request(request: Request, pbx: AriHost, server: str) -> HttpReply | StoredFile:
    """What ARI says to a request, or the file that it hands out."""
    prefix, _, path = request.path.removeprefix("/").partition("/")
    if prefix != "ari" or not request.path.startswith("/"):
        return html_reply(404, _NOT_THERE, server)
    if not _is_known(request, pbx):
        return json_reply({"message": "Authentication required"}, 401, _REALM)
    if request.method not in ("GET", "OPTIONS"):
        return json_reply({"message": "Write access denied"}, 403)
    if path.endswith("/"):
        return _missing(f"ARI URLs do not end with a slash. Try /ari/{path[:-1]}")
    parts = path.partition("//")[0].split("/") if path and not path.startswith("/") else []
    words = tuple(unquote_to_bytes(part.replace("+", " ")).decode(errors="surrogateescape") for part in parts)
    resource = next((one for one in _RESOURCES if _fits(one.path, words)), None)
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


def _fits(path: Sequence[str], words: Sequence[str]) -> bool:
    return len(path) == len(words) and all(part in ("*", word) for part, word in zip(path, words, strict=True))


def _is_known(request: Request, pbx: AriHost) -> bool:
    """By Basic authentication, or without a header by `api_key=user:password`."""
    kind, _, told = request.headers.get("authorization", "").partition(" ")
    given = request.query.get("api_key", [""])[0].encode(errors="surrogateescape")
    if "authorization" in request.headers:
        try:
            given = base64.b64decode(told) if kind.lower() == "basic" else b""
        except binascii.Error:
            given = b""
    return hmac.compare_digest(given, f"{pbx.username}:{pbx.password}".encode())


def _missing(message: str) -> HttpReply:
    return json_reply({"message": message}, 404)


def _failure(status: int, server: str) -> HttpReply:
    """Asterisk's own answer of that status, where it has one."""
    if status == 500:
        return json_reply({"error": "Allocation failed"}, 500)
    if status == 503:
        return json_reply({"message": "Asterisk not booted"}, 503, close=True)
    return html_reply(status, "The demo PBX was told to fail.", server)


def _info(pbx: AriHost, _name: str) -> HttpReply:
    build = {"os": "Linux", "kernel": "unknown", "machine": "unknown", "options": "OPTIONAL_API"}
    begun = stamp(pbx.world.booted_at)
    return json_reply(
        {
            "build": build | {"date": "2026-01-05 08:00:00 UTC", "user": "demo"},
            "system": {"version": VERSIONS[pbx.version], "entity_id": ENTITY_ID},
            "config": {"name": "", "default_language": "en", "setid": {"user": "", "group": ""}},
            "status": {"startup_time": begun, "last_reload_time": begun},
        }
    )


def _ping(pbx: AriHost, _name: str) -> HttpReply:
    return json_reply({"ping": "pong", "timestamp": stamp(pbx.pbx_now()), "asterisk_id": ENTITY_ID})


def _channels(pbx: AriHost, _name: str) -> HttpReply:
    return json_reply([_channel_document(channel) for channel in pbx.world.channels_at(pbx.clock())])


def _channel(pbx: AriHost, name: str) -> HttpReply:
    found = next(
        (channel for channel in pbx.world.channels_at(pbx.clock()) if name in (channel.uniqueid, channel.name)), None
    )
    return json_reply(_channel_document(found)) if found else _missing("Channel not found")


def _channel_document(channel: Channel) -> dict[str, object]:
    """A channel as Asterisk's ast_channel_snapshot_to_json writes it."""
    return {
        "id": channel.uniqueid,
        "name": channel.name,
        "state": _STATES[channel.state],
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
        "creationtime": stamp(channel.created_at),
        "language": "en",
    }


def _list(pbx: AriHost, _name: str) -> HttpReply:
    body = pbx.shelf.listing()
    return _failure(500, "") if body is None else HttpReply(200, body, ("Content-type: application/json",))


def _stored(pbx: AriHost, name: str) -> HttpReply:
    file = pbx.shelf.file(name)
    return json_reply({"name": name, "format": file.format}) if file else _missing("Recording not found")


def _file(pbx: AriHost, name: str) -> HttpReply | StoredFile:
    return pbx.shelf.file(name) or _missing("Recording not found")


def stamp(at: datetime) -> str:
    """A moment as ARI writes it: local time to the millisecond, the offset without a colon."""
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
