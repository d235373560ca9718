"""The history of the PBX: visits to queues, missed rings, agent events, legs of calls.

Live events, queue_log, CDR and CEL all produce these. Times are timezone-aware UTC, durations are in seconds. `None`
and "" mean that the source doesn't contain the value.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# How a visit to a queue ended. "transferred": after it was answered; "unknown": the source lacks its end.
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
    """One caller's visit to a queue, from joining it (ENTERQUEUE) to leaving it."""

    uniqueid: str  # of the caller's channel; callid in queue_log
    queue: str
    joined_at: datetime
    connected_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: VisitOutcome = "in_progress"
    wait_s: float | None = None  # in the queue, including ringing
    ring_s: float | None = None  # how long the phone of the agent who answered rang
    talk_s: float | None = None
    agent: str = ""  # who answered, as named in queue_log
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
    """An agent's phone rang and they didn't answer: RINGNOANSWER in queue_log."""

    rung_at: datetime  # when it stopped ringing
    agent: str
    queue: str
    uniqueid: str  # of the caller's channel
    ring_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """An agent logged in to or out of a queue, or paused or unpaused; `queue` "" means all of their queues."""

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
    started_at: datetime
    dst_channel: str = ""
    trunk: str = ""  # the trunk it came in or went out through
    src: str = ""
    dst: str = ""
    did: str = ""  # the number dialled from outside
    context: str = ""
    last_app: str = ""
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    billsec_s: float | None = None
    disposition: str = ""  # ANSWERED, NO ANSWER, BUSY, FAILED, CONGESTION; "" while it is in progress
    cause: int | None = None  # Q.850, from live events or CEL
    pdd_s: float | None = None  # post-dial delay: from dialling to the first ringing, from live events
    recording_file: str = ""
    sequence: int | None = None
    from_name: str = ""
    bridged_at: datetime | None = None  # from CEL: when the two parties were connected
    ended_by: str = ""  # from CEL, who hung up: caller or called; "" if neither did or if unknown
    transferred_to: str = ""  # from CEL: the extension or channel that the call was transferred to
    onward_trunk: str = ""  # the trunk an inbound leg was forwarded through; it came in through `trunk`
    outbound_number: str = ""  # the caller ID that an outbound call shows; FreePBX sets it on every one
