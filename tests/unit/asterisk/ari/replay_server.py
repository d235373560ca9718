"""An ARI server on loopback that replays a real Asterisk's bytes, and can fail in the middle of a response."""

import base64
import json
import re
import socketserver
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from urllib.parse import unquote

from pydantic import SecretStr

from pbx.settings import Connection
from tests.paths import FIXTURES
from tests.web_servers import serve

PASSWORD = "tell-nobody"
STORED = "/ari/recordings/stored"
Fault = Callable[["ReplayPbx", socket, bytes], None]


def captured(name: str, version: int = 16) -> bytes:
    """A complete reply, as Asterisk sent it."""
    return (FIXTURES / f"asterisk-{version}" / f"ari-{name}.bin").read_bytes()


def reply(name: str, body: bytes) -> bytes:
    """A captured reply's head with another body."""
    header = captured(name).partition(b"\r\n\r\n")[0]
    return re.sub(rb"(?i)(content-length): \d+", rb"\1: %d" % len(body), header) + b"\r\n\r\n" + body


def wav(sound: bytes = b"\x01\x02" * 800, *, announced: int | None = None, riff: int | None = None) -> bytes:
    """An 8 kHz file as Asterisk writes it. `announced` and `riff` put wrong sizes into its header."""
    size = len(sound) if announced is None else announced
    header = (b"RIFF", 36 + size if riff is None else riff, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", size)
    return struct.pack("<4sI8sIHHIIHH4sI", *header) + sound


def send_half(pbx: "ReplayPbx", sock: socket, complete: bytes) -> None:
    """Send half of the answer, then close the connection."""
    sock.sendall(complete[: len(complete) // 2])
    sock.shutdown(SHUT_RDWR)


def send_slowly(pbx: "ReplayPbx", sock: socket, complete: bytes) -> None:
    """Send the head, then the body one byte every 20 ms."""
    header, gap, body = complete.partition(b"\r\n\r\n")
    sock.sendall(header + gap)
    for at in range(len(body)):
        sock.sendall(body[at : at + 1])
        time.sleep(0.02)


def never_answer(pbx: "ReplayPbx", sock: socket, complete: bytes) -> None:
    """Send nothing until the client disconnects."""
    sock.recv(1)


class ReplayPbx(socketserver.ThreadingTCPServer):
    """Lists and serves `recordings` (name → file).

    `answers` (path → bytes) replace the usual answers, and `faults` damage the next answers of a path.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ConnectionHandler)
        self.recordings: dict[str, bytes] = {}
        self.formats: dict[str, str] = {}
        self.live: set[str] = set()
        self.answers: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}  # path → faults of its next answers, in order
        self.request_heads: list[bytes] = []
        self.delay_s = 0.0
        self.connections: set[socket] = set()

    @property
    def connection(self) -> Connection:
        return Connection(
            host="127.0.0.1",
            ari_port=self.server_address[1],
            ari_username="notebook",
            ari_password=SecretStr(PASSWORD),
            ami_port=5038,
        )

    def paths(self) -> Counter[str]:
        return Counter(header.split(b" ")[1].decode() for header in self.request_heads)

    def downloads(self) -> Counter[str]:
        """How often each recording was requested."""
        found = Counter[str]()
        for path, times in self.paths().items():
            if path.endswith("/file"):
                found[unquote(path.removeprefix(f"{STORED}/").removesuffix("/file"))] = times
        return found

    def answer(self, path: str, authorization: bytes) -> bytes:
        if authorization != b"Basic " + base64.b64encode(f"notebook:{PASSWORD}".encode()):
            return captured("401")
        if path in self.answers:
            return self.answers[path]
        if path == "/ari/channels":
            return reply("channels", json.dumps([{"id": uniqueid} for uniqueid in self.live]).encode())
        if path == STORED:
            listed = [{"name": name, "format": self.formats.get(name, "wav")} for name in self.recordings]
            return reply("list", json.dumps(listed, ensure_ascii=False).encode())
        name = unquote(path.removeprefix(f"{STORED}/").removesuffix("/file"))
        if "/" in path.removeprefix(f"{STORED}/").removesuffix("/file") or name not in self.recordings:
            return captured("404-recording")
        time.sleep(self.delay_s)
        return reply("file", self.recordings[name])

    def stop_abruptly(self) -> None:
        """Close the port and every connection, as a PBX does when it restarts."""
        self.shutdown()
        self.server_close()
        for sock in list(self.connections):
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)


class _ConnectionHandler(socketserver.BaseRequestHandler):
    server: ReplayPbx

    def handle(self) -> None:
        pbx, sock = self.server, self.request
        pbx.connections.add(sock)
        waiting = b""
        with suppress(OSError):
            while chunk := sock.recv(65536):
                waiting += chunk
                while b"\r\n\r\n" in waiting:
                    header, _, waiting = waiting.partition(b"\r\n\r\n")
                    pbx.request_heads.append(header)
                    path = header.split(b" ")[1].decode()
                    found = re.search(rb"(?im)^authorization: (.*?)\r?$", header)
                    complete = pbx.answer(path, found[1] if found else b"")
                    faults = pbx.faults.get(path, [])
                    (faults.pop(0) if faults else lambda _, to, answer: to.sendall(answer))(pbx, sock, complete)
        pbx.connections.discard(sock)


@contextmanager
def replay() -> Iterator[ReplayPbx]:
    """Run a PBX that has no recordings yet."""
    with serve(ReplayPbx()) as pbx:
        yield pbx
