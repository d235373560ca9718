"""Saves the raw replies of the lab's servers as fixtures, byte for byte."""

import base64
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import quote

from tests.lab.ami_session import SNAPSHOT_ACTIONS, Ami
from tests.lab.calls import hang_up_all, park_callers, place_all, start_inbound_call, start_phone_call, start_queue_call
from tests.lab.process import wait_until
from tests.lab.provision import LabError
from tests.lab.servers import PHONES, SERVERS, LabServer
from tests.paths import FIXTURES
from tests.sockets import read_until

ODD_CALLER = 'Ana "Zoë" <b>Ruiz</b> 🎉 <+493055501>'
ODD_RECORDING = "Zoë's 50% #1 + ?&"
CAPTURED_ACTIONS = [
    *SNAPSHOT_ACTIONS,
    "SIPpeers",
    "SIPshowregistry",
    "DeviceStateList",
    "ExtensionStateList",
    "ParkedCalls",
    "ConfbridgeListRooms",
    "VoicemailUsersList",
]
ENDPOINTS = ["1001", "1003", "carrier", "badcarrier", "peer-down", "nobody"]
COMMANDS = {"version": "core show version", "queues": "queue show", "unknown": "no such command"}
EVENTS = "system,call,agent,reporting,cdr"


class FixtureWriter:
    """Requests replies from one server and writes them as fixtures."""

    def __init__(self, server: LabServer) -> None:
        self.server = server
        self.folder = FIXTURES / server.name
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, raw: bytes) -> None:
        (self.folder / f"{name}.bin").write_bytes(raw.replace(socket.gethostname().encode() + b".", b"lab."))

    def session(self, username: str = "notebook", secret: str = "", events: str = "off") -> Ami:
        ami = Ami(self.server.host, self.server.ami_port)
        ami.login(username, secret or self.server.ami_secret, events)
        return ami

    def actions(
        self, ami: Ami, prefix: str, names: list[str], header: str = "", values: dict[str, str] | None = None
    ) -> None:
        """Write one file per action or, with `values`, per value of the action's `header`."""
        for name in names:
            for suffix, value in (values or {"": ""}).items():
                stem = f"{prefix}{name}{'-' if suffix else ''}{suffix}"
                ami.action(name, {"ActionID": stem} | ({header: value} if header else {}))
                self.write(stem, ami.drain())

    def logins(self) -> None:
        """Write the replies to a correct login and to three refused ones, each after the challenge's reply."""
        for name, username, secret in (
            ("login", "notebook", ""),
            ("login-wrong-secret", "notebook", "wrong"),
            ("login-unknown-user", "nobody", ""),
            ("login-fenced", "fenced", ""),
        ):
            with self.session(username, secret, events="system") as ami:
                self.write(name, ami.drain(1))

    def busy(self) -> None:
        """Write every reply of a snapshot while calls are up, and the replies to wrong actions and missing rights."""
        with self.session() as ami:
            ami.drain()
            self.actions(ami, "", CAPTURED_ACTIONS)
            self.actions(ami, "", ["PJSIPShowEndpoint"], "Endpoint", {name: name for name in ENDPOINTS})
            self.actions(ami, "", ["Command"], "Command", COMMANDS)
            self.actions(ami, "", ["Ping", "NoSuchAction"])
        with self.session("clerk") as ami:
            ami.drain()
            self.actions(ami, "denied-", CAPTURED_ACTIONS)
            self.actions(ami, "denied-", ["Command"], "Command", {"version": "core show version"})
        self.ari("channels", "/ari/channels")

    def events(self) -> None:
        """Write the events that the server sends while calls, pauses and registrations change."""
        with self.session(events=EVENTS) as ami:
            ami.drain()
            with ThreadPoolExecutor() as pool:
                activity = pool.submit(self.activity)
                raw = b""
                while not activity.done():
                    raw += ami.drain()
                activity.result()
            self.write("events", raw + ami.drain(1))

    def activity(self) -> None:
        """Place calls of every kind, pause an agent, and unregister and register a trunk and the phones."""
        place_all(self.server)
        self.server.cli('queue pause member Local/2001@agents/n queue sales reason "Coffee ☕"')
        self.server.cli("queue unpause member Local/2001@agents/n queue sales")
        self.server.cli("pjsip send unregister carrier")
        PHONES.stop()
        with self.session() as ami:
            ami.drain()
            self.actions(ami, "no-phones-", ["PJSIPShowContacts", "PJSIPShowEndpoints"])
        PHONES.start()
        self.server.cli("pjsip send register carrier")
        wait_until("the trunk is registered again", self.server.trunks_settled)

    def ari(self, name: str, path: str, method: str = "GET", secret: str = "") -> bytes:
        """Request one HTTP reply, write its head and body as `ari-NAME`, and return them."""
        password = secret or self.server.ari_secret
        credentials = base64.b64encode(f"{self.server.ari_username}:{password}".encode()).decode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.server.host}\r\nAuthorization: Basic {credentials}\r\n\r\n"
        with socket.create_connection((self.server.host, self.server.http_port), timeout=10) as line:
            line.sendall(head.encode())
            try:
                raw = read_until(line, is_complete_reply)
            except EOFError:
                raise LabError(f"{self.server.name} closed in the middle of {path}") from None
        self.write(f"ari-{name}", raw)
        return raw

    def recordings(self) -> None:
        """Write ARI's replies about recordings: growing, finished, empty, with an odd name, and a broken link."""
        stored = "/ari/recordings/stored"
        call = start_phone_call(self.server, "5551001")
        wait_until("the recording grows", lambda: call.recorded_bytes > 10_000)  # Asterisk writes blocks
        path = f"{stored}/{quote(call.recording or '', safe='')}"
        self.ari("file-being-written", f"{path}/file")
        self.ari("403", path, method="DELETE")
        call.hangup()
        self.ari("file", f"{path}/file")
        self.ari("list", stored)
        self.ari("401", stored, secret="wrong")
        self.ari("404-path", "/ari/nothing/here")
        self.ari("404-recording", f"{stored}/nothing/file")
        self.ari("info", "/ari/asterisk/info")
        self.ari("ping", "/ari/asterisk/ping")
        with self.extra_recording(ODD_RECORDING):
            self.ari("list-odd", stored)
            self.ari("file-empty", f"{stored}/{quote(ODD_RECORDING, safe='')}/file")
        with self.extra_recording("dead", link_to="nowhere.wav"):
            self.ari("list-500", stored)

    @contextmanager
    def extra_recording(self, name: str, link_to: str | None = None) -> Iterator[None]:
        """Add an empty recording, or a symbolic link, for the duration of the block."""
        path = self.server.monitor / f"{name}.wav"
        if link_to:
            path.symlink_to(link_to)
        else:
            path.touch()
        try:
            yield
        finally:
            path.unlink()

    def bare(self) -> None:
        """Write the replies of a server that has no phone, trunk, queue or recording."""
        self.server.stop()
        self.server.configure()
        for name in ("pjsip", "sip", "iax", "queues"):
            (self.server.etc / f"{name}.conf").write_text("")
        self.server.recording.unlink()
        self.server.recording.mkdir()
        try:
            self.server.spawn([*self.server.program, "-f"])
            wait_until("a bare server opens its manager port", self.server.greets)
            self.server.cli("core waitfullybooted")
            with self.session() as ami:
                ami.drain()
                self.actions(ami, "bare-", CAPTURED_ACTIONS)
            self.ari("bare-list", "/ari/recordings/stored")
            self.ari("bare-channels", "/ari/channels")
        finally:
            self.server.restart()


def is_complete_reply(raw: bytes) -> bool:
    """Whether all bytes of an HTTP reply have arrived, according to its Content-Length."""
    head, end, body = raw.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return len(body) >= int(lengths[0]) if lengths else True


def capture_server(server: LabServer) -> None:
    """Write all fixtures of one server, in about a minute. It hangs up all calls and restarts the server."""
    writer = FixtureWriter(server)
    hang_up_all(server)
    writer.logins()
    writer.events()
    writer.recordings()
    start_queue_call(server, "support", caller=ODD_CALLER)
    park_callers(server, 1)
    start_queue_call(server, "sales")
    start_phone_call(server, "1002")
    start_phone_call(server, "5551001")
    start_inbound_call(server, "announcement")
    time.sleep(2)
    writer.busy()
    hang_up_all(server)
    writer.bare()


def capture() -> None:
    """Write the fixtures of both servers. They share the phones, so one comes after the other."""
    for server in SERVERS.values():
        capture_server(server)
        print(f"{len(list((FIXTURES / server.name).iterdir()))} files in {FIXTURES / server.name}")
