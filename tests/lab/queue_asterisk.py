"""An Asterisk with queues only, for tests that reload it, restart it or send callers every way out of a queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.ami_session import Message
from tests.lab.calls import new_caller, originate, session
from tests.lab.process import wait_until
from tests.lab.spare_asterisk import SpareAsterisk

AMI_PORTS = {16: 5716, 22: 5722}
OPEN, DEAF, CLOSED, LEAVING = "open", "deaf", "closed", "leaving"


@dataclass(frozen=True)
class Caller:
    """A caller who was sent to a queue. `channel` is the one in the queue."""

    site: QueueAsterisk
    queue: str
    number: str
    channel: str
    uniqueid: str

    @property
    def events(self) -> list[str]:
        """What queue_log says of the call, in order."""
        return [fields[-1] for fields in self._fields()]

    def _fields(self) -> list[list[str]]:
        lines = [line.split("|") for line in self.site.log_text().splitlines()]
        # A name with a | moves the others on, so the event is the first word in capitals behind the queue.
        return [
            [*fields[:3], next((word for word in fields[4:] if word.isupper()), "")]
            for fields in lines
            if len(fields) > 4 and fields[1] == self.uniqueid
        ]

    def wait_for(self, *events: str) -> None:
        """Wait until queue_log has one of these events of the call."""
        wait_until(f"{' or '.join(events)} of {self.uniqueid}", lambda: not set(events).isdisjoint(self.events))

    def partner(self) -> str:
        """The agent's channel."""
        with session(self.site) as ami:
            items = {item["Channel"]: item for item in ami.action("CoreShowChannels") if "Channel" in item}
        bridge = items[self.channel]["BridgeId"]
        return next(name for name, item in items.items() if item["BridgeId"] == bridge and name != self.channel)


@dataclass(frozen=True)
class QueueAsterisk(SpareAsterisk):
    """That Asterisk, and the callers sent to it."""

    def log_text(self) -> str:
        path = self.logs / "queue_log"
        return path.read_text() if path.exists() else ""

    def call(self, queue: str, **variables: float | str) -> Caller:
        """A caller is sent to a queue. `TALK_S`, `PATIENCE_S`, `TIMEOUT_S`, `KEY`: see its dialplan."""
        caller = new_caller()
        begun = originate(self, "Local/s@caller/n", f"{queue}@queues", caller, variables)
        number = caller.partition("<")[2].rstrip(">")
        return Caller(self, queue, number, begun["Channel"], begun["Uniqueid"])

    def act(self, action: str, **headers: str) -> list[Message]:
        with session(self) as ami:
            return ami.action(action, headers)


@contextmanager
def queue_asterisk(version: int) -> Iterator[QueueAsterisk]:
    """It runs; it and its files are gone afterwards."""
    site = QueueAsterisk(
        f"queues-{version}", version, AMI_PORTS[version], suffix="-queues", templates=("common", "queues")
    )
    with site.fresh():
        yield site
