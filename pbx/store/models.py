"""All tables of the cache. Times are UTC, stored as integer epoch seconds so that SQL can group and compare them.

The tables have a registry of their own: Streamlit's hot reload imports this module again, and a shared registry
would reject the second definition.
"""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, Column, Index, UniqueConstraint, text
from sqlmodel import Field

from pbx.model.call import Call
from pbx.model.history import AgentEvent, Leg, Ring, Visit
from pbx.model.recording import Recording
from pbx.model.segment import Segment
from pbx.store.table import BigCount, columns_of
from pbx.store.table import Table as Table
from pbx.store.table import UtcSeconds as UtcSeconds
from pbx.store.table import now as now

JobKind = Literal["sync", "collect", "make_playable", "import"]
JOB_NAMES: dict[str, str] = {  # in sentences
    "sync": "sync",
    "collect": "snapshot",
    "make_playable": "audio preparation",
    "import": "import",
}
JobState = Literal["queued", "running", "done", "failed"]
SubjectKind = Literal["queue", "member", "trunk", "extension"]
# Conditions of partial indexes. A query must repeat a condition exactly for the database to use the index.
IS_FALLBACK = "fallback_reason <> ''"  # analyses
IS_TRANSCRIBING = "state = 'transcribing'"  # transcriptions


# Columns derived from the classes of pbx.model, except those that are stored differently.
_CallColumns: Any = columns_of(Call, "started_at")
_RecordingColumns: Any = columns_of(Recording)
_SegmentColumns: Any = columns_of(Segment, "channel", "words", "flags")
_VisitColumns: Any = columns_of(Visit)
_RingColumns: Any = columns_of(Ring)
_AgentEventColumns: Any = columns_of(AgentEvent)
_LegColumns: Any = columns_of(Leg, "from_name")  # a name is stored once, with its call


class PbxConnection(Table, table=True):
    """A PBX, identified by its host, and how to connect to it.

    `saved`: entered on the settings page; otherwise set in the environment.
    """

    __tablename__ = "connections"

    id: int | None = Field(default=None, primary_key=True)
    host: str = Field(unique=True)
    saved: bool = False
    active: bool = False
    ari_port: int = 8088
    ari_tls: bool = False
    ari_prefix: str = ""  # `prefix` in http.conf
    ari_username: str = ""
    ari_password_encrypted: str = ""
    ami_port: int = 5038
    ami_tls: bool = False
    ami_username: str = ""
    ami_password_encrypted: str = ""
    ca_file: str | None = None
    timezone: str | None = None
    utc_offset_s: int | None = None  # seconds ahead of UTC, from a recording's name and uniqueid
    import_url_encrypted: str = ""  # the database that history is imported from
    import_schedule: str = ""  # how often: hour or night; "" for manual imports only
    updated_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)


_FILTERED = ("direction", "state", "from_number", "to_number", "transcription")


class CallRow(_CallColumns, Table, table=True):  # type: ignore[misc]
    """One call: everything that shares a linkedid. Its `state` is taken from its recordings by precedence."""

    __tablename__ = "calls"
    __table_args__ = (
        UniqueConstraint("connection_id", "linkedid"),
        # For lists, newest first. The last columns let SQL filter and count from the index alone.
        Index("ix_calls_started", "connection_id", "started_at", "id", "queue", *_FILTERED),
        Index("ix_calls_queue", "connection_id", "queue", "started_at", "id", *_FILTERED),
        Index("ix_calls_agent", "connection_id", "agent"),
    )

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    source: str = "freepbx"
    linkedid: str  # the first leg's uniqueid; the recording's name if it has no uniqueid
    uniqueid: str = ""
    started_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    state: str = "listed"
    transcription: str = "new"  # taken from its recordings by precedence
    answered_in: str = ""  # those of its queues in which an agent answered


class RecordingRow(_RecordingColumns, Table, table=True):  # type: ignore[misc]
    """One recording stored on the PBX, identified by its ARI name. Kept after the PBX deletes it (`gone_at`)."""

    __tablename__ = "recordings"
    __table_args__ = (
        UniqueConstraint("connection_id", "name"),
        Index("ix_recordings_call", "call_id"),
        Index("ix_recordings_state", "connection_id", "state"),
    )

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    call_id: int = Field(foreign_key="calls.id")
    listed_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)


