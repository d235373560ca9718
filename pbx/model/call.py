"""A call: everything that shares a linkedid."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

CallDirection = Literal["inbound", "outbound", "internal", "unknown"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call, derived from its legs: who called whom, how it ended, how long it took. "" and None mean unknown."""

    started_at: datetime
    direction: CallDirection = "unknown"
    from_number: str = ""
    from_name: str = ""
    to_number: str = ""
    did: str = ""  # the number dialled from outside
    queue: str = ""  # the queues it entered, separated by commas: see pbx.store.queues_of_calls
    agent: str = ""  # extension that answered or, for an outbound call, that called
    disposition: str = ""  # ANSWERED, NO ANSWER, BUSY, FAILED, CONGESTION; "" while the call lasts
    talk_s: float | None = None
    wait_s: float | None = None  # from the start until somebody answered
    duration_s: float | None = None
