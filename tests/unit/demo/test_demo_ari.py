"""The simulated PBX's ARI: used by the app's client, and compared byte for byte with replies of real Asterisk."""

import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from pbx.asterisk.ari.client import AriClient
from pbx.asterisk.doctor import check_connection
from pbx.demo import asterisk_http
from pbx.demo.company import ZONE
from pbx.errors import AriLoginError, AriNotFound, AriServerError
from tests.simulator.asterisk_22 import RELEASES
from tests.simulator.http_client import Answer, ask, ask_raw, authorization, busy_moment
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import SimulatedRecordings
from tests.unit.asterisk.ari.replay_server import captured, wav

BUSY = busy_moment()
STORED = "/ari/recordings/stored"


@pytest.fixture(params=RELEASES)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def pbx(version: int) -> Iterator[SimulatedPbx]:
    with SimulatedPbx(release=RELEASES[version], recordings=SimulatedRecordings(), clock=lambda: BUSY) as simulated_pbx:
        yield simulated_pbx


@pytest.fixture
def client(pbx: SimulatedPbx) -> Iterator[AriClient]:
    with AriClient(pbx.connection(), backoff_s=0.001) as ari_client:
        yield ari_client


@pytest.mark.parametrize(
    "name", ["info", "ping", "channels", "list", "404-path", "404-recording", "file", "file-empty"]
)
def test_replies_have_the_shape_of_the_captured_ones(pbx: SimulatedPbx, version: int, name: str) -> None:
    pbx.recordings.add("2026/11/20/q-600-1-20261120-110000-1795172400.1", wav())
    pbx.recordings.add("empty", b"")
    paths = {
        "info": "/ari/asterisk/info",
        "ping": "/ari/asterisk/ping",
        "channels": "/ari/channels",
        "list": STORED,
        "404-path": "/ari/nothing/here",
        "404-recording": f"{STORED}/nothing/file",
        "file": f"{STORED}/{quote(pbx.recordings.names()[0], safe='')}/file",
        "file-empty": f"{STORED}/empty/file",
    }
    assert ask(pbx.connection(), paths[name]).shape == Answer(captured(name, version)).shape


@pytest.mark.parametrize("name", ["401", "403", "404-path", "404-recording", "bare-list", "list-500"])
def test_these_replies_equal_the_captured_ones_except_server_and_date(
    pbx: SimulatedPbx, version: int, name: str
) -> None:
    if name == "list-500":
        pbx.recordings.add("bad\udcff", b"x")
    reply = {
        "401": ("GET", STORED, authorization(pbx.connection(), "wrong")),
        "403": ("DELETE", f"{STORED}/nothing", authorization(pbx.connection())),
        "404-path": ("GET", "/ari/nothing/here", authorization(pbx.connection())),
        "404-recording": ("GET", f"{STORED}/nothing/file", authorization(pbx.connection())),
    }
    method, path, header = reply.get(name, ("GET", STORED, authorization(pbx.connection())))
    real = captured(name, version)
    raw = ask_raw(pbx.connection(), f"{method} {path} HTTP/1.1\r\n{header}\r\n\r\n".encode())
    for line in (rb"Server: [^\r]*", rb"Date: [^\r]*"):
        real, raw = re.sub(line, b"", real), re.sub(line, b"", raw)
    assert raw == real


def test_info_has_the_version_and_the_start_time(pbx: SimulatedPbx, client: AriClient) -> None:
    info = client.info()
    assert info.version == pbx.release.version
    assert info.started_at == pbx.asterisk.booted_at < BUSY


def test_channels_are_those_of_current_calls(pbx: SimulatedPbx, client: AriClient) -> None:
    channels = pbx.asterisk.channels_at(BUSY)
    assert len(channels) > 3
    assert client.channels() == {channel.uniqueid for channel in channels}
    document = json.loads(ask(pbx.connection(), f"/ari/channels/{channels[0].uniqueid}").body)
    assert (document["name"], document["caller"]["number"]) == (channels[0].name, channels[0].number)
    assert datetime.fromisoformat(document["creationtime"]) == channels[0].created_at.replace(
        microsecond=channels[0].created_at.microsecond // 1000 * 1000
    )
    assert ask(pbx.connection(), "/ari/channels/1.1").body == b'{"message":"Channel not found"}'


