"""Searches transcripts by words, phrases and filters, and counts hits by day, queue and agent.

The full-text index returns the segments that match, and its row ids contain the id of the call. So counting reads one
row per call and none of the segments, which are large; only the hits of one page are read completely.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
    tuple_,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlmodel import Session, col

from pbx.model.call import CallDirection
from pbx.model.segment import Flag
from pbx.store.calls import CallFilter, call_conditions
from pbx.store.models import CallRow, CallTag, Table
from pbx.store.queues_of_calls import split_queues
from pbx.store.search_index import SEGMENT_BITS, SPEAKERS, column_of
from pbx.transcription.search.matching import spans_in, to_fts5, to_tsquery
from pbx.transcription.search.query import Query, parse_query

Order = Literal["relevance", "newest", "oldest"]
TrendDimension = Literal["day", "queue", "agent"]
MAX_RANKED = 200_000  # ranking takes a microsecond per segment, and nobody reads that many pages
_HITS_PER_QUERY = 500
_BUCKET_S = 900  # in every time zone, days start at a quarter of an hour of UTC
_MAX_TREND_DAYS = 3660  # a longer trend only has the days with calls
_calls = Table.metadata.tables["calls"]
_recordings = Table.metadata.tables["recordings"]
_transcripts = Table.metadata.tables["transcripts"]
_segments = Table.metadata.tables["segments"]


@dataclass(frozen=True)
class SearchFilter:
    """A search and the calls of a PBX to search in. None means no restriction; `until` is excluded.

    `query`: see `parse_query`. `number`: see CallFilter. `speaker`: "caller", "agent", or "" for unknown speakers.
    `doubtful`: whether segments with flags are searched too.
    """

    connection_id: int
    query: str
    since: datetime | None = None
    until: datetime | None = None
    direction: CallDirection | None = None
    queue: str | None = None
    agent: str | None = None
    number: str = ""
    speaker: str | None = None
    doubtful: bool = False
    tag: str | None = None


@dataclass(frozen=True)
class Hit:
    """A segment that matches, with data of its call and the text of the segments before and after it.

    `spans`: the parts of `text` that matched, each as its first character and the one after its last.
    """

    segment_id: int
    call_id: int
    recording_id: int
    start_s: float
    end_s: float
    speaker: str
    text: str
    spans: tuple[tuple[int, int], ...]
    started_at: datetime | None
    from_number: str
    to_number: str
    queue: str
    agent: str
    direction: str
    flags: tuple[Flag, ...]
    edited: bool
    before: str
    after: str


@dataclass(frozen=True)
class TrendPoint:
    """How often something was said on one day (of the requested zone), in one queue, or in one agent's calls.

    `hits`: segments that match. `calls`: calls with a hit. `calls_total`: transcribed calls that pass the filter.
    """

    label: str  # the day as 2026-03-01, or the queue's or agent's name, "" for none
    day: date | None
    hits: int
    calls: int
    calls_total: int


def find_hits(
    session: Session, search: SearchFilter, *, order: Order = "relevance", offset: int, limit: int
) -> list[Hit]:
    """Return one page of hits by relevance (BM25, or PostgreSQL's ts_rank) or by the start of the call.

    Calls without a start time come last. If more than MAX_RANKED segments match, sorting by relevance only considers
    those of the calls added last. Raises QueryError.
    """
    tree = parse_query(search.query)
    index = _SearchBackend(session, tree, search)
    started_at, row_id = _calls.c.started_at, index.row_id
    columns: list[Any] = [row_id.label("row_id")]
    if order == "relevance":
        columns += [index.relevance.label("relevance"), started_at]
    rows = (
        select(*columns)
        .select_from(index.source)
        .join(_calls, _calls.c.id == index.call_id)
        .where(index.matches, *_conditions(session, search))
    )
    if order == "relevance":
        latest = rows.order_by(row_id.desc()).limit(MAX_RANKED).subquery().c
        rows = select(latest.row_id).order_by(latest.relevance, latest.started_at.desc().nulls_last(), latest.row_id)
    elif order == "newest":
        rows = rows.order_by(started_at.desc().nulls_last(), _calls.c.id.desc(), row_id)
    else:
        rows = rows.order_by(started_at.asc().nulls_last(), _calls.c.id, row_id)
    found = list(session.connection().execute(rows.offset(offset).limit(limit)).scalars())
    pages = (found[first : first + _HITS_PER_QUERY] for first in range(0, len(found), _HITS_PER_QUERY))
    return [hit for page in pages for hit in _read_hits(session, tree, page, search.doubtful)]


def count_hits(session: Session, search: SearchFilter) -> tuple[int, int]:
    """Return how many segments match, and in how many calls. Raises QueryError."""
    hits = _hits_by_call(session, search)
    counted = select(func.coalesce(func.sum(hits.c.hits), 0), func.count()).select_from(
        hits.join(_calls, _calls.c.id == hits.c.call_id)
    )
    segments, calls = session.connection().execute(counted.where(*_conditions(session, search))).one()
    return int(segments), int(calls)


def calls_with_hits(session: Session, search: SearchFilter, *, order: Order = "relevance", limit: int) -> list[int]:
    """Return the ids of calls with hits, by time, or by relevance with most hits first. Raises QueryError."""
    hits = _hits_by_call(session, search)
    newest = _calls.c.started_at.desc().nulls_last()
    ranks: dict[Order, tuple[Any, ...]] = {
        "relevance": (hits.c.hits.desc(), newest),
        "newest": (newest, _calls.c.id.desc()),
        "oldest": (_calls.c.started_at.asc().nulls_last(),),
    }
    rows = select(_calls.c.id).select_from(hits.join(_calls, _calls.c.id == hits.c.call_id))
    rows = rows.where(*_conditions(session, search)).order_by(*ranks[order], _calls.c.id).limit(limit)
    return list(session.connection().execute(rows).scalars())


def transcribed_calls(session: Session, search: SearchFilter, *, limit: int) -> list[CallRow]:
    """Return calls with a transcript that pass the filter, newest first; its query and speaker are ignored."""
    newest = (col(CallRow.started_at).desc().nulls_last(), col(CallRow.id).desc())
    query = select(CallRow).where(*_conditions(session, search), _transcribed()).order_by(*newest)
    return list(session.execute(query.limit(limit)).scalars())


def count_transcribed(session: Session, search: SearchFilter) -> int:
    """Return how many calls have a transcript and pass the filter; its query and speaker are ignored."""
    query = select(func.count()).select_from(_calls).where(*_conditions(session, search), _transcribed())
    return session.connection().execute(query).scalar_one()


def trend(session: Session, search: SearchFilter, by: TrendDimension, zone: tzinfo) -> list[TrendPoint]:
    """Return how often something was said by day (of the call, in `zone`), by queue or by agent.

    Days are in order and without gaps, from the first call to the last, or over the filter's period if it has both
    limits; calls without a start time are left out. Queues and agents are sorted by hits, then by name. Raises
    QueryError.
    """
    seconds = type_coerce(_calls.c.started_at, BigInteger)
    key = seconds - seconds % _BUCKET_S if by == "day" else _calls.c[by]
    hits = _hits_by_call(session, search)
    found = (
        select(key, func.sum(hits.c.hits), func.count())
        .select_from(hits.join(_calls, _calls.c.id == hits.c.call_id))
        .where(*_conditions(session, search))
        .group_by(key)
    )
    total = select(key, func.count()).where(*_conditions(session, search), _transcribed()).group_by(key)
    counts: dict[Any, list[int]] = {}
    for bucket, calls_total in session.connection().execute(total):
        for label in _labels(bucket, by, zone):
            _add(counts, label, 0, 0, calls_total)
    for bucket, segments, calls in session.connection().execute(found):
        for label in _labels(bucket, by, zone):
            _add(counts, label, segments, calls, 0)
    if by == "day":
        counts.pop(None, None)
        return [TrendPoint(day.isoformat(), day, *counts.get(day, (0, 0, 0))) for day in _days(counts, search, zone)]
    return sorted(
        (TrendPoint(name, None, *values) for name, values in counts.items()), key=lambda p: (-p.hits, p.label)
    )


class _SearchBackend:
    """The full-text query for SQLite or PostgreSQL: rows of `source` where `matches`, by ascending `relevance`."""

    row_id: ColumnElement[int]
    source: Any
    matches: ColumnElement[bool]
    relevance: ColumnElement[Any]

    def __init__(self, session: Session, tree: Query, search: SearchFilter) -> None:
        if session.connection().dialect.name == "sqlite":
            self._use_fts5(tree, search)
        else:
            self._use_postgresql(tree, search)
        self.call_id = self.row_id.op(">>")(literal_column(str(SEGMENT_BITS)))

    def _use_fts5(self, tree: Query, search: SearchFilter) -> None:
        speakers = SPEAKERS if search.speaker is None else (search.speaker,)
        doubted = (False, True) if search.doubtful else (False,)
        columns = " ".join(column_of(speaker, doubt) for speaker in speakers for doubt in doubted)
        expression = f"{{{columns}}} : {to_fts5(tree)}"
        self.row_id, self.source = literal_column("segment_index.rowid", BigInteger), table("segment_index")
        self.matches = literal_column("segment_index").op("MATCH", is_comparison=True)(expression)
        self.relevance = literal_column("segment_index.rank")  # BM25, as a negative number

    def _use_postgresql(self, tree: Query, search: SearchFilter) -> None:
        index = table(
            "segment_index", column("id", BigInteger), column("speaker"), column("doubted", Boolean), column("words")
        )
        query = cast(to_tsquery(tree), TSQUERY)
        self.row_id, self.source = index.c.id, index
        self.matches = index.c.words.op("@@", is_comparison=True)(query)
        if search.speaker is not None:
            self.matches &= index.c.speaker == search.speaker
        if not search.doubtful:
            self.matches &= index.c.doubted.is_(False)
        self.relevance = -func.ts_rank(index.c.words, query)


def _hits_by_call(session: Session, search: SearchFilter) -> Any:
    index = _SearchBackend(session, parse_query(search.query), search)
    return (
        select(index.call_id.label("call_id"), func.count().label("hits"))
        .select_from(index.source)
        .where(index.matches)
        .group_by(literal_column("call_id"))
        .subquery("hits")
    )


def _conditions(session: Session, search: SearchFilter) -> list[ColumnElement[bool]]:
    calls = CallFilter(
        search.connection_id,
        since=search.since,
        until=search.until,
        direction=search.direction,
        number=search.number,
        queue=search.queue,
    )
    conditions = call_conditions(session, calls)
    if search.agent is not None:
        conditions.append(col(CallRow.agent) == search.agent)
    if search.tag is not None:
        conditions.append(col(CallRow.id).in_(select(col(CallTag.call_id)).where(col(CallTag.tag) == search.tag)))
    return conditions


def _transcribed() -> ColumnElement[bool]:
    # Calls that are being transcribed again are not "completed", but a recording of theirs has a transcript.
    found = (
        select(_recordings.c.id)
        .join(_transcripts, _transcripts.c.recording_id == _recordings.c.id)
        .where(_recordings.c.call_id == _calls.c.id, _transcripts.c.current.is_(True))
    )
    return or_(_calls.c.transcription == "completed", found.exists())


def _read_hits(session: Session, tree: Query, row_ids: Sequence[int], doubtful: bool) -> list[Hit]:
    """Return the hits for these rows of the index, in their order."""
    segment_ids = [row_id & ((1 << SEGMENT_BITS) - 1) for row_id in row_ids]
    columns: list[Any] = [_segments.c[name] for name in ("id", "start_s", "end_s", "speaker", "text", "flags")]
    columns += [_segments.c.original_text.is_not(None).label("edited")]
    columns += [_recordings.c.call_id, _recordings.c.id.label("recording_id")]
    columns += [_calls.c[name] for name in ("started_at", "from_number", "to_number", "queue", "agent", "direction")]
    columns += [_neighbour(doubtful, earlier=True).label("before"), _neighbour(doubtful, earlier=False).label("after")]
    found = session.connection().execute(
        select(*columns)
        .join(_transcripts, _transcripts.c.id == _segments.c.transcript_id)
        .join(_recordings, _recordings.c.id == _transcripts.c.recording_id)
        .join(_calls, _calls.c.id == _recordings.c.call_id)
        .where(_segments.c.id.in_(segment_ids))
    )
    hits: dict[int, Hit] = {}
    for row in found.mappings():
        values = dict(row)
        segment_id = values.pop("id")
        values |= {"before": row["before"] or "", "after": row["after"] or "", "flags": tuple(row["flags"].split())}
        hits[segment_id] = Hit(segment_id=segment_id, spans=spans_in(tree, row["text"]), **values)
    return [hits[segment_id] for segment_id in segment_ids if segment_id in hits]


def _neighbour(doubtful: bool, *, earlier: bool) -> Any:
    """Return a subquery for the text before or after a segment; doubtful segments are skipped unless included."""
    other = _segments.alias()
    mine, its = tuple_(_segments.c.start_s, _segments.c.id), tuple_(other.c.start_s, other.c.id)
    order = (other.c.start_s, other.c.id)
    query = (
        select(other.c.text)
        .where(other.c.transcript_id == _segments.c.transcript_id, other.c.text != "")
        .where(its < mine if earlier else its > mine)
        .order_by(*(part.desc() for part in order) if earlier else order)
    )
    if not doubtful:
        query = query.where(other.c.flags == "")
    return query.limit(1).correlate(_segments).scalar_subquery()


def _labels(bucket: Any, by: TrendDimension, zone: tzinfo) -> Sequence[Any]:
    """Return the labels that a group of calls is counted under; a call counts in every queue it entered."""
    if by == "queue":
        return split_queues(bucket)
    if by == "day" and bucket is not None:
        return (datetime.fromtimestamp(bucket, UTC).astimezone(zone).date(),)
    return (bucket,)


def _add(counts: dict[Any, list[int]], label: Any, *values: int) -> None:
    counts[label] = [one + more for one, more in zip(counts.get(label, (0, 0, 0)), values, strict=True)]


def _days(days_with_calls: Iterable[date], search: SearchFilter, zone: tzinfo) -> list[date]:
    days = sorted(days_with_calls)
    if search.since is not None and search.until is not None:
        span = search.until - search.since
        if timedelta(0) < span <= timedelta(days=_MAX_TREND_DAYS):
            last = search.until - timedelta(seconds=1)
            days = sorted({*days, search.since.astimezone(zone).date(), last.astimezone(zone).date()})
    if not days:
        return []
    return [days[0] + timedelta(days=number) for number in range((days[-1] - days[0]).days + 1)]
