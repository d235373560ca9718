"""The search index of what was said: one row for each segment that has text in a current transcript.

A row's id combines the ids of its call and its segment (`row_id_of`). The segments of a call are therefore adjacent,
and results can be counted by call and joined to their calls without reading anything else.

On SQLite, the index is an FTS5 table. Each speaker has two columns, one for trusted and one for flagged text, so the
index alone can filter by speaker and by flags. On PostgreSQL, each row has a tsvector, the speaker and whether the text
is flagged.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, select
from sqlmodel import Session

from pbx.store.models import Table
from pbx.store.search_tokens import tokens_of

SPEAKERS = {"caller": "caller", "agent": "agent", "": "other"}  # speaker → name of its columns in the index
SEGMENT_BITS = 32
_ROWS = 1000  # rows in one statement
_POSITIONS = 16383  # the last position in a tsvector; later words can be found, but not as part of phrases
_TIMES = 255  # positions of one word that a tsvector keeps
_TSVECTOR_BYTES = 1_000_000  # a little below PostgreSQL's limit; text beyond it can't be found
_segments, _transcripts, _recordings = (
    Table.metadata.tables[name] for name in ("segments", "transcripts", "recordings")
)


def row_id_of(call_id: int, segment_id: int) -> int:
    """Return the id of a segment's row in the index."""
    return call_id << SEGMENT_BITS | segment_id


def column_of(speaker: str, doubted: bool) -> str:
    """Return the column of the SQLite index for a speaker's text. Any unknown speaker has the `other` columns."""
    return SPEAKERS.get(speaker, SPEAKERS[""]) + ("_doubted" if doubted else "")


def index_transcript(session: Session, transcript_id: int) -> None:
    """Add a transcript's segments to the index if the transcript is current."""
    _add(session.connection(), _segments.c.transcript_id == transcript_id)


def index_segment(session: Session, segment_id: int) -> None:
    """Add a segment to the index if its transcript is current."""
    _add(session.connection(), _segments.c.id == segment_id)


def unindex_transcript(session: Session, transcript_id: int) -> None:
    """Remove a transcript's segments from the index."""
    _remove(session.connection(), _segments.c.transcript_id == transcript_id)


def unindex_segment(session: Session, segment_id: int) -> None:
    """Remove a segment from the index."""
    _remove(session.connection(), _segments.c.id == segment_id)


def _add(connection: Connection, which: ColumnElement[bool]) -> None:
    facts = select(_recordings.c.call_id, _segments.c.id, _segments.c.speaker, _segments.c.flags, _segments.c.text)
    found = connection.execute(_joined(facts).where(which, _transcripts.c.current.is_(True), _segments.c.text != ""))
    add = _add_to_sqlite if connection.dialect.name == "sqlite" else _add_to_postgresql
    for rows in found.partitions(_ROWS):
        add(connection, [(row_id_of(call_id, id_), *rest) for call_id, id_, *rest in rows])


def _add_to_sqlite(connection: Connection, rows: Sequence[Any]) -> None:
    columns: dict[str, list[tuple[int, str]]] = {}
    for row_id, speaker, flags, text in rows:
        words = " ".join(token.text for token in tokens_of(text))
        columns.setdefault(column_of(speaker, bool(flags)), []).append((row_id, words))
    for column, values in columns.items():
        connection.exec_driver_sql(f"INSERT INTO segment_index (rowid, {column}) VALUES (?, ?)", values)  # noqa: S608 - ours


def _add_to_postgresql(connection: Connection, rows: Sequence[Any]) -> None:
    values = [
        {"id": row_id, "speaker": speaker, "doubted": bool(flags), "words": _tsvector(text)}
        for row_id, speaker, flags, text in rows
    ]
    insert = (
        "INSERT INTO segment_index (id, speaker, doubted, words)"
        " VALUES (:id, :speaker, :doubted, CAST(:words AS tsvector))"
    )
    connection.execute(sqlalchemy.text(insert), values)


def _tsvector(text: str) -> str:
    """Return a text's words and positions in PostgreSQL's tsvector syntax. Words contain no quotes to escape."""
    places: dict[str, list[str]] = {}
    size_bytes = 0
    for position, token in enumerate(tokens_of(text), start=1):
        size_bytes += 2 if token.text in places else len(token.text.encode()) + 5
        if size_bytes > _TSVECTOR_BYTES:
            break
        places.setdefault(token.text, []).append(str(min(position, _POSITIONS)))
    return " ".join(f"'{word}':{','.join(at[:_TIMES])}" for word, at in places.items())


def _remove(connection: Connection, which: ColumnElement[bool]) -> None:
    found = connection.execute(_joined(select(_recordings.c.call_id, _segments.c.id)).where(which))
    key = "rowid" if connection.dialect.name == "sqlite" else "id"
    delete = sqlalchemy.text(f"DELETE FROM segment_index WHERE {key} = :row_id")  # noqa: S608 - ours
    for rows in found.partitions(_ROWS):
        connection.execute(delete, [{"row_id": row_id_of(*row)} for row in rows])


def _joined(query: Any) -> Any:
    return query.select_from(
        _segments.join(_transcripts, _transcripts.c.id == _segments.c.transcript_id).join(
            _recordings, _recordings.c.id == _transcripts.c.recording_id
        )
    )