class Transcription(Table, table=True):
    """A row of the transcription queue. A recording that was never queued has no row."""

    __tablename__ = "transcriptions"
    __table_args__ = (
        Index("ix_transcriptions_state", "connection_id", "state", "urgent", "recorded_at"),
        Index("ix_transcriptions_ended", "connection_id", "ended_at"),
        Index(
            "ix_transcriptions_running",
            "worker",
            sqlite_where=text(IS_TRANSCRIBING),
            postgresql_where=text(IS_TRANSCRIBING),
        ),
    )

    recording_id: int = Field(primary_key=True, foreign_key="recordings.id")
    connection_id: int = Field(foreign_key="connections.id")
    state: str = "queued"
    model: str = ""  # a name or path; "" for the model in the settings
    requested_by: str = ""  # page, rule or command line
    urgent: bool = False  # requested by a user, so transcribed before recordings queued by a rule
    recorded_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # when the recording started
    requested_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)
    started_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    ended_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    worker: str = ""
    attempts: int = 0  # attempts that a worker started but didn't finish
    done_s: float = 0.0
    total_s: float | None = None
    took_s: float | None = None  # engine time; a share of it if several recordings are decoded together
    error: str = ""  # why it failed, as a sentence for the user


class TranscriptionRules(Table, table=True):
    """Which recordings of a PBX are transcribed automatically, and why transcription is blocked.

    An empty list or None sets no restriction.
    """

    __tablename__ = "transcription_rules"

    connection_id: int = Field(primary_key=True, foreign_key="connections.id")
    automatic: bool = True
    paused: bool = False  # no recording starts until it is resumed
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    queues: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    directions: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    blocked_reason: str = ""  # a sentence for the user: an error, or a model that is being loaded
    retry_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # when it is retried


class Transcript(Table, table=True):
    """One model's transcript of a recording. One of a recording's complete transcripts is current."""

    __tablename__ = "transcripts"
    __table_args__ = (Index("ix_transcripts_recording", "recording_id", "current"),)

    id: int | None = Field(default=None, primary_key=True)
    recording_id: int = Field(foreign_key="recordings.id")
    engine: str
    model: str
    language: str = ""
    audio_sha256: str = ""
    complete: bool = False
    current: bool = False
    channels: int = 1
    duration_s: float | None = None
    speech_s: float = 0.0
    done_s: float = 0.0
    created_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)


class SegmentRow(_SegmentColumns, Table, table=True):  # type: ignore[misc]
    """A segment of a transcript. The search index contains the segments of current transcripts that have text."""

    __tablename__ = "segments"
    __table_args__ = (Index("ix_segments_transcript", "transcript_id", "start_s"),)

    id: int | None = Field(default=None, primary_key=True)
    transcript_id: int = Field(foreign_key="transcripts.id")
    channel: int = 0
    speaker: str = ""  # caller, agent, or "" if unknown
    original_text: str | None = None  # the model's text; None unless the segment was edited
    flags: str = ""  # separated by spaces
    words: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))  # [start_s, end_s, text, p]
    edited_at: datetime | None = Field(default=None, sa_type=UtcSeconds)


class AnalysisRow(Table, table=True):
    """The analysis of a current transcript: `Analysis` from pbx.transcription.analysis.run as JSON."""

    __tablename__ = "analyses"
    __table_args__ = (  # finds the few summaries to request again
        Index("ix_analyses_fallback", "created_at", sqlite_where=text(IS_FALLBACK), postgresql_where=text(IS_FALLBACK)),
    )

    transcript_id: int = Field(primary_key=True, foreign_key="transcripts.id")
    engine: str  # "local", or the language server's model
    fallback_reason: str = ""  # why the local engine was used instead of the server
    attempts: int = 0  # requests to the server
    created_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)
    document: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class CallNote(Table, table=True):
    """The analyst's note and rating of a call."""

    __tablename__ = "call_notes"

    call_id: int = Field(primary_key=True, foreign_key="calls.id")
    note: str = ""
    rating: int | None = None  # 1 to 5
    updated_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)


class CallTag(Table, table=True):
    """A tag that the analyst put on a call."""

    __tablename__ = "call_tags"
    __table_args__ = (Index("ix_call_tags_tag", "tag"),)

    call_id: int = Field(primary_key=True, foreign_key="calls.id")
    tag: str = Field(primary_key=True)


class Topic(Table, table=True):
    """A topic that the analyst defined: a name, and the phrases that indicate it."""

    __tablename__ = "topics"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    phrases: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))


