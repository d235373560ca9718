"""The demo PBX's ARI compared with Asterisk 16 and 22: the same request must get a reply of the same shape."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from pbx.settings import Connection
from tests.lab.calls import start_phone_call
from tests.lab.servers import LabServer
from tests.simulator.asterisk_22 import RELEASES
from tests.simulator.http_client import Answer, ask, ask_and_stay, authorization, busy_moment, request
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import SimulatedRecordings
from tests.unit.asterisk.ari.replay_server import wav

pytestmark = pytest.mark.lab
STORED = "/ari/recordings/stored"
NAME = f"demo-{os.getpid()}/Zoë's 50% + ?"  # the name of a recording on both
QUOTED = quote(NAME, safe="")
MakeRequest = Callable[[Connection], bytes]


def get(path: str, *headers: str, method: str = "GET") -> MakeRequest:
    """A request of the ARI user."""
    return lambda connection: request(connection, path, *headers, method=method)


def raw(text: bytes) -> MakeRequest:
    return lambda connection: text


def logged_in_as(header: Callable[[Connection], str], path: str = STORED, method: str = "GET") -> MakeRequest:
    return lambda connection: f"{method} {path} HTTP/1.1\r\n{header(connection)}\r\n\r\n".encode()


def key_of(connection: Connection) -> str:
    return f"{connection.ari_username}:{connection.ari_password.get_secret_value()}"


REQUESTS: dict[str, MakeRequest] = {
    # requests of the app
    "info": get("/ari/asterisk/info"),
    "channels": get("/ari/channels"),
    "list": get(STORED),
    "file": get(f"{STORED}/{QUOTED}/file"),
    # other requests that succeed
    "ping": get("/ari/asterisk/ping"),
    "metadata": get(f"{STORED}/{QUOTED}"),
    "list with a query": get(f"{STORED}?x=1"),
    "range": get(f"{STORED}/{QUOTED}/file", "Range: bytes=0-9"),
    "key in the address": lambda at: f"GET {STORED}?api_key={quote(key_of(at))} HTTP/1.1\r\n\r\n".encode(),
    "no version of HTTP": lambda at: f"GET /ari/asterisk/ping\r\n{authorization(at)}\r\n\r\n".encode(),
    "an old version of HTTP": lambda at: f"GET /ari/asterisk/ping HTTP/1.0\r\n{authorization(at)}\r\n\r\n".encode(),
    "method in lower case": lambda at: f"get /ari/asterisk/ping HTTP/1.1\r\n{authorization(at)}\r\n\r\n".encode(),
    "close requested": get("/ari/asterisk/ping", "Connection: Close"),
    "close requested among others": get("/ari/asterisk/ping", "Connection: keep-alive, close"),
    "with a body": lambda at: get("/ari/asterisk/ping", "Content-Length: 5")(at) + b"hello",
    "a header without a colon": get("/ari/asterisk/ping", "nonsense"),
    "two slashes": get(f"{STORED}//file"),
    # paths that don't exist
    "no such path": get("/ari/nothing/here"),
    "no such path in capitals": get("/ari/Recordings/stored"),
    "no such recording": get(f"{STORED}/nothing"),
    "no such file": get(f"{STORED}/nothing/file"),
    "no such channel": get("/ari/channels/1.1"),
    "slash not quoted": get(f"{STORED}/{quote(NAME)}/file"),
    "plus not quoted": get(f"{STORED}/{quote(NAME, safe='+').replace('/', '%2F')}/file"),
    "path quoted": get("/ari/recordings%2Fstored"),
    "no UTF-8": get(f"{STORED}/a%ff/file"),
    "badly quoted": get(f"{STORED}/%zz/file"),
    "out of the directory": get(f"{STORED}/{quote('../../../etc/passwd', safe='')}/file"),
    "below a file": get(f"{STORED}/{QUOTED}/file/x"),
    "below info": get("/ari/asterisk/info/x"),
    "slash at the end": get(f"{STORED}/"),
    "slash at the end of nothing": get("/ari/nothing/"),
    "root": get("/"),
    "not ARI": get("/nothing"),
    "begins like ARI": get("/arix"),
    # requests that aren't allowed
    "no login": raw(f"GET {STORED} HTTP/1.1\r\n\r\n".encode()),
    "no login, no path": raw(b"GET /ari/nothing/ HTTP/1.1\r\n\r\n"),
    "no login, a change": raw(f"DELETE {STORED}/x HTTP/1.1\r\n\r\n".encode()),
    "wrong password": logged_in_as(lambda at: authorization(at, "wrong")),
    "another kind of login": logged_in_as(lambda at: "Authorization: Bearer x"),
    "a broken login": logged_in_as(lambda at: "Authorization: Basic !!!"),
    "a wrong key": raw(f"GET {STORED}?api_key=a:b HTTP/1.1\r\n\r\n".encode()),
    "delete": get(f"{STORED}/{QUOTED}", method="DELETE"),
    "post": get("/ari/nothing", "Content-Length: 0", method="POST"),
    "head": get(STORED, method="HEAD"),
    "head of a file": get(f"{STORED}/{QUOTED}/file", method="HEAD"),
    "an unknown method": get(STORED, method="FOO"),
    # paths that don't support GET
    "ARI itself": get("/ari"),
    "ARI with a slash": get("/ari/"),
    "asterisk": get("/ari/asterisk"),
    "recordings": get("/ari/recordings"),
    "two slashes at first": get("/ari//recordings/stored"),
    "copy": get(f"{STORED}/{QUOTED}/copy"),
    # malformed requests
    "nothing": raw(b"\r\n\r\n"),
    "garbage": raw(b"garbage\r\n\r\n"),
    "a line at the limit": raw(b"GET /" + b"a" * 4079 + b" HTTP/1.1\r\n\r\n"),
    "a line too long": raw(b"GET /" + b"a" * 4080 + b" HTTP/1.1\r\n\r\n"),
    "a header too long": get("/ari/asterisk/ping", f"X: {'y' * 4200}"),
    "headers at the limit": get("/ari/asterisk/ping", *["X: y"] * 99),
    "a header too many": get("/ari/asterisk/ping", *["X: y"] * 100),
    "no length": get("/ari/channels", "Content-Length: abc"),
} | {
    f"options of {path}": get(path, method="OPTIONS")
    for path in (
        *("/ari", "/ari/asterisk", "/ari/asterisk/info", "/ari/asterisk/ping", "/ari/channels", "/ari/channels/x"),
        *("/ari/recordings", STORED, f"{STORED}/x", f"{STORED}/x/file", f"{STORED}/x/copy", "/ari/nothing"),
    )
}


@pytest.fixture
def real(server: LabServer) -> Iterator[Connection]:
    """A server of the lab with the recording."""
    path = server.monitor / f"{NAME}.wav"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(wav())
    yield server.connection()
    path.unlink()
    path.parent.rmdir()


@pytest.fixture
def demo(server: LabServer) -> Iterator[Connection]:
    """A demo PBX of the same version with the same recording."""
    recordings = SimulatedRecordings()
    recordings.add(NAME, wav())
    busy = busy_moment()
    with SimulatedPbx(release=RELEASES[server.version], recordings=recordings, clock=lambda: busy) as pbx:
        yield pbx.connection()


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "channels"])
def test_each_request_gets_the_same_reply(real: Connection, demo: Connection, name: str) -> None:
    asterisk_reply, asterisk_stays_open = ask_and_stay(real, REQUESTS[name](real))
    demo_reply, demo_stays_open = ask_and_stay(demo, REQUESTS[name](demo))
    assert demo_reply.shape == asterisk_reply.shape
    assert demo_stays_open == asterisk_stays_open


def test_channels_have_the_same_fields(server: LabServer, real: Connection, demo: Connection) -> None:
    call = start_phone_call(server, "5551001")
    try:
        asterisk_reply = ask(real, "/ari/channels")
        one = ask(real, f"/ari/channels/{quote(call.uniqueid)}")
    finally:
        call.hangup()
    demo_reply = ask(demo, "/ari/channels")
    assert demo_reply.shape == asterisk_reply.shape
    first_id = json.loads(demo_reply.body)[0]["id"]
    assert ask(demo, f"/ari/channels/{first_id}").shape == one.shape


def test_a_recording_that_grows_while_it_is_sent_exceeds_its_content_length(
    server: LabServer, real: Connection
) -> None:
    """The demo PBX also sends more bytes than it announced (tests/unit/demo/test_faults_of_ari.py)."""
    path = server.monitor / f"{NAME}.wav"
    path.write_bytes(bytes(20_000_000))
    with socket.create_connection((real.host, real.ari_port), timeout=10) as line:
        line.sendall(request(real, f"{STORED}/{QUOTED}/file", "Connection: close"))
        raw = line.recv(100)  # Asterisk sends the rest when it is read
        with path.open("ab") as file:
            file.write(b"more")
        raw += b"".join(iter(lambda: line.recv(65536), b""))
    reply = Answer(raw)
    assert reply.header("Content-Length") == "20000000"
    assert (len(reply.body), reply.body[-4:]) == (20_000_004, b"more")
