"""Tables of what happened: visits to queues, agents' events, calls' legs, when the PBX was listened to, alerts.

They share the registry, and the ways of storing, of `models`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, UniqueConstraint
from sqlmodel import Field

from pbx.store.models import BigCount, Table, UtcSeconds, now


class VisitRow(Table, table=True):
    """One visit of a caller to a queue, by queue_log or by live events alike."""

    __tablename__ = "queue_visits"
    __table_args__ = (
        # Figures of a period are read from the index alone.
        Index(
            "ix_queue_visits_joined",
            "connection_id",
            "joined_at",
            "queue",
            "outcome",
            "wait_s",
            "talk_s",
            "agent",
            "did",
        ),
        Index("ix_queue_visits_uniqueid", "connection_id", "uniqueid", "queue"),
        Index("ix_queue_visits_caller", "connection_id", "caller", "joined_at"),
        Index("ix_queue_visits_agent", "connection_id", "agent", "joined_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    uniqueid: str  # of the caller's channel: queue_log's callid
    queue: str
    joined_at: datetime = Field(sa_type=UtcSeconds)
    connected_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    ended_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    outcome: str = "in_progress"
    wait_s: float | None = None  # in the queue, ringing included
    ring_s: float | None = None  # of the agent who answered
    talk_s: float | None = None
    agent: str = ""  # who answered, as queue_log names him
    interface: str = ""
    caller: str = ""
    caller_name: str = ""
    did: str = ""
    position: int | None = Field(default=None, sa_type=BigCount)  # when leaving
    original_position: int | None = Field(default=None, sa_type=BigCount)  # when joining
    ended_by: str = ""  # caller, agent or transfer
    target: str = ""  # of a transfer, or the key pressed
    source: str = ""  # watch or queue_log


class RingRow(Table, table=True):
    """An agent's telephone rang and nobody took the call: queue_log's RINGNOANSWER."""

    __tablename__ = "agent_rings"
    __table_args__ = (UniqueConstraint("connection_id", "rung_at", "agent", "queue", "uniqueid"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    rung_at: datetime = Field(sa_type=UtcSeconds)  # when it stopped
    agent: str
    queue: str
    uniqueid: str
    ring_s: float = 0.0


class AgentEventRow(Table, table=True):
    """An agent entered or left a queue, or paused or went on in it; `queue` "" means all of his."""

    __tablename__ = "agent_events"
    __table_args__ = (UniqueConstraint("connection_id", "happened_at", "agent", "queue", "kind"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    happened_at: datetime = Field(sa_type=UtcSeconds)
    agent: str
    queue: str = ""
    kind: str
    reason: str = ""


class LegRow(Table, table=True):
    """One leg of a call: a CDR row, or a dial attempt seen live. Legs that share a linkedid are one call."""

    __tablename__ = "call_legs"
    __table_args__ = (
        UniqueConstraint("connection_id", "linkedid", "channel", "dst_channel"),
        Index("ix_call_legs_call", "call_id"),
        Index("ix_call_legs_uniqueid", "connection_id", "uniqueid"),  # by which recordings find their call
        Index("ix_call_legs_trunk", "connection_id", "started_at", "trunk", "disposition", "billsec_s", "duration_s"),
    )

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    call_id: int = Field(foreign_key="calls.id")
    linkedid: str
    uniqueid: str
    sequence: int | None = Field(default=None, sa_type=BigCount)
    channel: str = ""
    dst_channel: str = ""
    trunk: str = ""  # through which it came in or went out
    src: str = ""
    dst: str = ""
    did: str = ""
    context: str = ""
    last_app: str = ""
    started_at: datetime = Field(sa_type=UtcSeconds)
    answered_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    ended_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    duration_s: float | None = None
    billsec_s: float | None = None
    disposition: str = ""  # ANSWERED, NO ANSWER, BUSY, FAILED, CONGESTION; "" while it lasts
    cause: int | None = Field(default=None, sa_type=BigCount)  # Q.850, of live events or CEL
    pdd_s: float | None = None  # from dialling to the first ringing, of live events
    recording_file: str = ""
    source: str = ""  # watch or cdr
    bridged_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # of CEL: when the two could talk
    ended_by: str = ""  # of CEL, who hung up: caller or called; "" where neither did or nobody says
    transferred_to: str = ""  # of CEL: the extension or channel the call was passed on to
    onward_trunk: str = ""  # through which it went out again, having come in through `trunk`
    outbound_number: str = ""  # of a call out the number it shows


class ListeningSpan(Table, table=True):
    """A time in which the PBX was listened to without a break; between two spans is a gap."""

    __tablename__ = "listening_spans"
    __table_args__ = (Index("ix_listening_spans", "connection_id", "started_at"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    started_at: datetime = Field(sa_type=UtcSeconds)
    listened_until: datetime = Field(sa_type=UtcSeconds)  # everything up to here is stored
    end_reason: str = ""  # a sentence for the user; "" while the span goes on


class ImportCursorRow(Table, table=True):
    """How far a source of history was read."""

    __tablename__ = "import_cursors"
    __table_args__ = (UniqueConstraint("connection_id", "kind", "source"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    kind: str  # queue_log or cdr
    source: str  # a file's fingerprint, or a database's address without its password
    label: str = ""  # for people
    position: int = Field(default=0, sa_type=BigInteger)  # bytes of a file, seconds of a database
    rows: int = Field(default=0, sa_type=BigCount)
    bad_rows: int = Field(default=0, sa_type=BigCount)
    errors: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))  # the first: [line, why]
    read_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)


class CounterReset(Table, table=True):
    """From this moment on the PBX's own counters count anew: see pbx.store.counter_resets."""

    __tablename__ = "counter_resets"
    __table_args__ = (Index("ix_counter_resets", "connection_id", "happened_at"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    happened_at: datetime = Field(sa_type=UtcSeconds)
    queue: str = ""  # "" for all
    description: str  # a sentence for the user


class AlertRule(Table, table=True):
    """What the analyst wants to be told of."""

    __tablename__ = "alert_rules"

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    kind: str  # longest_wait, service_level, trunk_down, no_agent or sync_failing
    subject: str = ""  # a queue or trunk; "" for any
    threshold: float = 0.0  # seconds, percent, minutes or syncs, by kind
    enabled: bool = True
    targets_encrypted: str = ""  # where to: addresses hold tokens and passwords


class Alert(Table, table=True):
    """A rule that held from `started_at` to `ended_at`."""

    __tablename__ = "alerts"
    __table_args__ = (Index("ix_alerts_rule", "rule_id", "started_at"),)

    id: int | None = Field(default=None, primary_key=True)
    rule_id: int = Field(foreign_key="alert_rules.id")
    subject: str = ""
    started_at: datetime = Field(sa_type=UtcSeconds)
    ended_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    description: str = ""  # what the rule found, as a sentence for the user
    cleared_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # seen not to hold, to be confirmed
    start_sent: bool = False
    end_sent: bool = False
    pending_targets: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))  # ids
    attempts: int = 0  # to send what is told now
    retry_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # no other worker sends before then
    send_error: str = ""  # why the last attempt to send failed


class TrunkCapacity(Table, table=True):
    """How many lines a trunk has, as the analyst says."""

    __tablename__ = "trunk_capacities"

    connection_id: int = Field(primary_key=True, foreign_key="connections.id")
    trunk: str = Field(primary_key=True)
    channels: int = Field(sa_type=BigCount)


class DayPack(Table, table=True):
    """A UTC day of history packed for the figures: see pbx.analytics.packs. A copy, dropped when its day changes."""

    __tablename__ = "day_packs"

    connection_id: int = Field(primary_key=True, foreign_key="connections.id")
    kind: str = Field(primary_key=True)
    day: int = Field(primary_key=True)  # since 1970
    rows: int = Field(sa_type=BigCount)
    names: str  # JSON
    types: str  # of the columns, as numpy calls them, separated by spaces
    data: bytes
