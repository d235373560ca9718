"""Tables of rows that the documented views read: DuckDB reads a table's rows only when a statement needs them."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import Select, and_, case, func, select
from sqlmodel import Session

from pbx.analytics.coverage import call_coverage, queue_coverage
from pbx.analytics.datasets import epoch_seconds
from pbx.analytics.rows_to_columns import ARROW_TYPES
from pbx.store.models import Table
from pbx.store.snapshots import snapshot_gaps

RowValues = Sequence[Any]
# The names of topics that the segments of a transcript mention; each segment is (start, end, speaker, text, flags).
TopicsOfSegments = Callable[[Sequence[RowValues], Mapping[str, Sequence[str]]], Sequence[str]]
_CHUNK = 10_000  # rows that are in memory as Python objects at a time
_TABLES = Table.metadata.tables
_P, _C, _L, _R, _T, _S, _A, _SUBJECTS = (
    _TABLES[name].c
    for name in ("connections", "calls", "call_legs", "recordings", "transcripts", "segments", "analyses", "subjects")
)
_NOTES, _TAGS, _ALERTS, _RULES, _TOPICS, _SNAPSHOTS = (
    _TABLES[name].c for name in ("call_notes", "call_tags", "alerts", "alert_rules", "topics", "snapshots")
)
_QS, _ES = (_TABLES[name].c for name in ("queue_samples", "extension_samples"))
_NOT_DOUBT = ("", "music", "ringing")  # flags of segments: nothing, or heard instead of speech


@dataclass(frozen=True)
class Reader:
    """What reading tables needs: a session, the seconds between snapshots, and how topics are found."""

    session: Session
    interval_s: int
    topics_of: TopicsOfSegments
    lock: threading.Lock  # DuckDB reads several tables at the same time


@dataclass(frozen=True)
class RowTable:
    """A table of rows: its columns, and a function that reads its rows in chunks."""

    schema: pa.Schema
    read: Callable[[Reader], Iterator[Sequence[RowValues]]]


class LazyTable:
    """A table for DuckDB's `register`. Its rows are read each time that a statement needs the table."""

    def __init__(self, table: RowTable, reader: Reader) -> None:
        self._table, self._reader = table, reader

    def __arrow_c_schema__(self) -> object:
        return self._table.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        schema = self._table.schema
        return pa.RecordBatchReader.from_batches(schema, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        schema, chunks = self._table.schema, self._table.read(self._reader)
        while True:
            with self._reader.lock:
                rows = next(chunks, None)
            if rows is None:
                return
            if rows:
                columns = zip(schema, zip(*rows, strict=True), strict=True)
                yield pa.record_batch([pa.array(values, field.type) for field, values in columns], schema)


def _table(types: str, query: Select[Any]) -> RowTable:
    """The rows of a query. `types`: the type of each of its columns."""

    def read(reader: Reader) -> Iterator[Sequence[RowValues]]:
        result = reader.session.connection().execute(query, execution_options={"yield_per": _CHUNK})
        return result.partitions()

    return RowTable(_schema([str(column.key) for column in query.selected_columns], types), read)


def _schema(names: Sequence[str], types: str) -> pa.Schema:
    kinds = {"t": "text", "i": "integer", "n": "number", "f": "flag"}
    found = (pa.list_(pa.string()) if kind == "l" else ARROW_TYPES[kinds[kind]] for kind in types)
    return pa.schema(list(zip(names, found, strict=True)))


def _legs() -> RowTable:
    agent = case((_C.direction == "outbound", "caller"), else_="called")
    query = select(
        *(_P.host.label("pbx"), _L.id.label("leg_id"), _L.call_id, epoch_seconds(_L.started_at).label("started_s")),
        *(epoch_seconds(_L.ended_at).label("ended_s"), epoch_seconds(_L.answered_at).label("answered_s")),
        *(_L.channel, _L.dst.label("dialled"), _L.dst_channel.label("destination"), _L.src.label("from_number")),
        *(_L.trunk, _L.disposition, _L.duration_s, _L.billsec_s, _L.cause),
        case((_L.ended_by == agent, "agent"), else_=_L.ended_by).label("hung_up_by"),
        _L.transferred_to,
    )
    query = query.join_from(_L.id.table, _C.id.table, _C.id == _L.call_id).join(_P.id.table, _P.id == _L.connection_id)
    return _table("tiiiiitttttt" + "nni" + "tt", query)


def _calls_of_channels() -> RowTable:
    """The call of each channel whose uniqueid isn't the call's linkedid."""
    query = select(_P.host.label("pbx"), _L.uniqueid, func.min(_L.call_id).label("call_id"))
    query = query.join_from(_L.id.table, _P.id.table, _P.id == _L.connection_id).where(_L.uniqueid != _L.linkedid)
    return _table("tti", query.group_by(_P.host, _L.uniqueid))


def _queue_samples() -> RowTable:
    names = ("longest_wait_s", "agents_available", "agents", "agents_paused", "completed", "abandoned")
    counts = [_QS[name] for name in (*names, "hold_time_s", "talk_time_s")]
    taken_s = epoch_seconds(_QS.taken_at).label("taken_s")
    query = select(_P.host.label("pbx"), taken_s, _SUBJECTS.name.label("queue"), _QS.calls.label("calls_waiting"))
    query = query.add_columns(*counts).join_from(_QS.subject_id.table, _SUBJECTS.id.table)
    return _table("tit" + "i" * 9, query.join(_P.id.table, _P.id == _SUBJECTS.connection_id))


def _extension_samples() -> RowTable:
    taken_s, name = epoch_seconds(_ES.taken_at).label("taken_s"), _SUBJECTS.name.label("extension")
    query = select(_P.host.label("pbx"), taken_s, name, _SUBJECTS.tech.label("technology"), _ES.status)
    query = query.join_from(_ES.subject_id.table, _SUBJECTS.id.table)
    return _table("tittt", query.join(_P.id.table, _P.id == _SUBJECTS.connection_id))


def _recordings() -> RowTable:
    query = select(
        *(_P.host.label("pbx"), _R.id.label("recording_id"), _R.call_id, _R.name, _R.state),
        *(epoch_seconds(_R.started_at).label("started_s"), _R.duration_s, _R.size_bytes, _R.reason),
    )
    return _table("tiittinit", query.join_from(_R.id.table, _P.id.table, _P.id == _R.connection_id))


def _transcripts() -> RowTable:
    query = select(
        *(_P.host.label("pbx"), _T.id.label("transcript_id"), _T.recording_id, _R.call_id, _T.engine, _T.model),
        *(_T.language, epoch_seconds(_T.created_at).label("created_s"), _T.speech_s, _T.channels),
    )
    return _table("tiiitttini", _of_current(query.select_from(_T.id.table)))


def _of_current(query: Select[Any]) -> Select[Any]:
    """A query of current transcripts, with their recordings and PBXs."""
    query = query.join(_R.id.table, _R.id == _T.recording_id).join(_P.id.table, _P.id == _R.connection_id)
    return query.where(_T.current.is_(True))


def _segments() -> RowTable:
    query: Select[Any] = select(
        *(_P.host.label("pbx"), _S.id.label("segment_id"), _S.transcript_id, _R.call_id, _S.start_s, _S.end_s),
        *(_S.speaker, _S.text, _S.confidence, _S.flags, _S.edited_at.is_not(None).label("edited")),
        epoch_seconds(_R.started_at).label("recorded_s"),
    ).join_from(_S.id.table, _T.id.table, _T.id == _S.transcript_id)
    query = _of_current(query)
    rows = _table("tiiinnttntfi", query)

    def read(reader: Reader) -> Iterator[Sequence[RowValues]]:
        at = rows.schema.get_field_index("edited")
        for chunk in rows.read(reader):
            yield [(*row[:at], bool(row[at]), *row[at + 1 :]) for row in chunk]

    return RowTable(rows.schema, read)


def _segment_counts() -> RowTable:
    doubtful = func.sum(case((_S.flags.not_in(_NOT_DOUBT), 1), else_=0)).label("doubtful_segments")
    words = func.sum(func.json_array_length(_S.words)).label("words")
    query = select(_S.transcript_id, words, doubtful).join_from(_S.id.table, _T.id.table, _T.id == _S.transcript_id)
    return _table("iii", query.where(_T.current.is_(True)).group_by(_S.transcript_id))


_MEASURES = ("talk_share_agent", "longest_silence_s", "interruptions", "first_response_s")
_TEXTS = ("summary", "reason", "outcome", "sentiment")


def _analyses() -> RowTable:
    query = select(_P.host.label("pbx"), _R.call_id, _T.id.label("transcript_id"), _T.speech_s, _A.document)
    query = _of_current(query.join_from(_A.transcript_id.table, _T.id.table, _T.id == _A.transcript_id))

    def read(reader: Reader) -> Iterator[Sequence[RowValues]]:
        result = reader.session.connection().execute(query, execution_options={"yield_per": _CHUNK})
        for chunk in result.partitions():
            yield [(*row[:4], *_measures_of(row[4])) for row in chunk]

    return RowTable(
        _schema(["pbx", "call_id", "transcript_id", "speech_s", *_MEASURES, *_TEXTS], "tiinnnin" + "tttt"), read
    )


def _measures_of(document: Mapping[str, Any]) -> RowValues:
    """The columns of an analysis. See pbx.transcription.analysis.findings for the document."""
    talk_s, silence = document.get("talk_s") or {}, document.get("longest_silence")
    has_speakers = bool(talk_s) and not talk_s.get("")
    interruptions = document.get("interruptions") if has_speakers else None
    measures = (document.get("talk_ratio"), silence[1] if silence else None, interruptions)
    return (*measures, document.get("first_response_s"), *(document.get(name) or "" for name in _TEXTS))


def _topics_of_transcripts() -> RowTable:
    segments = select(_S.transcript_id, _S.start_s, _S.end_s, _S.speaker, _S.text, _S.flags)
    segments = segments.join_from(_S.id.table, _T.id.table, _T.id == _S.transcript_id).where(_T.current.is_(True))
    segments = segments.order_by(_S.transcript_id, _S.start_s, _S.id)

    def read(reader: Reader) -> Iterator[Sequence[RowValues]]:
        connection = reader.session.connection()
        found = connection.execute(select(_TOPICS.name, _TOPICS.phrases))
        phrases: dict[str, list[str]] = {row.name: row.phrases for row in found}
        transcript, rows = -1, list[RowValues]()
        for row in connection.execute(segments, execution_options={"yield_per": _CHUNK}) if phrases else ():
            if row[0] != transcript and rows:
                yield [(transcript, sorted(reader.topics_of(rows, phrases)))]
                rows = []
            transcript = row[0]
            rows.append(row[1:])
        if rows:
            yield [(transcript, sorted(reader.topics_of(rows, phrases)))]

    return RowTable(_schema(["transcript_id", "topics"], "il"), read)


def _of_calls(types: str, *columns: Any) -> RowTable:
    query = select(_P.host.label("pbx"), *columns).select_from(columns[0].table)
    query = query.join(_C.id.table, _C.id == columns[0]).join(_P.id.table, _P.id == _C.connection_id)
    return _table(types, query)


def _alerts() -> RowTable:
    query = select(
        *(_P.host.label("pbx"), _ALERTS.id.label("alert_id"), _RULES.kind.label("rule"), _ALERTS.subject),
        *(epoch_seconds(_ALERTS.started_at).label("started_s"), epoch_seconds(_ALERTS.ended_at).label("ended_s")),
        _ALERTS.description.label("what"),
    ).join_from(_ALERTS.id.table, _RULES.id.table, _RULES.id == _ALERTS.rule_id)
    return _table("tittiit", query.join(_P.id.table, _P.id == _RULES.connection_id))


def _unobserved(reader: Reader) -> Iterator[Sequence[RowValues]]:
    session, now = reader.session, datetime.now(UTC)
    for host, connection_id in session.connection().execute(select(_P.host, _P.id)).all():
        begins = [one(session, connection_id, now, now).begins_at for one in (queue_coverage, call_coverage)]
        first = select(func.min(_SNAPSHOTS.taken_at)).where(_SNAPSHOTS.connection_id == connection_id)
        sampled_at = session.connection().scalar(first)
        queues = queue_coverage(session, connection_id, begins[0], now).gaps if begins[0] else ()
        calls = call_coverage(session, connection_id, begins[1], now).gaps if begins[1] else ()
        samples = snapshot_gaps(session, connection_id, sampled_at, now, reader.interval_s) if sampled_at else ()
        for what, gaps in (("queues", queues), ("calls", calls), ("snapshots", samples)):
            yield [(host, int(start.timestamp()), int(end.timestamp()), what) for start, end in gaps]


ROW_TABLES: dict[str, RowTable] = {
    "pbx_call_legs": _legs(),
    "pbx_calls_of_channels": _calls_of_channels(),
    "pbx_queue_samples": _queue_samples(),
    "pbx_extension_samples": _extension_samples(),
    "pbx_recordings": _recordings(),
    "pbx_transcripts": _transcripts(),
    "pbx_segments": _segments(),
    "pbx_segment_counts": _segment_counts(),
    "pbx_analyses": _analyses(),
    "pbx_topics": _topics_of_transcripts(),
    "pbx_call_tags": _of_calls("tit", _TAGS.call_id, _TAGS.tag),
    "pbx_call_notes": _of_calls(
        "titii", _NOTES.call_id, _NOTES.note, _NOTES.rating, epoch_seconds(_NOTES.updated_at).label("updated_s")
    ),
    "pbx_alerts": _alerts(),
    "pbx_unobserved": RowTable(_schema(["pbx", "started_s", "ended_s", "what"], "tiit"), _unobserved),
}


def open_calls(session: Session, connection_id: int, since_s: int) -> list[int]:
    """The ids of a PBX's calls with a leg that is still in progress, and that began after a moment."""
    going_on = and_(_L.disposition == "", _L.ended_at.is_(None), _L.duration_s.is_(None))
    began = epoch_seconds(_L.started_at) >= since_s
    query = select(_L.call_id).where(_L.connection_id == connection_id, began, going_on).distinct()
    return list(session.connection().scalars(query))