class SnapshotRow(Table, table=True):
    """The totals of a snapshot of the PBX. Gaps between rows are times without data.

    `incomplete_parts`: {part: {state, reason}} for parts that the PBX did not report in full.
    """

    __tablename__ = "snapshots"
    __table_args__ = (UniqueConstraint("connection_id", "taken_at"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    taken_at: datetime = Field(sa_type=UtcSeconds)
    took_ms: int = Field(default=0, sa_type=BigCount)
    active_calls: int = Field(default=0, sa_type=BigCount)
    channels: int = Field(default=0, sa_type=BigCount)
    incomplete_parts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class LatestSnapshot(Table, table=True):
    """The newest snapshot of a PBX in full, as `Snapshot` JSON. The live pages show it."""

    __tablename__ = "latest_snapshots"

    connection_id: int = Field(primary_key=True, foreign_key="connections.id")
    taken_at: datetime = Field(sa_type=UtcSeconds)
    document: str


class SampledSubject(Table, table=True):
    """A queue, queue member, trunk or extension that has stored samples."""

    __tablename__ = "subjects"
    __table_args__ = (UniqueConstraint("connection_id", "kind", "parent", "tech", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    kind: str
    name: str  # queue, trunk or extension name; a member's interface
    tech: str = ""
    parent: str = ""  # a member's queue
    label: str = ""  # a member's name


class QueueSample(Table, table=True):
    """A queue in one snapshot. The counters are Asterisk's own and restart when it reloads."""

    __tablename__ = "queue_samples"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject_id: int = Field(primary_key=True, foreign_key="subjects.id")
    taken_at: datetime = Field(primary_key=True, sa_type=UtcSeconds)
    calls: int = Field(sa_type=BigCount)
    longest_wait_s: int = Field(sa_type=BigCount)
    agents_available: int = Field(sa_type=BigCount)
    agents: int = Field(sa_type=BigCount)
    agents_paused: int = Field(sa_type=BigCount)
    completed: int = Field(sa_type=BigCount)
    abandoned: int = Field(sa_type=BigCount)
    hold_time_s: int = Field(sa_type=BigCount)
    talk_time_s: int = Field(sa_type=BigCount)


class TrunkSample(Table, table=True):
    """A trunk in one snapshot."""

    __tablename__ = "trunk_samples"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject_id: int = Field(primary_key=True, foreign_key="subjects.id")
    taken_at: datetime = Field(primary_key=True, sa_type=UtcSeconds)
    state: str
    roundtrip_ms: float | None = None
    channels: int = Field(default=0, sa_type=BigCount)


class MemberSample(Table, table=True):
    """A queue member's state, stored when it changes. It applies until the next row."""

    __tablename__ = "member_samples"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject_id: int = Field(primary_key=True, foreign_key="subjects.id")
    taken_at: datetime = Field(primary_key=True, sa_type=UtcSeconds)
    status: int | None = Field(default=None, sa_type=BigCount)  # None: left the queue
    paused: bool = False
    pause_reason: str = ""
    in_call: bool = False


class ExtensionSample(Table, table=True):
    """An extension's state, stored when it changes. It applies until the next row."""

    __tablename__ = "extension_samples"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject_id: int = Field(primary_key=True, foreign_key="subjects.id")
    taken_at: datetime = Field(primary_key=True, sa_type=UtcSeconds)
    status: str  # "": removed from the PBX


class Job(Table, table=True):
    """A job requested by a page, the command line or the schedule, with its progress and result."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_kind", "kind", "requested_at"),)

    id: str = Field(primary_key=True)  # a scheduled job's id contains its interval, so it is added only once
    kind: str
    connection_id: int | None = Field(default=None, foreign_key="connections.id")
    options: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: str = "queued"
    attempts: int = 0  # more than one if a worker died while running it
    requested_by: str = ""  # page, schedule or command line
    requested_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)
    started_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    ended_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    worker: str = ""
    done: int = Field(default=0, sa_type=BigCount)
    total: int | None = Field(default=None, sa_type=BigCount)
    result: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    error: str = ""  # for the user, including what to do next


class VisitRow(_VisitColumns, Table, table=True):  # type: ignore[misc]
    """One visit of a caller to a queue, from queue_log or from live events."""

    __tablename__ = "queue_visits"
    __table_args__ = (
        # The figures for a period are read from the index alone.
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
    source: str = ""  # live or queue_log


class RingRow(_RingColumns, Table, table=True):  # type: ignore[misc]
    """An agent's phone rang and nobody answered: RINGNOANSWER in queue_log."""

    __tablename__ = "agent_rings"
    __table_args__ = (UniqueConstraint("connection_id", "rung_at", "agent", "queue", "uniqueid"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")


class AgentEventRow(_AgentEventColumns, Table, table=True):  # type: ignore[misc]
    """An agent logged in, logged out, paused or unpaused; `queue` "" means all of the agent's queues."""

    __tablename__ = "agent_events"
    __table_args__ = (UniqueConstraint("connection_id", "happened_at", "agent", "queue", "kind"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")


class LegRow(_LegColumns, Table, table=True):  # type: ignore[misc]
    """One leg of a call: a CDR row, or a dial attempt seen live. Legs that share a linkedid are one call."""

    __tablename__ = "call_legs"
    __table_args__ = (
        UniqueConstraint("connection_id", "linkedid", "channel", "dst_channel"),
        Index("ix_call_legs_call", "call_id"),
        Index("ix_call_legs_uniqueid", "connection_id", "uniqueid"),  # to find the call of a recording
        Index("ix_call_legs_trunk", "connection_id", "started_at", "trunk", "disposition", "billsec_s", "duration_s"),
    )

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    call_id: int = Field(foreign_key="calls.id")
    source: str = ""  # live or cdr


class ListeningSpan(Table, table=True):
    """A time during which the app listened to the PBX without a break. The time between two spans is a gap."""

    __tablename__ = "listening_spans"
    __table_args__ = (Index("ix_listening_spans", "connection_id", "started_at"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    started_at: datetime = Field(sa_type=UtcSeconds)
    listened_until: datetime = Field(sa_type=UtcSeconds)  # everything up to here is stored
    end_reason: str = ""  # a sentence for the user; "" while the span continues


class ImportCursorRow(Table, table=True):
    """How far a source of history has been imported."""

    __tablename__ = "import_cursors"
    __table_args__ = (UniqueConstraint("connection_id", "kind", "source"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    kind: str  # queue_log or cdr
    source: str  # a file's fingerprint, or a database's address without its password
    label: str = ""  # shown to the user
    position: int = Field(default=0, sa_type=BigInteger)  # bytes of a file, or seconds since 1970 of a database
    rows: int = Field(default=0, sa_type=BigCount)
    unreadable: int = Field(default=0, sa_type=BigCount)
    errors: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))  # first few: [line, why]
    read_at: datetime = Field(default_factory=now, sa_type=UtcSeconds)


class CounterReset(Table, table=True):
    """A time at which the PBX's own counters restarted from zero: see pbx.store.counter_resets."""

    __tablename__ = "counter_resets"
    __table_args__ = (Index("ix_counter_resets", "connection_id", "happened_at"),)

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    happened_at: datetime = Field(sa_type=UtcSeconds)
    queue: str = ""  # "" for all queues
    description: str  # a sentence for the user


class AlertRule(Table, table=True):
    """A condition that triggers alerts."""

    __tablename__ = "alert_rules"

    id: int | None = Field(default=None, primary_key=True)
    connection_id: int = Field(foreign_key="connections.id")
    kind: str  # longest_wait, service_level, trunk_down, no_agent or sync_failing
    subject: str = ""  # a queue or trunk; "" for any
    threshold: float = 0.0  # seconds, percent, minutes or syncs, by kind
    enabled: bool = True
    targets_encrypted: str = ""  # encrypted because addresses contain tokens and passwords


class Alert(Table, table=True):
    """A period during which the condition of a rule was met, from `started_at` to `ended_at`."""

    __tablename__ = "alerts"
    __table_args__ = (Index("ix_alerts_rule", "rule_id", "started_at"),)

    id: int | None = Field(default=None, primary_key=True)
    rule_id: int = Field(foreign_key="alert_rules.id")
    subject: str = ""
    started_at: datetime = Field(sa_type=UtcSeconds)
    ended_at: datetime | None = Field(default=None, sa_type=UtcSeconds)
    description: str = ""  # what the rule found, as a sentence for the user
    cleared_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # first seen not met; to be confirmed
    start_sent: bool = False
    end_sent: bool = False
    pending_targets: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))  # ids
    attempts: int = 0  # attempts to send the current message
    retry_at: datetime | None = Field(default=None, sa_type=UtcSeconds)  # no other worker sends before then
    send_error: str = ""  # why the last attempt to send failed


class TrunkCapacity(Table, table=True):
    """How many concurrent calls a trunk can carry, as entered by the analyst."""

    __tablename__ = "trunk_capacities"

    connection_id: int = Field(primary_key=True, foreign_key="connections.id")
    trunk: str = Field(primary_key=True)
    channels: int = Field(sa_type=BigCount)


class SealedDay(Table, table=True):
    """A UTC day of a dataset whose rows a Parquet file contains; deleted when one of its rows changes.

    See pbx.analytics.sealing.
    """

    __tablename__ = "sealed_days"

    connection_id: int = Field(primary_key=True, foreign_key="connections.id")
    dataset: str = Field(primary_key=True)
    day: int = Field(primary_key=True)  # days since 1970-01-01
    file: str  # its name; while the day is being copied, a token of the process that does it
    size_bytes: int = Field(default=0, sa_type=BigCount)  # 0 while the day is being copied
