"""Creates the documented views in DuckDB: all PBXs of the database, for SQL of the analyst's own.

pbx.analytics.view_descriptions describes them. Nothing that is secret is in them: no passwords, tokens or settings.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

import duckdb
import pyarrow as pa
from sqlalchemy import select
from sqlmodel import Session

from pbx.analytics.datasets import DATASETS, DatasetName
from pbx.analytics.engine import local_s, rows_of, text_literal
from pbx.analytics.formulas.queues import Targets
from pbx.analytics.queues import queue_targets
from pbx.analytics.rows_to_columns import DAY_S, NEVER, first_day
from pbx.analytics.view_descriptions import SQL_TYPES, VIEWS, View
from pbx.analytics.view_tables import ROW_TABLES, LazyTable, Reader, TopicsOfSegments, open_calls
from pbx.formatting import zone_of
from pbx.store.agent_names import extension_names
from pbx.store.listening_spans import MAX_OPEN_DAYS
from pbx.store.models import PbxConnection, Table
from pbx.store.snapshots import GAP_INTERVALS

_P = Table.metadata.tables[str(PbxConnection.__tablename__)].c
_OUTCOME = "CASE {disposition} WHEN '' THEN CASE WHEN {open} THEN 'in_progress' ELSE 'unknown' END "
_OUTCOME += "ELSE lower(replace({disposition}, ' ', '_')) END"


@dataclass(frozen=True)
class ViewSource:
    """What the views are made from.

    `own_host` and `own_timezone`: the PBX of the environment, whose time zone isn't in the database. `interval_s`: how
    often the PBX is sampled. `topics_of` finds topics in the segments of a transcript.
    """

    session: Session
    topics_of: TopicsOfSegments
    own_host: str = ""
    own_timezone: str | None = None
    interval_s: int = 300


@dataclass(frozen=True)
class _Pbx:
    id: int
    name: str
    zone: tzinfo


def create_views(connection: duckdb.DuckDBPyConnection, source: ViewSource, names: Iterable[str]) -> None:
    """Create some of the views in a DuckDB connection, which reads rows through the source's session."""
    source.session.info["duckdb"] = connection  # for `rows_of`
    maker = _ViewMaker(connection, source)
    for name in names:
        view = VIEWS[name]
        columns = ", ".join(_typed(column.name, SQL_TYPES[column.type]) for column in view.columns)
        connection.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {maker.rows(view)}")


def _typed(name: str, sql_type: str) -> str:
    value = f'CAST("{name}" AS {sql_type})'
    return f"coalesce({value}, '') AS \"{name}\"" if sql_type == "VARCHAR" else f'{value} AS "{name}"'


@dataclass
class _ViewMaker:
    """Writes the SQL of views, and registers the tables that they read."""

    connection: duckdb.DuckDBPyConnection
    source: ViewSource
    registered: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        query = select(_P.id, _P.host, _P.timezone, _P.utc_offset_s, _P.active).order_by(_P.id)
        self.pbxs = [
            _Pbx(id_, host, zone_of(self._timezone(host, zone, active), offset))
            for id_, host, zone, offset, active in self.source.session.connection().execute(query)
        ]

    def _timezone(self, host: str, saved: str | None, active: bool) -> str | None:
        own = not active and host == self.source.own_host.strip().lower()
        return self.source.own_timezone if own else saved

    def rows(self, view: View) -> str:
        """SQL of the view's rows, of all PBXs."""
        if view.name in _OF_TABLES:
            return f"({_OF_TABLES[view.name](self)})"
        parts = [
            f"SELECT {text_literal(pbx.name)} AS pbx, * FROM ({_OF_PBX[view.name](self, pbx)})" for pbx in self.pbxs
        ]
        nothing = ", ".join(f'NULL::{SQL_TYPES[column.type]} AS "{column.name}"' for column in view.columns)
        return f"({' UNION ALL '.join(parts) or f'SELECT {nothing} LIMIT 0'})"

    def table(self, name: str) -> str:
        """The name of a table of rows, after registering it."""
        if name not in self.registered:
            source = self.source
            reader = Reader(source.session, source.interval_s, source.topics_of, self.lock)
            self.connection.register(name, LazyTable(ROW_TABLES[name], reader))
            self.registered.add(name)
        return name

    def names(self, name: str, found: dict[str, str]) -> str:
        """SQL of a table of (name, value), unique by name, so that DuckDB drops a join that nothing needs."""
        if name not in self.registered:
            types = pa.schema([("name", pa.string()), ("value", pa.string())])
            self.connection.register(name, pa.table([list(found), list(found.values())], types))
            self.registered.add(name)
        return f"(SELECT name, any_value(value) AS value FROM {name} GROUP BY name)"

    def dataset(self, name: DatasetName, pbx: _Pbx) -> str:
        """SQL of all rows of a dataset, with all columns."""
        return rows_of(self.source.session, name, pbx.id, DATASETS[name].types)

    def local(self, at_s: str, pbx: _Pbx) -> str:
        """SQL of a moment on the clocks of the PBX."""
        days = [first_day(self.source.session, dataset, pbx.id) for dataset in DATASETS.values()]
        first = min((day for day in days if day != NEVER), default=0)
        now = datetime.now(UTC)
        since = datetime.fromtimestamp(first * DAY_S, UTC) if first else now
        return _utc(local_s(at_s, pbx.zone, since, max(now, since) + timedelta(days=2)))


