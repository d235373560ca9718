"""An AMI server on loopback that answers with bytes of a real Asterisk, for faults that Asterisk doesn't produce."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pbx.settings import Connection
from tests.paths import FIXTURES

VERSIONS = (16, 22)
# Not among the fixtures: seen on both versions, the values are the lab's.
ZONES = {16: b"+0530", 22: b"+0000"}
IAX_PEERS = (
    b"Response: Success\r\nActionID: x\r\nEventList: start\r\nMessage: IAX Peer status list will follow\r\n\r\n"
    b"Event: PeerEntry\r\nActionID: x\r\nChanneltype: IAX\r\nObjectName: 1021\r\nChanObjectType: peer\r\n"
    b"IPaddress: (null)\r\nMask: (null)\r\nPort: (null)\r\nDynamic: yes\r\nTrunk: no\r\nEncryption: no\r\n"
    b"Status: Unmonitored\r\n\r\n"
    b"Event: PeerEntry\r\nActionID: x\r\nChanneltype: IAX\r\nObjectName: iaxcarrier\r\nChanObjectType: peer\r\n"
    b"IPaddress: 127.0.0.1\r\nMask: 255.255.255.255\r\nPort: 5569\r\nDynamic: no\r\nTrunk: no\r\nEncryption: no\r\n"
    b"Status: OK (3 ms)\r\n\r\n"
    b"Event: PeerlistComplete\r\nActionID: x\r\nEventList: Complete\r\nListItems: 2\r\n\r\n"
)
_ACTION_ID = re.compile(rb"\r\nActionID: [^\r]*")


def raw(version: int, name: str) -> bytes:
    """The bytes of one fixture."""
    return (FIXTURES / f"asterisk-{version}" / f"{name}.bin").read_bytes()


def ami_fixtures() -> list[Path]:
    """Every captured reply of the manager interface, of both versions."""
    return sorted(path for path in FIXTURES.glob("asterisk-*/*.bin") if not path.name.startswith("ari-"))


class Session:
    """One client's connection, as the scripts of the tests see it."""

    def __init__(self, sock: socket.socket, version: int, prefix: str) -> None:
        self.sock, self.version, self.prefix = sock, version, prefix
        self.received = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def actions(self) -> Iterator[dict[str, str]]:
        """What the client asks for, until it hangs up."""
        while True:
            while b"\r\n\r\n" in self.received:
                text, _, self.received = self.received.partition(b"\r\n\r\n")
                yield dict(line.split(": ", 1) for line in text.decode().split("\r\n"))
            data = self.sock.recv(65536)
            if not data:
                return
            self.received += data

    def next_request(self) -> bytes:
        """What the client sends that isn't an action."""
        return self.sock.recv(65536)

    def next_action(self) -> dict[str, str]:
        return next(self.actions())

    def reply(self, action: dict[str, str], data: bytes) -> None:
        """Send captured bytes as the answer to this action."""
        self.send(_ACTION_ID.sub(b"\r\nActionID: " + action["ActionID"].encode(), data))

    def log_in(self, answer: str = "login", greeting: bytes = b"") -> None:
        """Greet, then answer the challenge and the login with one of the captured logins."""
        captured, _, rest = raw(self.version, answer).partition(b"\r\n")
        challenge, accepted, *_ = rest.split(b"\r\n\r\n")
        self.send((greeting or captured) + b"\r\n")
        self.reply(self.next_action(), challenge + b"\r\n\r\n")
        self.reply(self.next_action(), accepted + b"\r\n\r\n")

    def answer(self, action: dict[str, str]) -> None:
        """The captured reply to this action."""
        name = action["Action"]
        if name == "IAXpeerlist" and self.prefix != "denied-":
            return self.reply(action, IAX_PEERS if not self.prefix else raw(self.version, f"{self.prefix}IAXpeers"))
        if name == "Getvar":
            value = ZONES[self.version] + b" 1795250400"
            variable = action["Variable"].encode()
            answer = b"Response: Success\r\nActionID: x\r\nVariable: " + variable + b"\r\nValue: " + value + b"\r\n\r\n"
            return self.reply(action, answer)
        suffix = action.get("Endpoint") or {"core show version": "version"}.get(action.get("Command", ""), "")
        stem = f"{name}-{suffix}" if suffix else name
        name = {"IAXpeerlist": "IAXpeers", "Ping": "Ping"}.get(stem, stem)
        prefix = "" if name == "Ping" or name.startswith("PJSIPShowEndpoint-") else self.prefix
        return self.reply(action, raw(self.version, f"{prefix}{name}"))

    def serve(self) -> None:
        """Log the client in and answer everything from the fixtures."""
        self.serve_with({})

    def serve_with(self, replies: Mapping[str, bytes]) -> None:
        """The same, but reply to the actions in `replies` with these bytes; b"" is no reply."""
        self.log_in()
        for action in self.actions():
            if action["Action"] in replies:
                self.reply(action, replies[action["Action"]])
            else:
                self.answer(action)


Script = Callable[[Session], None]


def replying(**replies: bytes) -> Script:
    """A script that replies to these actions with these bytes, and to all others from the fixtures."""
    return lambda session: session.serve_with(replies)


class ReplayServer:
    """Runs one script per connection, in the order they come; the last script serves all further ones."""

    def __init__(
        self, *scripts: Script, version: int = 22, prefix: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.scripts = scripts or (Session.serve,)
        self.version, self.prefix, self.tls = version, prefix, tls
        self.sessions = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.open: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def connection(self, **changes: object) -> Connection:
        values = {
            "host": "127.0.0.1",
            "ari_port": 1,
            "ami_port": self.port,
            "ami_username": "notebook",
            "ami_password": "lab-ami-secret",
        }
        return Connection.model_validate(values | changes)

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                script = self.scripts[min(self.sessions, len(self.scripts) - 1)]
                self.sessions += 1
                thread = threading.Thread(target=self.run, args=(sock, script), daemon=True)
                self.threads.append(thread)
                thread.start()

    def run(self, sock: socket.socket, script: Script) -> None:
        with contextlib.suppress(OSError, StopIteration), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            if self.tls:
                sock = stack.enter_context(self.tls.wrap_socket(sock, server_side=True))
            self.open.append(sock)
            script(Session(sock, self.version, self.prefix))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in (self.accepting, *self.threads):
            thread.join(10)


@contextmanager
def replay(
    *scripts: Script, version: int = 22, prefix: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[ReplayServer]:
    """A server for the time of a test."""
    server = ReplayServer(*scripts, version=version, prefix=prefix, tls=tls)
    try:
        yield server
    finally:
        server.close()


def wait_until(done: Callable[[], bool], deadline_s: float = 20) -> None:
    """Poll until `done()`; fail after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
