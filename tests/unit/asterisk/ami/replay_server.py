"""An AMI server on loopback that replays a real Asterisk's bytes, and sends faults that Asterisk doesn't produce."""

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
# Replies that are not among the fixtures. Both versions send them; the values are the lab's.
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
    """A client's connection, as a test's script uses it."""

    def __init__(self, sock: socket.socket, version: int, prefix: str) -> None:
        self.sock, self.version, self.prefix = sock, version, prefix
        self.received = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def actions(self) -> Iterator[dict[str, str]]:
        """Yield the client's actions until it disconnects."""
        while True:
            while b"\r\n\r\n" in self.received:
                text, _, self.received = self.received.partition(b"\r\n\r\n")
                yield dict(line.split(": ", 1) for line in text.decode().split("\r\n"))
            data = self.sock.recv(65536)
            if not data:
                return
            self.received += data

    def next_request(self) -> bytes:
        """Return the next bytes from the client, which need not be an action."""
        return self.sock.recv(65536)

    def next_action(self) -> dict[str, str]:
        return next(self.actions())

    def reply(self, action: dict[str, str], data: bytes) -> None:
        """Send captured bytes as the reply to this action, with its ActionID."""
        self.send(_ACTION_ID.sub(b"\r\nActionID: " + action["ActionID"].encode(), data))

    def log_in(self, answer: str = "login", greeting: bytes = b"") -> None:
        """Send a greeting, then answer the challenge and the login with the captured login named `answer`."""
        captured, _, rest = raw(self.version, answer).partition(b"\r\n")
        challenge, accepted, *_ = rest.split(b"\r\n\r\n")
        self.send((greeting or captured) + b"\r\n")
        self.reply(self.next_action(), challenge + b"\r\n\r\n")
        self.reply(self.next_action(), accepted + b"\r\n\r\n")

    def answer(self, action: dict[str, str]) -> None:
        """Send the captured reply to this action."""
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
        """Log the client in and answer every action from the fixtures."""
        self.serve_with({})

    def serve_with(self, replies: Mapping[str, bytes]) -> None:
        """Like `serve`, but reply to the actions in `replies` with these bytes; b"" means no reply."""
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


EMPTY_LIST = (
    b"Response: Success\r\nActionID: x\r\nEventList: start\r\n\r\n"
    b"Event: Done\r\nActionID: x\r\nEventList: Complete\r\n\r\n"
)


def reported_answers(name: str) -> dict[str, bytes]:
    """Replies of a real PBX from a file in fixtures/field, by action."""
    sections = (FIXTURES / "field" / name).read_bytes().replace(b"\n", b"\r\n").split(b"### ")[1:]
    parts = (section.partition(b"\r\n") for section in sections)
    return {action.decode(): answer.strip() + b"\r\n\r\n" for action, _, answer in parts}


def empty_pbx_with(answers: dict[str, bytes]) -> Script:
    """A script that gives these answers, and otherwise those of a PBX without any devices, queues or calls."""

    def serve(session: Session) -> None:
        session.log_in()
        for action in session.actions():
            name = action["Action"]
            if name in answers:
                session.reply(action, answers[name])
            elif name in ("SIPshowpeer", "PJSIPShowEndpoint"):
                session.reply(action, b"Response: Error\r\nActionID: x\r\nMessage: Peer not found\r\n\r\n")
            elif name in ("IAXpeerlist", "QueueStatus", "SIPpeers", "SIPshowregistry"):
                session.reply(action, EMPTY_LIST)
            else:
                session.answer(action)

    return serve


class ReplayServer:
    """Runs one script per connection, in order; the last script serves all further connections."""

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
    """Run a server until the end of the `with` block."""
    server = ReplayServer(*scripts, version=version, prefix=prefix, tls=tls)
    try:
        yield server
    finally:
        server.close()


def wait_until(done: Callable[[], bool], deadline_s: float = 20) -> None:
    """Poll until `done()`; fail after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end, "the condition was not met before the deadline"
        time.sleep(0.01)
