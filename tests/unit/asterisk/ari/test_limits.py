"""A faulty or hostile ARI server: waits and answers are limited, and each fault raises one of the project's errors."""

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
from tests.unit.asterisk.ari.replay_server import STORED, replay, reply, send_slowly, wav
from tests.unit.asterisk.ari.test_client import certificate

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, host: str = "127.0.0.1") -> Iterator[Connection]:
    """A port that passes each connection to `serve`, on a separate thread."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:

        def handle(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                serve(sock)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=handle, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield Connection(host=host, ari_port=server.getsockname()[1], ami_port=1)
        server.shutdown(socket.SHUT_RDWR)


def send_trickling(data: bytes, every_s: float = 0.05) -> Serve:
    """Send these bytes one at a time, then repeat the last one."""

    def serve(sock: socket.socket) -> None:
        for at in range(100_000):
            sock.sendall(data[at : at + 1] or data[-1:])
            time.sleep(every_s)

    return serve


def timed(request: Callable[[], object], error: type[PbxError] = Deadline) -> float:
    """Seconds until `request` raises that error."""
    started = time.monotonic()
    with pytest.raises(error) as raised:
        request()
    assert raised.value.fix
    return time.monotonic() - started


HEAD = b"HTTP/1.1 200 OK\r\n"
UNFINISHED_ANSWERS = {
    "the status line": b"HTTP/1.1 2",
    "headers": HEAD + b"X: ",
    "many headers": HEAD + b"X: 1\r\n" * 20,
    "100 Continue forever": b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
    "the body": HEAD + b"Content-Length: 1000\r\n\r\n[",
    "the body of an error": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 400\r\n\r\n{",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1",
}


@pytest.mark.parametrize("data", UNFINISHED_ANSWERS.values(), ids=UNFINISHED_ANSWERS.keys())
def test_an_answer_that_trickles_in_ends_at_the_deadline(data: bytes) -> None:
    serve = send_trickling(data, 0.01 if len(data) > 500 else 0.05)
    with serving(serve) as connection, AriClient(connection, deadline_s=0.6, backoff_s=0.001) as ari:
        assert timed(ari.channels, PbxError) < 3


def test_headers_that_trickle_in_hit_the_deadline_of_every_request(tmp_path: Path) -> None:
    with (
        serving(send_trickling(HEAD + b"X: ")) as connection,
        AriClient(connection, deadline_s=0.3, backoff_s=0.001) as ari,
    ):
        for request in (ari.info, ari.channels, ari.list_recordings, lambda: ari.download("a", tmp_path / "a")):
            assert timed(request) < 2
    assert list(tmp_path.iterdir()) == []


def test_all_attempts_share_one_deadline() -> None:
    def late(sock: socket.socket) -> None:
        sock.recv(1000)
        time.sleep(0.3)  # then the connection closes without an answer, and the client retries

    with serving(late) as connection, AriClient(connection, deadline_s=0.5, backoff_s=0.001) as ari:
        assert timed(ari.info) < 1.5


def test_a_tls_handshake_that_trickles_in_ends_at_the_deadline(tmp_path: Path) -> None:
    hello = b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc"  # a ServerHello of 16 KB

    with serving(send_trickling(hello)) as connection:
        secure = connection.model_copy(update={"ari_tls": True})
        with AriClient(secure, deadline_s=0.5, backoff_s=0.001) as ari:
            assert timed(ari.info, PbxError) < 3


def test_headers_that_trickle_in_through_tls_end_at_the_deadline(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "pem", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            send_trickling(HEAD + b"X: ")(secure)

    with serving(serve) as connection:
        secure = connection.model_copy(update={"ari_tls": True, "ca_file": pem})
        with AriClient(secure, deadline_s=0.5, backoff_s=0.001) as ari:
            assert timed(ari.info) < 3


def test_a_connection_is_reused_after_an_answer_just_before_the_deadline() -> None:
    with replay() as pbx:
        pbx.faults["/ari/channels"] = [lambda _, sock, complete: (time.sleep(0.3), sock.sendall(complete))] * 3
        with AriClient(pbx.connection, deadline_s=0.5, backoff_s=0.001, parallel=1) as ari:
            for _ in range(3):
                assert ari.channels() == set()
            assert len(pbx.connections) == 1


def test_a_download_slower_than_the_minimum_rate_is_not_retried(tmp_path: Path) -> None:
    with replay() as pbx:
        pbx.recordings["a"] = wav(bytes(100_000))
        pbx.faults[f"{STORED}/a/file"] = [send_slowly] * 4
        with AriClient(pbx.connection, pace_s=0.2) as ari:
            assert timed(lambda: ari.download("a", tmp_path / "a")) < 2
        assert pbx.downloads()["a"] == 1  # it isn't retried
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "length", [b"9" * 5000, "²".encode("latin-1"), b"-1", b"1e3", b"0x10", b"10, 10", b"", b"1" + b"0" * 16]
)
def test_an_invalid_content_length_is_refused(length: bytes) -> None:
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
def test_deeply_nested_json_is_refused(body: bytes) -> None:
    with replay() as pbx, AriClient(pbx.connection, backoff_s=0.001) as ari:
        pbx.answers = dict.fromkeys((STORED, "/ari/channels", "/ari/asterisk/info"), reply("list", body))
        for request in (ari.list_recordings, ari.channels, ari.info):
            with pytest.raises(AriProtocolError, match="not with JSON as ARI does"):
                request()


@pytest.mark.parametrize("startup", ["0001-01-01T00:00:00.000+1400", "9999-12-31T23:59:59.000-1400"])
def test_an_impossible_start_time_is_refused(startup: str) -> None:
    body = f'{{"system":{{"version":"16","entity_id":"1"}},"status":{{"startup_time":"{startup}"}}}}'
    with replay() as pbx, AriClient(pbx.connection, backoff_s=0.001) as ari:
        pbx.answers["/ari/asterisk/info"] = reply("list", body.encode())
        with pytest.raises(AriProtocolError):
            ari.info()


LIST_RECORDINGS_SCRIPT = """
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


