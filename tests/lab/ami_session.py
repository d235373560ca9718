"""A minimal AMI session that drives the lab and records the bytes it receives. It is not the product's client."""

import contextlib
import hashlib
import socket
import time
import uuid
from typing import Self

from tests.lab.provision import LabError

Message = dict[str, str]
SNAPSHOT_ACTIONS = [  # the actions of a snapshot, on every version
    "CoreSettings",
    "CoreStatus",
    "CoreShowChannels",
    "PJSIPShowEndpoints",
    "PJSIPShowContacts",
    "PJSIPShowRegistrationsOutbound",
    "IAXpeers",
    "IAXregistry",
    "QueueStatus",
    "QueueSummary",
]


def parse(raw: bytes) -> Message:
    """Return the headers of one message. A repeated header has its last value."""
    lines = raw.decode("utf-8", "replace").splitlines()
    return {key: value.lstrip() for key, separator, value in (line.partition(":") for line in lines) if separator}


class Ami:
    """One AMI session. It sends one action at a time and collects unsolicited events in `events`."""

    def __init__(self, host: str, port: int, deadline_s: float = 30) -> None:
        self.line = socket.create_connection((host, port), timeout=deadline_s)
        self.deadline_s = deadline_s
        self.buffer = b""
        self.last_id = ""
        self.events: list[Message] = []
        self.seen = b""  # every byte received
        self.greeting = self.read_until(b"\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def read_until(self, end: bytes) -> bytes:
        """Return the next bytes up to and including `end`. Raises LabError if the peer closes or is too slow."""
        deadline = time.monotonic() + self.deadline_s
        while end not in self.buffer:
            self.line.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                more = self.line.recv(65536)
            except TimeoutError:
                raise LabError(f"No {end!r} from the manager interface in {self.deadline_s} s.") from None
            if not more:
                raise LabError(f"The manager interface closed after {self.buffer!r}.")
            self.buffer += more
            self.seen += more
        message, _, self.buffer = self.buffer.partition(end)
        return message + end

    def action(self, name: str, headers: dict[str, str] | None = None) -> list[Message]:
        """Send an action. Return its response and, for a list, the items and the closing event."""
        unique = uuid.uuid4().hex  # replies to other sessions' actions arrive here too
        fields = {"Action": name, "ActionID": unique} | (headers or {})
        self.last_id = fields["ActionID"]
        lines = [f"{key}: {part}\r\n" for key, value in fields.items() for part in value.split("\n")]
        self.line.sendall("".join(lines).encode() + b"\r\n")
        answer: list[Message] = []
        while not answer or (answer[0].get("EventList") == "start" and answer[-1].get("EventList") != "Complete"):
            message = parse(self.read_until(b"\r\n\r\n"))
            (answer if message.get("ActionID") == self.last_id else self.events).append(message)
        return answer

    def login(self, username: str, secret: str, events: str = "off") -> list[Message]:
        """Log in by MD5 challenge, which doesn't send the secret."""
        challenge = self.action("Challenge", {"AuthType": "MD5"})[0]["Challenge"]
        key = hashlib.md5((challenge + secret).encode()).hexdigest()
        return self.action("Login", {"AuthType": "MD5", "Username": username, "Key": key, "Events": events})

    def drain(self, quiet_s: float = 0.3) -> bytes:
        """Return all bytes since the last call, once nothing arrives for `quiet_s` or the peer closes."""
        self.line.settimeout(quiet_s)
        with contextlib.suppress(TimeoutError):
            while more := self.line.recv(65536):
                self.seen += more
        seen, self.seen, self.buffer = self.seen, b"", b""
        return seen

    def wait_event(self, **wanted: str) -> Message:
        """Wait for the next unsolicited event that has all these headers, and return it."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if wanted.items() <= event.items():
                    return event
            self.events.append(parse(self.read_until(b"\r\n\r\n")))
