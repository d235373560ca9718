"""A manager session just big enough to drive the lab and to keep the bytes it saw; not the product's client."""

import contextlib
import hashlib
import socket
import time
import uuid
from typing import Self

from tests.lab.provision import LabError

Message = dict[str, str]
SNAPSHOT_ACTIONS = [  # what a snapshot asks of every version
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
    """One message's headers; of a repeated header the last."""
    lines = raw.decode("utf-8", "replace").splitlines()
    return {key: value.lstrip() for key, separator, value in (line.partition(":") for line in lines) if separator}


class Ami:
    """One session: actions one at a time, unsolicited events kept aside."""

    def __init__(self, host: str, port: int, deadline_s: float = 30) -> None:
        self.line = socket.create_connection((host, port), timeout=deadline_s)
        self.deadline_s = deadline_s
        self.buffer = b""
        self.last_id = ""
        self.events: list[Message] = []
        self.seen = b""  # every byte received
        self.greeting = self.take(b"\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def take(self, end: bytes) -> bytes:
        """The next bytes up to and with `end`; LabError if the peer closes or is too slow."""
        until = time.monotonic() + self.deadline_s
        while end not in self.buffer:
            self.line.settimeout(max(0.01, until - time.monotonic()))
            try:
                more = self.line.recv(65536)
            except TimeoutError:
                raise LabError(f"No {end!r} from the manager interface in {self.deadline_s} s.") from None
            if not more:
                raise LabError(f"The manager interface closed after {self.buffer!r}.")
            self.buffer += more
            self.seen += more
        found, _, self.buffer = self.buffer.partition(end)
        return found + end

    def action(self, name: str, headers: dict[str, str] | None = None) -> list[Message]:
        """Send an action; its response and, of a list, the items and the closing event."""
        unique = uuid.uuid4().hex  # events that answer another session's actions reach this one too
        fields = {"Action": name, "ActionID": unique} | (headers or {})
        self.last_id = fields["ActionID"]
        lines = [f"{key}: {part}\r\n" for key, value in fields.items() for part in value.split("\n")]
        self.line.sendall("".join(lines).encode() + b"\r\n")
        answer: list[Message] = []
        while not answer or (answer[0].get("EventList") == "start" and answer[-1].get("EventList") != "Complete"):
            message = parse(self.take(b"\r\n\r\n"))
            (answer if message.get("ActionID") == self.last_id else self.events).append(message)
        return answer

    def login(self, username: str, secret: str, events: str = "off") -> list[Message]:
        """Log in by challenge, the way that never sends the secret."""
        challenge = self.action("Challenge", {"AuthType": "MD5"})[0]["Challenge"]
        key = hashlib.md5((challenge + secret).encode()).hexdigest()
        return self.action("Login", {"AuthType": "MD5", "Username": username, "Key": key, "Events": events})

    def drain(self, quiet_s: float = 0.3) -> bytes:
        """All bytes since the last call, once nothing more came for `quiet_s` or the peer closed."""
        self.line.settimeout(quiet_s)
        with contextlib.suppress(TimeoutError):
            while more := self.line.recv(65536):
                self.seen += more
        seen, self.seen, self.buffer = self.seen, b"", b""
        return seen

    def wait_event(self, **wanted: str) -> Message:
        """The next unsolicited event that has all these headers."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if wanted.items() <= event.items():
                    return event
            self.events.append(parse(self.take(b"\r\n\r\n")))