def list_in_subprocess(data: Callable[[], Iterator[bytes]]) -> tuple[str, int]:
    """The error that a process reports for such an answer, and the memory that it used, in kB."""

    def serve(sock: socket.socket) -> None:
        sock.recv(4096)
        for piece in data():
            sock.sendall(piece)

    with serving(serve) as connection:
        command = [sys.executable, "-c", LIST_RECORDINGS_SCRIPT, str(connection.ari_port)]
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True, env=os.environ)
    *error_lines, kilobytes = run.stdout.splitlines()
    return " ".join(error_lines), int(kilobytes)


@needs_linux
def test_an_endless_list_is_refused_before_it_fills_the_memory() -> None:
    def endless() -> Iterator[bytes]:
        yield HEAD + b"Content-Length: 10000000000\r\n\r\n["
        while True:
            yield b'{"name":"a","format":"wav"},' * 1000

    error_lines, kilobytes = list_in_subprocess(endless)
    assert "too large" in error_lines
    assert kilobytes < 20_000


@needs_linux
def test_a_long_list_of_tiny_values_uses_bounded_memory() -> None:
    body = b"[" + b"[]," * 20_000_000 + b"[]]"  # these 60 MB would become 2 GB of Python lists

    def send_list() -> Iterator[bytes]:
        yield HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        yield body

    error_lines, kilobytes = list_in_subprocess(send_list)
    assert "too large" in error_lines
    assert kilobytes < 200_000


def test_a_list_of_500_000_recordings_is_accepted() -> None:
    names = [f'{{"name":"2026/11/21/q-600-{n}-20261121-135531-17952{n}.15","format":"wav"}}' for n in range(500_000)]
    with replay() as pbx, AriClient(pbx.connection) as ari:
        pbx.answers[STORED] = reply("list", f"[{','.join(names)}]".encode())
        assert len(ari.list_recordings()) == 500_000


def test_the_web_servers_prefix_is_part_of_every_url() -> None:
    with replay() as pbx:
        pbx.answers["/asterisk/ari/channels"] = reply("channels", b'[{"id":"1.1"}]')
        for prefix in ("asterisk", "/asterisk", "/asterisk/", " asterisk "):
            connection = Connection.model_validate(pbx.connection.model_dump() | {"ari_prefix": prefix})
            assert connection.ari_url.endswith("/asterisk/ari")
            with AriClient(connection) as ari:
                assert ari.channels() == {"1.1"}


def test_a_pbx_can_have_an_ipv6_address() -> None:
    received = []

    def serve(sock: socket.socket) -> None:
        received.append(sock.recv(4096))
        sock.sendall(HEAD + b"Content-Length: 2\r\n\r\n[]")

    with serving(serve, "::1") as connection, AriClient(connection) as ari:
        assert ari.channels() == set()
        assert f"Host: [::1]:{connection.ari_port}".encode() in received[0]


@pytest.mark.parametrize("method", ["cancel", "stop"])
@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"Content-Length: 1000\r\n\r\n["], ids=["silent", "head", "body"])
def test_cancelling_or_stopping_interrupts_a_read_immediately(data: bytes, method: str) -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(data)
        sock.recv(4096)
        sock.recv(4096)

    stop = threading.Event()
    with serving(serve) as connection, AriClient(connection, stop=stop) as ari:
        threading.Timer(0.2, ari.cancel if method == "cancel" else stop.set).start()
        assert timed(ari.channels, Unreachable) < 3
