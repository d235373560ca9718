"""An Asterisk with queues only, for tests that reload or restart it, or let callers leave a queue in every way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.ami_session import Message
from tests.lab.calls import new_caller, originate, session
from tests.lab.process import wait_until
from tests.lab.spare_asterisk import SpareAsterisk

AMI_PORTS = {16: 5716, 22: 5722}
OPEN, UNANSWERED, CLOSED, LEAVE_WHEN_EMPTY = "open", "deaf", "closed", "leaving"


@dataclass(frozen=True)
class Caller:
    """A caller who was sent to a queue. `channel` is the channel that waits in the queue."""

    asterisk: QueueAsterisk
    queue: str
    number: str
    channel: str
    uniqueid: str

    @property
    def events(self) -> list[str]:
        """The call's events in queue_log, in order."""
        return [fields[-1] for fields in self._fields()]

    def _fields(self) -> list[list[str]]:
        lines = [line.split("|") for line in self.asterisk.log_text().splitlines()]
        # A | in a name shifts the fields, so the event is the first field in capitals after the queue.
        return [
            [*fields[:3], next((word for word in fields[4:] if word.isupper()), "")]
            for fields in lines
            if len(fields) > 4 and fields[1] == self.uniqueid
        ]

    def wait_for(self, *events: str) -> None:
        """Wait until queue_log has one of these events for the call."""
        wait_until(f"{' or '.join(events)} of {self.uniqueid}", lambda: not set(events).isdisjoint(self.events))

    def agent_channel(self) -> str:
        """The channel of the agent who is talking to this caller."""
        with session(self.asterisk) as ami:
            items = {item["Channel"]: item for item in ami.action("CoreShowChannels") if "Channel" in item}
        bridge = items[self.channel]["BridgeId"]
        return next(name for name, item in items.items() if item["BridgeId"] == bridge and name != self.channel)


@dataclass(frozen=True)
class QueueAsterisk(SpareAsterisk):
    """An Asterisk with queues and its queue_log."""

    def log_text(self) -> str:
        """The text of queue_log, empty before Asterisk writes it."""
        path = self.logs / "queue_log"
        return path.read_text() if path.exists() else ""

    def call(self, queue: str, **variables: float | str) -> Caller:
        """Send a caller to a queue. etc/queues/extensions.conf explains the variables."""
        caller = new_caller()
        response = originate(self, "Local/s@caller/n", f"{queue}@queues", caller, variables)
        number = caller.partition("<")[2].rstrip(">")
        return Caller(self, queue, number, response["Channel"], response["Uniqueid"])

    def act(self, action: str, **headers: str) -> list[Message]:
        """Run an AMI action in a session of its own, and return the reply."""
        with session(self) as ami:
            return ami.action(action, headers)


@contextmanager
def queue_asterisk(version: int) -> Iterator[QueueAsterisk]:
    """Run this Asterisk, then stop it and delete its files."""
    asterisk = QueueAsterisk(
        f"queues-{version}", version, AMI_PORTS[version], suffix="-queues", templates=("common", "queues")
    )
    with asterisk.fresh():
        yield asterisk