def _utc(at_s: str) -> str:
    """SQL of a moment in seconds since 1970 as a TIMESTAMP."""
    return f"make_timestamp(CAST({at_s} AS BIGINT) * 1000000)"


def _recent_s() -> int:
    """The moment before which no call is in progress."""
    return int(datetime.now(UTC).timestamp()) - MAX_OPEN_DAYS * DAY_S


def _calls(maker: _ViewMaker, pbx: _Pbx) -> str:
    going_on = ", ".join(map(str, open_calls(maker.source.session, pbx.id, _recent_s()))) or "NULL"
    outcome = _OUTCOME.format(disposition="disposition", open=f"call_id IN ({going_on})")
    extensions = maker.names(f"pbx_extensions_{pbx.id}", extension_names(maker.source.session, pbx.id))
    return f"""
SELECT calls.* REPLACE (coalesce(extensions.value, agent) AS agent), agent AS agent_extension,
    {_utc("at_s")} AS started_at, {maker.local("at_s", pbx)} AS started_local,
    {outcome} AS outcome, disposition = 'ANSWERED' AS answered,
    CASE WHEN recorded THEN transcription ELSE '' END AS transcript_state
FROM {maker.dataset("calls", pbx)} AS calls LEFT JOIN {extensions} AS extensions ON extensions.name = agent"""


def _queue_visits(maker: _ViewMaker, pbx: _Pbx) -> str:
    targets = queue_targets(maker.source.session, pbx.id)
    visits = maker.dataset("queue_visits", pbx)
    return f"""
SELECT visits.*, {_utc("at_s")} AS joined_at, {maker.local("at_s", pbx)} AS joined_local, caller AS caller_number,
    CASE WHEN {_GONE} THEN 'caller' WHEN ended_by IN ('caller', 'agent') THEN ended_by ELSE '' END AS hung_up_by,
    {_target_s(targets)} AS service_level_s, wait_s <= {_target_s(targets)} AS within_target,
    coalesce({_GONE} AND wait_s < {targets.short_s}, false) AS short_abandon,
    CASE WHEN outcome = 'transferred' THEN target ELSE '' END AS transferred_to,
    {_utc("back_s")} AS called_back_at, back_call_id AS called_back_call_id
FROM {visits} AS visits LEFT JOIN ({_called_back(visits, maker.dataset("calls", pbx))}) AS back USING (visit_id)"""


_GONE = "(outcome = 'abandoned' AND NOT answered)"


def _target_s(targets: Targets) -> str:
    own = "".join(f" WHEN {text_literal(queue)} THEN {float(target)}" for queue, target in targets.by_queue.items())
    return f"(CASE queue{own} ELSE {targets.answer_s} END)" if own else f"{targets.answer_s}"


def _called_back(visits: str, calls: str) -> str:
    """SQL of the next conversation with the caller of each abandoned visit, as pbx.analytics.visit_lists defines it."""
    return f"""
WITH conversations AS (
    SELECT caller_key AS number, at_s, call_id, true AS visited FROM {visits} WHERE answered AND caller_key <> 0
    UNION ALL
    SELECT conversation_key, at_s, call_id, false FROM {calls} WHERE conversation_key <> 0
), answers AS (
    SELECT number, at_s, coalesce(min(call_id) FILTER (visited), min(call_id)) AS call_id
    FROM conversations GROUP BY number, at_s
), abandoned AS (
    SELECT visit_id, caller_key AS number, at_s + CAST(trunc(coalesce(wait_s, 0)) AS BIGINT) AS ended_s
    FROM {visits} WHERE {_GONE} AND caller_key <> 0
)
SELECT visit_id, min(answers.at_s) AS back_s, min(answers.call_id) AS back_call_id
FROM abandoned ASOF JOIN answers ON abandoned.number = answers.number AND abandoned.ended_s < answers.at_s
GROUP BY visit_id"""