@pytest.mark.parametrize(
    "name", ["plain", "a/b/c", "with space", "plus+and-dash", "Zoë's 50% #1 + ?&", "é 日本 🎧", "100%25", 'quote"and\\']
)
def test_recordings_with_unusual_names_are_listed_and_downloaded(
    pbx: SimulatedPbx, client: AriClient, tmp_path: Path, name: str
) -> None:
    pbx.recordings.add(name, wav(name.encode()))
    assert [item.name for item in client.list_recordings()] == [name]
    size_bytes = client.download(name, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == wav(name.encode())
    assert size_bytes == len(wav(name.encode()))


def test_an_unquoted_name_is_not_found_as_on_asterisk(pbx: SimulatedPbx) -> None:
    pbx.recordings.add("a/b+c", wav())
    assert ask(pbx.connection(), f"{STORED}/a/b%2Bc/file").body == b'{"message":"Resource not found"}'
    assert ask(pbx.connection(), f"{STORED}/a%2Fb+c/file").body == b'{"message":"Recording not found"}'
    assert ask(pbx.connection(), f"{STORED}/a%2Fb%2Bc/file").body == wav()
    assert ask(pbx.connection(), f"{STORED}/a%2Fb%2Bc").body == b'{"name":"a/b+c","format":"wav"}'
    assert ask(pbx.connection(), f"{STORED}/{quote('../../etc/passwd', safe='')}/file").status == "404 Not Found"


def test_a_range_request_gets_the_complete_file_and_head_is_refused(pbx: SimulatedPbx) -> None:
    pbx.recordings.add("call", wav())
    reply = ask(pbx.connection(), f"{STORED}/call/file", "Range: bytes=0-9")
    assert (reply.status, reply.body) == ("200 OK", wav())
    assert ask(pbx.connection(), f"{STORED}/call/file", method="HEAD").status == "403 Forbidden"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/ari", "OPTIONS"),
        ("/ari/asterisk", "OPTIONS"),
        ("/ari//recordings", "OPTIONS"),
        ("/ari/recordings/stored/x/copy", "OPTIONS,POST"),
    ],
)
def test_a_path_without_get_names_its_methods(pbx: SimulatedPbx, path: str, methods: str) -> None:
    refused = ask(pbx.connection(), path)
    assert (refused.status, refused.header("Allow")) == ("405 Method Not Allowed", methods)
    assert refused.body == b'{"message":"Invalid method"}'
    reply = ask(pbx.connection(), path, method="OPTIONS")
    assert (reply.status, reply.header("Allow"), reply.body) == ("204 No Content", methods, b"")


def test_a_trailing_slash_and_paths_outside_ari_are_not_found(pbx: SimulatedPbx) -> None:
    assert b"Try /ari/recordings/stored" in ask(pbx.connection(), f"{STORED}/").body
    for path in ("/", "/arix", "/recordings/stored"):
        found = ask(pbx.connection(), path)
        assert found.header("Content-type") == "text/html"
        assert b"<h1>Not Found</h1>" in found.body


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"\r\n\r\n", "400 Bad Request", b"Invalid Request"),
        (b"garbage\r\n\r\n", "400 Bad Request", b"Invalid Request"),
        (b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\n\r\n", "400 Bad Request", b"Request line too long"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", "400 Bad Request", b"Request line too long"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 5000 + b"\r\n\r\n", "400 Bad Request", b"Header line too long"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", "413 Request Entity Too Large", b"Too many headers"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400 Bad Request", b"Invalid Content-Length"),
    ],
)
def test_an_invalid_request_gets_an_error_and_ends_the_connection(
    pbx: SimulatedPbx, request_: bytes, status: str, words: bytes
) -> None:
    found = Answer(ask_raw(pbx.connection(), request_))
    assert found.status == status
    assert found.header("Connection") == "close"
    assert words in found.body


def test_a_connection_takes_requests_until_one_has_connection_close(pbx: SimulatedPbx) -> None:
    login = authorization(pbx.connection())
    request = f"GET /ari/channels HTTP/1.1\r\n{login}\r\n\r\n"
    refused = "POST /ari/channels HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"
    last = f"GET /ari/nothing HTTP/1.1\r\nConnection: Close\r\n{login}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", pbx.ari_port), timeout=10) as connection:
        connection.sendall((request + refused + request + last).encode())
        raw = b""
        while more := connection.recv(65536):
            raw += more
    assert re.findall(rb"HTTP/1.1 (\d+)", raw) == [b"200", b"401", b"200", b"404"]
    assert raw.count(b"Connection: close\r\n") == 1


