"""What history tells, whoever tells it: visits to queues, telephones that rang in vain, agents' changes, calls' legs.

Times are aware UTC, durations seconds. `None` and "" mean that the source doesn't say.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# How a visit to a queue ended. "transferred": answered, and then passed on; "unknown": nobody saw how.
VisitOutcome = Literal[
    "answered",
    "abandoned",
    "timeout",
    "exit_empty",
    "exit_key",
    "transferred",
    "withdrawn",
    "in_progress",
    "unknown",
]
AgentEventKind = Literal["login", "logout", "pause", "unpause"]


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of a caller to a queue, from ENTERQUEUE to how it ended."""

    uniqueid: str  # of the caller's channel: queue_log's callid
    queue: str
    joined_at: datetime
    connected_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: VisitOutcome = "in_progress"
    wait_s: float | None = None  # in the queue, ringing included
    ring_s: float | None = None  # of the agent who answered
    talk_s: float | None = None
    agent: str = ""  # who answered, as queue_log names him
    interface: str = ""
    caller: str = ""
    caller_name: str = ""
    did: str = ""
    position: int | None = None  # when leaving
    original_position: int | None = None  # when joining
    ended_by: str = ""  # caller, agent or transfer
    target: str = ""  # of a transfer, or the key pressed


@dataclass(frozen=True, slots=True)
class Ring:
    """An agent's telephone rang and nobody took the call: queue_log's RINGNOANSWER."""

    rung_at: datetime  # when it stopped
    agent: str
    queue: str
    uniqueid: str  # of the caller's channel
    ring_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """An agent entered or left a queue, or paused or went on in it; `queue` "" means all of his."""

    happened_at: datetime
    agent: str
    queue: str
    kind: AgentEventKind
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a call: a CDR row, or a dial attempt seen live. Legs that share a linkedid are one call."""

    linkedid: str
    uniqueid: str
    channel: str
    dst_channel: str
    trunk: str
    src: str
    dst: str
    did: str
    context: str
    last_app: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    billsec_s: float | None
    disposition: str  # ANSWERED, NO ANSWER, BUSY, FAILED, CONGESTION; "" while it lasts
    cause: int | None  # Q.850, of live events or CEL
    pdd_s: float | None  # from dialling to the first ringing, of live events
    recording_file: str
    sequence: int | None
    from_name: str = ""
    bridged_at: datetime | None = None  # of CEL: when the two could talk
    ended_by: str = ""  # of CEL, who hung up: caller or called; "" where neither did or nobody says
    transferred_to: str = ""  # of CEL: the extension or channel the call was passed on to
    onward_trunk: str = ""  # through which it went out again, having come in through `trunk`
    outbound_number: str = ""  # of a call out the number it shows: FreePBX sets it on each, whatever the trunk
