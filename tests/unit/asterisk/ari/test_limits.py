"""A sick or hostile ARI: every wait ends, every answer is bounded, and whatever it holds ends as our own error."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pbx.asterisk.ari.client import AriClient
from pbx.errors import AriProtocolError, Deadline, PbxError, Unreachable
from pbx.settings import Connection
from tests.operating_systems import needs_linux
from tests.paths import ROOT
from tests.unit.asterisk.ari.replay_server import STORED, drip, replay, reply, wav
from tests.unit.asterisk.ari.test_client import certificate

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, host: str = "127.0.0.1") -> Iterator[Connection]:
    """A port at which each connection is given to `serve`, on a thread of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:

        def handle(line: socket.socket) -> None:
            with line, suppress(OSError):
                serve(line)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=handle, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield Connection(host=host, ari_port=server.getsockname()[1], ami_port=1)
        server.shutdown(socket.SHUT_RDWR)


def dripping(data: bytes, every_s: float = 0.05) -> Serve:
    """Send this a byte at a time, then more of the last byte."""

    def serve(line: socket.socket) -> None:
        for at in range(100_000):
            line.sendall(data[at : at + 1] or data[-1:])
            time.sleep(every_s)

    return serve


def timed(ask: Callable[[], object], error: type[PbxError] = Deadline) -> float:
    """How long it took until that error."""
    begun = time.monotonic()
    with pytest.raises(error) as raised:
        ask()
    assert raised.value.fix
    return time.monotonic() - begun


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "the status line": b"HTTP/1.1 2",
    "headers": HEAD + b"X: ",
    "many headers": HEAD + b"X: 1\r\n" * 20,
    "100 Continue for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
    "the body": HEAD + b"Content-Length: 1000\r\n\r\n[",
    "the body of an error": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 400\r\n\r\n{",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1",
}


@pytest.mark.parametrize("data", DRIPS.values(), ids=DRIPS.keys())
def test_an_answer_that_drips_ends_at_the_time_limit(data: bytes) -> None:
    serve = dripping(data, 0.01 if len(data) > 500 else 0.05)
    with serving(serve) as connection, AriClient(connection, deadline_s=0.6, backoff_s=0.001) as ari:
        assert timed(ari.channels, PbxError) < 3


def test_headers_that_drip_are_a_deadline_whatever_is_asked(tmp_path: Path) -> None:
    with serving(dripping(HEAD + b"X: ")) as connection, AriClient(connection, deadline_s=0.3, backoff_s=0.001) as ari:
        for ask in (ari.info, ari.channels, ari.list_recordings, lambda: ari.download("a", tmp_path / "a")):
            assert timed(ask) < 2
    assert list(tmp_path.iterdir()) == []


def test_attempts_share_the_time_limit() -> None:
    def late(line: socket.socket) -> None:
        line.recv(1000)
        time.sleep(0.3)  # then the line is closed without an answer, so that it is asked again

    with serving(late) as connection, AriClient(connection, deadline_s=0.5, backoff_s=0.001) as ari:
        assert timed(ari.info) < 1.5


def test_a_tls_handshake_that_drips_ends(tmp_path: Path) -> None:
    hello = b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc"  # a ServerHello of 16 KB

    with serving(dripping(hello)) as connection:
        secure = connection.model_copy(update={"ari_tls": True})
        with AriClient(secure, deadline_s=0.5, backoff_s=0.001) as ari:
            assert timed(ari.info, PbxError) < 3


def test_headers_that_drip_through_tls_end_too(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "pem", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve(line: socket.socket) -> None:
        with context.wrap_socket(line, server_side=True) as secure:
            dripping(HEAD + b"X: ")(secure)

    with serving(serve) as connection:
        secure = connection.model_copy(update={"ari_tls": True, "ca_file": pem})
        with AriClient(secure, deadline_s=0.5, backoff_s=0.001) as ari:
            assert timed(ari.info) < 3


def test_a_line_is_used_again_after_an_answer_that_took_nearly_all_its_time() -> None:
    with replay() as pbx:
        pbx.faults["/ari/channels"] = [lambda _, line, whole: (time.sleep(0.3), line.sendall(whole))] * 3
        with AriClient(pbx.connection, deadline_s=0.5, backoff_s=0.001, parallel=1) as ari:
            for _ in range(3):
                assert ari.channels() == set()
            assert len(pbx.lines) == 1


def test_a_download_slower_than_the_least_rate_is_given_up(tmp_path: Path) -> None:
    with replay() as pbx:
        pbx.recordings["a"] = wav(bytes(100_000))
        pbx.faults[f"{STORED}/a/file"] = [drip] * 4
        with AriClient(pbx.connection, pace_s=0.2) as ari:
            assert timed(lambda: ari.download("a", tmp_path / "a")) < 2
        assert pbx.downloads()["a"] == 1  # it isn't begun again
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "length", [b"9" * 5000, "²".encode("latin-1"), b"-1", b"1e3", b"0x10", b"10, 10", b"", b"1" + b"0" * 16]
)
def test_a_length_that_is_no_number_of_bytes_is_refused(length: bytes) -> None:
    with replay() as pbx, AriClient(pbx.connection, backoff_s=0.001) as ari:
        pbx.answers[STORED] = HEAD + b"Content-Length: " + length + b"\r\n\r\n[]"
        with pytest.raises(AriProtocolError, match="doesn't send the length of its answer") as raised:
            ari.list_recordings()
        assert raised.value.fix