def test_an_idle_connection_is_closed(pbx: SimulatedPbx, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asterisk_http.KEEP_ALIVE_S == 15  # seen on 16 and 22, before the first request and after
    monkeypatch.setattr(asterisk_http, "KEEP_ALIVE_S", 0.05)
    login = authorization(pbx.connection())
    for first in (b"", b"GET /ari/cha", f"GET /ari/channels HTTP/1.1\r\n{login}\r\n\r\n".encode()):
        with socket.create_connection(("127.0.0.1", pbx.ari_port), timeout=10) as connection:
            connection.sendall(first)
            raw = b"".join(iter(lambda at=connection: at.recv(65536), b""))
        assert raw.startswith(b"HTTP/1.1 200 OK") == (len(first) > 50)


def test_a_changed_password_refuses_the_connected_client(pbx: SimulatedPbx, client: AriClient) -> None:
    client.channels()
    before = pbx.password
    pbx.change_password()
    with pytest.raises(AriLoginError) as raised:
        client.channels()
    assert before not in str(raised.value)
    with AriClient(pbx.connection()) as again:
        again.channels()


def test_the_api_key_in_the_url_is_accepted_as_a_login(pbx: SimulatedPbx) -> None:
    for key, status in ((f"demo:{pbx.password}", "200 OK"), ("demo:x", "401 Unauthorized"), ("", "401 Unauthorized")):
        raw = ask_raw(pbx.connection(), f"GET {STORED}?api_key={quote(key)} HTTP/1.1\r\n\r\n".encode())
        assert Answer(raw).status == status
    for header in ("Authorization: Basic !!!", "Authorization: Bearer x", "Authorization:"):
        assert (
            Answer(ask_raw(pbx.connection(), f"GET {STORED} HTTP/1.1\r\n{header}\r\n\r\n".encode())).status
            == "401 Unauthorized"
        )


def test_a_name_that_is_not_utf_8_makes_the_list_fail(pbx: SimulatedPbx, client: AriClient) -> None:
    bad = b"bad\xff".decode(errors="surrogateescape")
    pbx.recordings.add(bad, wav())
    with pytest.raises(AriServerError, match="can't list"):
        client.list_recordings()
    assert ask(pbx.connection(), f"{STORED}/bad%FF/file").body == wav()
    pbx.recordings.delete(bad)
    assert client.list_recordings() == []


def test_100_000_recordings_are_listed(pbx: SimulatedPbx, client: AriClient, tmp_path: Path) -> None:
    pbx.recordings.add_bulk(100_000, wav())
    found = client.list_recordings()
    assert len({item.name for item in found}) == 100_000
    assert client.download(found[77_777].name, tmp_path / "one") == len(wav())


def test_a_recording_deleted_after_listing_is_not_found(pbx: SimulatedPbx, client: AriClient, tmp_path: Path) -> None:
    pbx.recordings.add("call", wav())
    (listed,) = client.list_recordings()
    pbx.recordings.delete("call")
    with pytest.raises(AriNotFound):
        client.download(listed.name, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_times_are_in_the_companys_time_zone() -> None:
    assert ZONE == "Europe/London"
    noon = datetime(2026, 7, 1, 12, 0, 0, 70_500, tzinfo=UTC)
    with SimulatedPbx(recordings=SimulatedRecordings(), clock=lambda: noon) as pbx:
        found = ask(pbx.connection(), "/ari/asterisk/ping")
    assert json.loads(found.body)["timestamp"] == "2026-07-01T13:00:00.070+0100"
    assert found.header("Date") == "Wed, 01 Jul 2026 12:00:00 GMT"


def test_the_connection_check_passes(pbx: SimulatedPbx) -> None:
    pbx.recordings.add("2026/11/19/q-600-1-20261119-110000-1795086000.1", wav())
    steps = [step for step in check_connection(pbx.connection()) if step.name.startswith(("ARI", "Recording"))]
    assert len(steps) == 5
    assert {step.state for step in steps} == {"ok"}
