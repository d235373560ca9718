"""An action in flight: what came in answer to it so far, how long it may take and how much it may be."""

from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, field

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.reply import AmiReply
from pbx.errors import AmiProtocolError, AmiTooLarge

# Bounds far above what 10,000 endpoints or channels take (5 MB), so that no peer fills the memory.
MAX_ITEMS = 100_000
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_HELD_BYTES = 2 * MAX_ANSWER_BYTES  # of all answers that are coming in


@dataclass
class PendingAction:
    """An action in flight."""

    action: str
    deadline_at: float
    idle_s: float
    sent_at: float
    future: Future[AmiReply] = field(default_factory=Future)
    response: Message | None = None
    items: list[Message] = field(default_factory=list)
    held_bytes: int = 0

    def due_at(self, progress_at: float) -> float:
        return min(self.deadline_at, max(self.sent_at, progress_at) + self.idle_s)

    def take(self, message: Message) -> bool:
        """Add one of its messages; return whether it was the last. Only `EventList: start` makes it wait for more."""
        mark = message.get("EventList").lower() if b"\r\nEventList: " in message.raw else ""
        if self.response is None and message.response:
            self.response = message
            return mark != "start"
        if not self.future.done():  # of a call that ran out of time the rest is swallowed
            self.items.append(message)
            self.held_bytes += len(message.raw)
        return mark in ("complete", "cancelled")

    def forget(self) -> None:
        """Let go of what came so far: nobody waits for it any more."""
        self.items.clear()
        self.held_bytes = 0

    def end(self) -> None:
        """Give the answer, once it is there, to who waits for it."""
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
        return len(self.items) > MAX_ITEMS or self.held_bytes > MAX_ANSWER_BYTES


def over_limit(calls: Collection[PendingAction]) -> PendingAction | None:
    """The call whose answer is too large, or the largest where all of them together are; else None."""
    one = next((call for call in calls if call.over_limit), None)
    if one is None and sum(call.held_bytes for call in calls) > MAX_HELD_BYTES:
        one = max(calls, key=lambda call: call.held_bytes)
    return one


def too_large(action: str) -> AmiTooLarge:
    """The error of an action whose answer is over the limits."""
    return AmiTooLarge(
        f"The reply to {action} is too large: more than {MAX_ITEMS:,} entries or {MAX_ANSWER_BYTES >> 20} MB.",
        "A PBX normally sends far less. Check that the host and the port are those of your Asterisk server. The app "
        "tries again in a minute.",
    )