def _agent_rings(maker: _ViewMaker, pbx: _Pbx) -> str:
    calls, channels = maker.dataset("calls", pbx), maker.table("pbx_calls_of_channels")
    # No WHERE and one join: DuckDB then drops the join when a statement doesn't need the call.
    mine = f"CASE WHEN pbx = {text_literal(pbx.name)} THEN call_id END"
    return f"""
SELECT rings.*, coalesce(visit_call_id, named.call_id) AS call_id,
    {_utc("rang_s")} AS rang_at, {maker.local("rang_s", pbx)} AS rang_local
FROM (
    SELECT agent, queue, ring_s, false AS answered, at_s - coalesce(ring_s, 0) AS rang_s, NULL AS visit_call_id,
        uniqueid
    FROM {maker.dataset("agent_rings", pbx)}
    UNION ALL
    SELECT agent, queue, ring_s, true, at_s + coalesce(wait_s, 0) - coalesce(ring_s, 0), call_id, ''
    FROM {maker.dataset("queue_visits", pbx)} WHERE answered AND agent > ''
) AS rings LEFT JOIN (
    SELECT uniqueid, coalesce(min(call_id), min(channel_call_id)) AS call_id FROM (
        SELECT linkedid AS uniqueid, call_id, NULL AS channel_call_id FROM {calls}
        UNION ALL
        SELECT uniqueid, NULL, {mine} FROM {channels}
    ) GROUP BY uniqueid
) AS named USING (uniqueid)"""


def _agent_sessions(maker: _ViewMaker, pbx: _Pbx) -> str:
    events = f"SELECT * FROM {maker.dataset('agent_events', pbx)} WHERE kind IN ('login', 'logout')"
    return _agent_spans(maker, pbx, events, "login")


def _agent_pauses(maker: _ViewMaker, pbx: _Pbx) -> str:
    """PAUSEALL, without a queue, counts only for agents without any pause of one queue: see pbx.analytics.agents."""
    rows = maker.dataset("agent_events", pbx)
    events = f"""
SELECT * FROM {rows} WHERE kind IN ('pause', 'unpause', 'logout') AND NOT (queue = '' AND agent IN (
    SELECT agent FROM {rows} WHERE kind IN ('pause', 'unpause') AND queue > ''))"""
    return _agent_spans(maker, pbx, events, "pause")


def _agent_spans(maker: _ViewMaker, pbx: _Pbx, events: str, begins: str) -> str:
    """SQL of the spans between changes of one agent in one queue; among changes in one second, ends come first."""
    window = "(PARTITION BY agent, queue ORDER BY at_s, begins)"
    return f"""
SELECT agent, queue, reason, {_utc("at_s")} AS started_at, {maker.local("at_s", pbx)} AS started_local,
    {_utc("ended_s")} AS ended_at, ended_s - at_s AS duration_s
FROM (
    SELECT *, lead(at_s) OVER {window} AS ended_s FROM (
        SELECT *, lag(state) OVER {window} AS state_before FROM (
            SELECT agent, queue, at_s, reason, kind = '{begins}' AS begins,
                CASE WHEN kind = '{begins}' THEN 'in ' || reason ELSE '' END AS state
            FROM ({events})
        )
    ) WHERE state <> coalesce(state_before, '')
) WHERE begins"""


def _trunk_calls(maker: _ViewMaker, pbx: _Pbx) -> str:
    going_on = f"duration_s IS NULL AND at_s >= {_recent_s()}"
    return f"""
SELECT seizures.* REPLACE (CASE WHEN duration_s >= 0 THEN duration_s END AS duration_s),
    {_utc("at_s")} AS started_at, {maker.local("at_s", pbx)} AS started_local,
    CASE WHEN outbound THEN 'outbound' ELSE 'inbound' END AS direction, disposition = 'ANSWERED' AS answered,
    {_OUTCOME.format(disposition="disposition", open=going_on)} AS outcome
FROM {maker.dataset("trunk_calls", pbx)} AS seizures"""


def _trunk_samples(maker: _ViewMaker, pbx: _Pbx) -> str:
    return f"SELECT *, {_utc('at_s')} AS taken_at FROM {maker.dataset('trunk_samples', pbx)}"


def _trunk_states(maker: _ViewMaker, pbx: _Pbx) -> str:
    gap_s = maker.source.interval_s * GAP_INTERVALS
    return f"""
SELECT trunk, {_utc("min(at_s)")} AS started_at, {_utc("max(held_s)")} AS ended_at,
    max(held_s) - min(at_s) AS duration_s, any_value(state) AS state
FROM (
    SELECT *, count(*) FILTER (begins) OVER (PARTITION BY trunk ORDER BY at_s) AS run FROM (
        SELECT trunk, at_s, state,
            CASE WHEN next_s - at_s <= {gap_s} THEN next_s ELSE at_s END AS held_s,
            coalesce(state <> state_before OR at_s - before_s > {gap_s}, true) AS begins
        FROM (
            SELECT trunk, at_s, state, lead(at_s) OVER each AS next_s, lag(at_s) OVER each AS before_s,
                lag(state) OVER each AS state_before
            FROM {maker.dataset("trunk_samples", pbx)} WINDOW each AS (PARTITION BY trunk ORDER BY at_s)
        )
    )
) GROUP BY trunk, run"""


