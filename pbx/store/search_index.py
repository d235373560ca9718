"""The index of what was said: a row for each segment with text of a current transcript.

A row's id is its call's id and its segment's (`row_id_of`). So segments of one call lie together, and what is found is
counted by call, and joined to its call, without reading anything else.

SQLite: an FTS5 table with a column for each speaker, once for text that is trusted and once for flagged text, so that
who spoke and whether to doubt it is decided within the index too. PostgreSQL: a tsvector beside the same two facts.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, select
from sqlmodel import Session

from pbx.store.models import Table
from pbx.store.search_tokens import tokens_of

SPEAKERS = {"caller": "caller", "agent": "agent", "": "other"}  # speaker → its columns' name in the index
SEGMENT_BITS = 32
_ROWS = 1000  # in one statement
_POSITIONS = 16383  # the last position a tsvector distinguishes; later words are found singly, not as phrases
_TIMES = 255  # a word's positions that a tsvector keeps
_TSVECTOR_BYTES = 1_000_000  # a little below PostgreSQL’s limit; what a text has beyond is not found
_segments, _transcripts, _recordings = (
    Table.metadata.tables[name] for name in ("segments", "transcripts", "recordings")
)


def row_id_of(call_id: int, segment_id: int) -> int:
    """The index row of a segment."""
    return call_id << SEGMENT_BITS | segment_id


def column_of(speaker: str, doubted: bool) -> str:
    """The column of SQLite's index that holds what a speaker said; of one that isn't known, the column for nobody's."""
    return SPEAKERS.get(speaker, SPEAKERS[""]) + ("_doubted" if doubted else "")


def index_transcript(session: Session, transcript_id: int) -> None:
    """Add a transcript's segments to the index, if it is current."""
    _add(session.connection(), _segments.c.transcript_id == transcript_id)


def index_segment(session: Session, segment_id: int) -> None:
    """Add a segment to the index, if its transcript is current."""
    _add(session.connection(), _segments.c.id == segment_id)


def unindex_transcript(session: Session, transcript_id: int) -> None:
    """Take a transcript's segments out of the index."""
    _remove(session.connection(), _segments.c.transcript_id == transcript_id)


def unindex_segment(session: Session, segment_id: int) -> None:
    """Take a segment out of the index."""
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
    """A text's words with their positions, as PostgreSQL reads them. Words have no quotes that would end them."""
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