def test_a_chunked_answer_with_a_length_is_refused() -> None:
    with replay() as pbx, AriClient(pbx.connection, backoff_s=0.001) as ari:
        pbx.answers[STORED] = HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
        with pytest.raises(AriProtocolError, match="length of its answer"):
            ari.list_recordings()


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000, b"[" + b"9" * 5000 + b"]"]
)
def test_a_nested_answer_is_not_aris_json(body: bytes) -> None:
    with replay() as pbx, AriClient(pbx.connection, backoff_s=0.001) as ari:
        pbx.answers = dict.fromkeys((STORED, "/ari/channels", "/ari/asterisk/info"), reply("list", body))
        for ask in (ari.list_recordings, ari.channels, ari.info):
            with pytest.raises(AriProtocolError, match="not with JSON as ARI does"):
                ask()


@pytest.mark.parametrize("startup", ["0001-01-01T00:00:00.000+1400", "9999-12-31T23:59:59.000-1400"])
def test_a_start_outside_of_all_time_is_not_aris_json(startup: str) -> None:
    body = f'{{"system":{{"version":"16","entity_id":"1"}},"status":{{"startup_time":"{startup}"}}}}'
    with replay() as pbx, AriClient(pbx.connection, backoff_s=0.001) as ari:
        pbx.answers["/ari/asterisk/info"] = reply("list", body.encode())
        with pytest.raises(AriProtocolError):
            ari.info()


LISTS_AT_LENGTH = """
import resource, sys
from pbx.asterisk.ari.client import AriClient
from pbx.errors import AriProtocolError
from pbx.settings import Connection
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with AriClient(Connection(host="127.0.0.1", ari_port=int(sys.argv[1]), ami_port=1), backoff_s=0.001) as ari:
    try:
        ari.list_recordings()
    except AriProtocolError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def listed(data: Callable[[], Iterator[bytes]]) -> tuple[str, int]:
    """What a process says to such an answer, and the kB it took."""

    def serve(line: socket.socket) -> None:
        line.recv(4096)
        for piece in data():
            line.sendall(piece)

    with serving(serve) as connection:
        command = [sys.executable, "-c", LISTS_AT_LENGTH, str(connection.ari_port)]
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True, env=os.environ)
    *said, kilobytes = run.stdout.splitlines()
    return " ".join(said), int(kilobytes)


@needs_linux
def test_an_endless_list_is_refused_before_it_fills_memory() -> None:
    def endless() -> Iterator[bytes]:
        yield HEAD + b"Content-Length: 10000000000\r\n\r\n["
        while True:
            yield b'{"name":"a","format":"wav"},' * 1000

    said, kilobytes = listed(endless)
    assert "too large" in said
    assert kilobytes < 20_000


@needs_linux
def test_a_list_of_the_most_bytes_with_the_smallest_values_stays_within_bounds() -> None:
    body = b"[" + b"[]," * 20_000_000 + b"[]]"  # 60 MB here are 2 GB as Python's lists

    def many() -> Iterator[bytes]:
        yield HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        yield body

    said, kilobytes = listed(many)
    assert "too large" in said
    assert kilobytes < 200_000


def test_the_recordings_of_a_busy_decade_are_no_endless_list() -> None:
    names = [f'{{"name":"2026/11/21/q-600-{n}-20261121-135531-17952{n}.15","format":"wav"}}' for n in range(500_000)]
    with replay() as pbx, AriClient(pbx.connection) as ari:
        pbx.answers[STORED] = reply("list", f"[{','.join(names)}]".encode())
        assert len(ari.list_recordings()) == 500_000


def test_ari_below_the_web_servers_prefix_is_found() -> None:
    with replay() as pbx:
        pbx.answers["/asterisk/ari/channels"] = reply("channels", b'[{"id":"1.1"}]')
        for prefix in ("asterisk", "/asterisk", "/asterisk/", " asterisk "):
            connection = Connection.model_validate(pbx.connection.model_dump() | {"ari_prefix": prefix})
            assert connection.ari_url.endswith("/asterisk/ari")
            with AriClient(connection) as ari:
                assert ari.channels() == {"1.1"}


def test_a_pbx_is_reached_by_its_ipv6_address() -> None:
    asked = []

    def serve(line: socket.socket) -> None:
        asked.append(line.recv(4096))
        line.sendall(HEAD + b"Content-Length: 2\r\n\r\n[]")

    with serving(serve, "::1") as connection, AriClient(connection) as ari:
        assert ari.channels() == set()
        assert f"Host: [::1]:{connection.ari_port}".encode() in asked[0]


@pytest.mark.parametrize("way", ["cancel", "stop"])
@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"Content-Length: 1000\r\n\r\n["], ids=["silent", "head", "body"])
def test_a_read_that_waits_is_broken_off_at_once(data: bytes, way: str) -> None:
    def serve(line: socket.socket) -> None:
        line.sendall(data)
        line.recv(4096)
        line.recv(4096)

    stop = threading.Event()
    with serving(serve) as connection, AriClient(connection, stop=stop) as ari:
        threading.Timer(0.2, ari.cancel if way == "cancel" else stop.set).start()
        assert timed(ari.channels, Unreachable) < 3