def _call_legs(maker: _ViewMaker) -> str:
    going_on = f"ended_s IS NULL AND duration_s IS NULL AND started_s >= {_recent_s()}"
    return f"""
SELECT *, row_number() OVER (PARTITION BY call_id ORDER BY started_s, leg_id) AS leg,
    {_utc("started_s")} AS started_at, {_utc("coalesce(ended_s, started_s + duration_s)")} AS ended_at,
    {_OUTCOME.format(disposition="disposition", open=going_on)} AS outcome,
    disposition = 'ANSWERED' OR answered_s IS NOT NULL AS answered,
    coalesce(answered_s - started_s, duration_s - coalesce(billsec_s, 0)) AS ring_s, billsec_s AS talk_s
FROM {maker.table("pbx_call_legs")}"""


def _recordings(maker: _ViewMaker) -> str:
    return f"""
SELECT recordings.*, {_utc("started_s")} AS started_at, transcripts.channels AS channels
FROM {maker.table("pbx_recordings")} AS recordings LEFT JOIN (
    SELECT recording_id, max(channels) AS channels FROM {maker.table("pbx_transcripts")} GROUP BY recording_id
) AS transcripts USING (recording_id)"""


def _transcripts(maker: _ViewMaker) -> str:
    return f"""
SELECT transcripts.*, {_utc("created_s")} AS created_at, coalesce(words, 0) AS words,
    coalesce(doubtful_segments, 0) AS doubtful_segments
FROM {maker.table("pbx_transcripts")} AS transcripts
LEFT JOIN {_segment_counts(maker)} AS counts USING (transcript_id)"""


def _segment_counts(maker: _ViewMaker) -> str:
    sums = "sum(words) AS words, sum(doubtful_segments) AS doubtful_segments"
    return f"(SELECT transcript_id, {sums} FROM {maker.table('pbx_segment_counts')} GROUP BY transcript_id)"


def _segments(maker: _ViewMaker) -> str:
    at = "make_timestamp(CAST((recorded_s + start_s) * 1000000 AS BIGINT))"
    return f"""
SELECT *, start_s AS started_s, end_s AS ended_s, false AS speaker_is_estimated, flags AS doubt, {at} AS "at",
    {at} AS said_at
FROM {maker.table("pbx_segments")}"""


def _conversation(maker: _ViewMaker) -> str:
    return f"""
SELECT made.*, 60 * words / nullif(speech_s, 0) AS words_per_minute, coalesce(topics, []) AS topics
FROM (
    SELECT * FROM {maker.table("pbx_analyses")}
    QUALIFY row_number() OVER (PARTITION BY call_id ORDER BY speech_s DESC, transcript_id) = 1
) AS made LEFT JOIN {_segment_counts(maker)} AS counts USING (transcript_id) LEFT JOIN (
    SELECT transcript_id, any_value(topics) AS topics FROM {maker.table("pbx_topics")} GROUP BY transcript_id
) AS mentioned USING (transcript_id)"""


def _plain(table: str, times: Sequence[tuple[str, str]] = (), more: str = "") -> Callable[[_ViewMaker], str]:
    """SQL of a table of rows with some of its seconds as times."""
    added = "".join(f", {_utc(seconds)} AS {name}" for seconds, name in times) + more
    return lambda maker: f"SELECT *{added} FROM {maker.table(table)}"


_TAKEN, _SPAN = (("taken_s", "taken_at"),), (("started_s", "started_at"), ("ended_s", "ended_at"))
_OF_PBX: dict[str, Callable[[_ViewMaker, _Pbx], str]] = {
    "calls": _calls,
    "queue_visits": _queue_visits,
    "agent_rings": _agent_rings,
    "agent_sessions": _agent_sessions,
    "agent_pauses": _agent_pauses,
    "trunk_calls": _trunk_calls,
    "trunk_states": _trunk_states,
    "trunk_samples": _trunk_samples,
}
_OF_TABLES: dict[str, Callable[[_ViewMaker], str]] = {
    "call_legs": _call_legs,
    "queue_samples": _plain("pbx_queue_samples", _TAKEN),
    "extension_samples": _plain("pbx_extension_samples", _TAKEN),
    "recordings": _recordings,
    "transcripts": _transcripts,
    "segments": _segments,
    "conversation": _conversation,
    "call_tags": _plain("pbx_call_tags"),
    "call_notes": _plain("pbx_call_notes", (("updated_s", "updated_at"),)),
    "alerts": _plain("pbx_alerts", _SPAN, ", ended_s - started_s AS duration_s"),
    "unobserved": _plain("pbx_unobserved", _SPAN),
}
