"""Faults on demand between the simulated PBX and its clients.

A test arms a fault, and `tests.simulator.faulty_connections` causes it. `Fault.where` is a pattern for the names of
spots, in which `*` matches any characters, `/` too:

    ami                     a connection was accepted            ari    likewise
    ami/QueueStatus         the complete answer to that action (`ami/Login` and `ami/Ping` too)
    ami/events              a batch of events
    ari/recordings/stored   the answer to that path, without its leading `/ari/` and without its query
    ari/recordings/stored/2026%2F07%2F31%2Fq-600-…/file          (as the client sent it: percent-encoded)

The kinds of faults, in the order in which a spot applies them, each at most once:

    refuse         on accept, before a byte is sent (spots `ami`, `ari`): reset the connection. To refuse on the
                   port itself, close the PBX instead.
    mute           before an answer is sent: send nothing, and leave the connection open.
    slow_list      before a list is answered (the path `recordings/stored`, an AMI action that answers with items):
                   wait `seconds`, then answer.
    headless       before a list of AMI is answered: omit the response that begins it.
    endless        before a list of AMI or an answer of ARI is sent: send items until the client leaves.
    flood          before an answer of AMI: send events until the client leaves (`ami/Challenge`: before the login).
    nested         ARI only, before an answer is made: answer with JSON nested 200,000 deep.
    server_error   ARI only, before an answer is made: answer with `status` and Asterisk's body for it instead.
    wrong_length   ARI only, when the headers are made: let Content-Length exceed the body by `extra_bytes` (fall below
                   it if negative; but not below 0), and close the connection after the body.
    stall          while sending: after `after_bytes` wait `seconds`, then send the rest.
    cut            while sending: after `after_bytes` reset the connection.
    trickle        while sending: send one byte at a time, `seconds` apart (0: one turn of the event loop).

If a spot sends no more than `after_bytes`, it sends all of them first: `cut` then resets after a complete message, and
`stall` delays what follows.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

FaultKind = Literal[
    "refuse",
    "mute",
    "slow_list",
    "headless",
    "endless",
    "flood",
    "nested",
    "server_error",
    "wrong_length",
    "stall",
    "cut",
    "trickle",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at the spots that `where` matches. Which of the other fields apply depends on the kind."""

    kind: FaultKind
    where: str = "*"
    after_bytes: int = 0  # stall, cut: how much is sent before
    seconds: float = 0.0  # stall, slow_list: how long; trickle: the time between two bytes
    status: int = 500  # server_error
    extra_bytes: int = 1000  # wrong_length


class Faults:
    """The armed faults of one simulated PBX. A test and the server's thread may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[tuple[Fault, int | None]] = []
        self._taken: Counter[str] = Counter()

    def arm(self, fault: Fault, times: int | None = 1) -> None:
        """Cause a fault at the next `times` spots that it matches, or with None at all until `clear`."""
        if times is not None and times < 1:
            raise ValueError("A fault happens at least once.")
        with self._lock:
            self._armed.append((fault, times))

    def take(self, kind: FaultKind, where: str) -> Fault | None:
        """The oldest armed fault of a kind that matches a spot, or None. It counts as caused once more."""
        with self._lock:
            for position, (fault, times) in enumerate(self._armed):
                if fault.kind != kind or not fnmatchcase(where, fault.where):
                    continue
                if times == 1:
                    del self._armed[position]
                elif times is not None:
                    self._armed[position] = (fault, times - 1)
                self._taken[kind] += 1
                return fault
        return None

    def clear(self) -> None:
        """Disarm all faults. A fault in progress continues."""
        with self._lock:
            self._armed.clear()

    @property
    def armed(self) -> tuple[Fault, ...]:
        """The faults that are still armed."""
        with self._lock:
            return tuple(fault for fault, _ in self._armed)

    @property
    def taken(self) -> dict[str, int]:
        """How often each kind was caused."""
        with self._lock:
            return dict(self._taken)
