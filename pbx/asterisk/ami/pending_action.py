"""An action in flight: the parts of its reply received so far, its deadlines and its size limits."""

from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, field

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.reply import AmiReply
from pbx.errors import AmiProtocolError, AmiTooLarge

# Limits far above the size of 10,000 endpoints or channels (5 MB), so that no peer can fill the memory.
MAX_ITEMS = 100_000
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_HELD_BYTES = 2 * MAX_ANSWER_BYTES  # of all unfinished replies together


@dataclass
class PendingAction:
    """An action that was sent and whose reply isn't complete. `future` gets the reply or an error."""

    action: str
    deadline_at: float
    idle_s: float
    sent_at: float
    future: Future[AmiReply] = field(default_factory=Future)
    response: Message | None = None
    items: list[Message] = field(default_factory=list)
    held_bytes: int = 0

    def due_at(self, progress_at: float) -> float:
        """When it fails, on the monotonic clock, if the last part of any reply came at `progress_at`."""
        return min(self.deadline_at, max(self.sent_at, progress_at) + self.idle_s)

    def take(self, message: Message) -> bool:
        """Add a message of its reply; returns whether the reply is complete. Only `EventList: start` announces more."""
        mark = message.get("EventList").lower() if b"\r\nEventList: " in message.raw else ""
        if self.response is None and message.response:
            self.response = message
            return mark != "start"
        if not self.future.done():  # after its deadline the rest is dropped
            self.items.append(message)
            self.held_bytes += len(message.raw)
        return mark in ("complete", "cancelled")

    def forget(self) -> None:
        """Drop the parts received so far, because nobody waits for them any more."""
        self.items.clear()
        self.held_bytes = 0

    def end(self) -> None:
        """Give the complete reply to the future."""
        if self.future.done():
            return
        if self.response:
            self.future.set_result(AmiReply(self.action, self.response, tuple(self.items)))
        else:
            self.future.set_exception(
                AmiProtocolError(
                    f"Asterisk's reply to {self.action} is incomplete: a list came without its response.",
                    "Try again. If it happens again, look for errors in /var/log/asterisk/full on the PBX.",
                )
            )

    @property
    def over_limit(self) -> bool:
        """Whether its reply is too large."""
        return len(self.items) > MAX_ITEMS or self.held_bytes > MAX_ANSWER_BYTES


def over_limit(calls: Collection[PendingAction]) -> PendingAction | None:
    """The action whose reply is too large, or the largest if all together are too large; otherwise None."""
    one = next((call for call in calls if call.over_limit), None)
    if one is None and sum(call.held_bytes for call in calls) > MAX_HELD_BYTES:
        one = max(calls, key=lambda call: call.held_bytes)
    return one


def too_large(action: str) -> AmiTooLarge:
    """The error of an action whose reply is too large."""
    return AmiTooLarge(
        f"The reply to {action} is too large: more than {MAX_ITEMS:,} entries or {MAX_ANSWER_BYTES >> 20} MB.",
        "A PBX normally sends far less. Check that the host and the port are those of your Asterisk server. The app "
        "tries again in a minute.",
    )
