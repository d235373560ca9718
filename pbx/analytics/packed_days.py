"""Packs days of history column by column, so that a year's figures load quickly.

A row of `day_packs` holds the columns that the figures need from one UTC day of one kind of rows (see
pbx.analytics.packed_columns). It is only a copy. The database drops it when a row of its day changes (triggers of the
migrations 0004, 0008 and 0011). A day without a pack is read from the rows, and `pack_days` packs it again. So figures
are correct whether or not packing ever runs.

Callers decide how many names a day has and how large its numbers are. So each column is as wide as its day needs
(`types` of its pack), and a day that still can't be packed is read from its rows.
"""

import json
import logging
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import DataError
from sqlmodel import Session

from pbx.analytics.formulas.queues import OUTCOMES, UNKNOWN
from pbx.analytics.packed_columns import PACK_LAYOUTS, PackKind, PackLayout, epoch_seconds
from pbx.store.agent_names import agent_names
from pbx.store.models import DayPack, Table

ColumnArrays = dict[str, NDArray[Any]]
_T = TypeVar("_T")
DAY_S = 86_400
_OF_MEMBERS: tuple[PackKind, ...] = ("visits", "rings", "agent_events")
_NEVER = 2**31 - 1  # later than any day in the database
_READ_DAYS = 31  # days without a pack that one statement reads
_PLACES = {name: place for place, name in enumerate(OUTCOMES)}
_KEY_DIGITS = 9  # enough to be unique; prefixes, country codes and outside-line digits differ by notation
_WIDTHS = ("u1", "i1", "u2", "i2", "u4", "i4", "i8")  # integer types of a pack, the narrowest first
_UNPACKABLE = (
    OverflowError,
    ValueError,
    TypeError,
    MemoryError,
    DataError,
)  # caused by the values of a day's rows, not by the disk
log = logging.getLogger(__name__)
PACKS = Table.metadata.tables[str(DayPack.__tablename__)].c


class LazyColumns(Mapping[str, NDArray[Any]]):
    """Columns that are made when they are first used, because most figures need only a few of them."""

    def __init__(self, names: Iterable[str], make: Callable[[str], NDArray[Any]]) -> None:
        self.make, self.made = make, dict.fromkeys(names)

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self.made[name]
        if found is None:
            found = self.made[name] = self.make(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)


@dataclass(frozen=True)
class PackedRows:
    """Columns of equal length. Those in `names` hold indexes into their tuple of names."""

    columns: LazyColumns
    names: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.columns["at"])

    def where(self, mask: NDArray[np.bool_]) -> "PackedRows":
        """The rows whose flag is set."""
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        adjacent = len(rows) and rows[-1] - rows[0] == len(rows) - 1
        which = slice(rows[0], rows[-1] + 1) if adjacent else rows  # a slice of adjacent rows copies nothing
        return PackedRows(LazyColumns(self.columns, lambda name: self.columns[name][which]), self.names)

    def code(self, column: str, name: str) -> int:
        """The index of a name in a column's names; -1 when no row has it."""
        return self.names[column].index(name) if name in self.names[column] else -1

    def narrowed(self, required: Mapping[str, str | None]) -> "PackedRows":
        """The rows that have the required name in each column; None requires nothing."""
        masks = [
            self.columns[column] == self.code(column, name) for column, name in required.items() if name is not None
        ]
        return self.where(np.logical_and.reduce(masks)) if masks else self

    def compact(self, column: str) -> "PackedRows":
        """The same rows, without the names of a column that no row has."""
        used, places = np.unique(self.columns[column], return_inverse=True)
        names = tuple(self.names[column][int(place)] for place in used)
        columns = LazyColumns(self.columns, lambda name: places if name == column else self.columns[name])
        return PackedRows(columns, self.names | {column: names})

    def renamed(self, column: str, names: Mapping[str, str]) -> "PackedRows":
        """The same rows with some names of a column replaced; names that become equal share one index."""
        if names.keys().isdisjoint(self.names[column]):
            return self
        known: dict[str, int] = {}
        places = np.array([known.setdefault(names.get(name, name), len(known)) for name in self.names[column]])

        def of(name: str) -> NDArray[Any]:
            return places[self.columns[name]] if name == column else self.columns[name]

        return PackedRows(LazyColumns(self.columns, of), self.names | {column: tuple(known)})


def number_key(number: str) -> int:
    """A key that is equal for all notations of a telephone number, from its last nine digits; 0 without digits.

    `+49 30 1234567`, `0301234567` and `00049301234567` (dialled with a 0 for an outside line) have the same key. A
    number with fewer than nine digits, including its area code, needs the same prefix to have the same key.
    """
    digits = re.sub(r"\D", "", number)
    return int("1" + digits[-_KEY_DIGITS:]) if digits else 0


def load_columns(session: Session, kind: PackKind, connection_id: int, since: datetime, until: datetime) -> PackedRows:
    """The rows of one kind from `since` up to `until`, in no order. Agents have their names, see agent_names.

    A reading session always sees the same state of the cache, so within it a second call is answered from memory.
    """
    since_s, until_s = int(since.timestamp()), int(until.timestamp())
    days = (since_s // DAY_S, -(-until_s // DAY_S))

    def load() -> PackedRows:
        found = _load(session, kind, connection_id, *days)
        if kind not in _OF_MEMBERS or not len(found):
            return found
        names = cached_in_session(session, ("agent names", connection_id), lambda: agent_names(session, connection_id))
        return found.renamed("agent", names)

    def cut() -> PackedRows:
        found = cached_in_session(
            session, (kind, connection_id, *days), load
        )  # complete days stay in memory while "now" moves on
        return found.where((found.columns["at"] >= since_s) & (found.columns["at"] < until_s))

    return cached_in_session(session, (kind, connection_id, since_s, until_s), cut)


def cached_in_session(session: Session, key: Hashable, load: Callable[[], _T]) -> _T:
    """The result of `load`, kept by key for the rest of a reading session; a writing session loads it every time."""
    memory: dict[Hashable, Any] = {} if _writes(session) else session.info.setdefault("figures", {})
    if key not in memory:
        memory[key] = load()
    found: _T = memory[key]
    return found


def pack_days(session: Session, connection_id: int, before: datetime | None = None, limit: int | None = None) -> int:
    """Pack complete UTC days before a moment (default: now) that have no pack, newest first; return how many.

    Needs a writing session. `limit`: the most days to pack, so that other writers wait only briefly; call it again
    until it returns 0. A day that can't be packed is skipped; figures read its rows.
    """
    last = int((before or datetime.now(UTC)).timestamp()) // DAY_S
    packed = 0
    for kind in PACK_LAYOUTS:
        first = _first_day(session, kind, connection_id)
        known = set(_packed_days(session, kind, connection_id, first, last))
        for day in range(last - 1, first - 1, -1):
            if day in known:
                continue
            if limit is not None and packed >= limit:
                return packed
            packed += _store(session, kind, connection_id, day)
    return packed


def delete_packs(session: Session, connection_id: int) -> None:
    """Drop all packs of a PBX; they are packed again later."""
    session.connection().execute(delete(DayPack).where(PACKS.connection_id == connection_id))


def _load(session: Session, kind: PackKind, connection_id: int, first: int, last: int) -> PackedRows:
    """The days from `first` up to `last`, in order, and earlier days whose rows may belong to these."""
    layout = PACK_LAYOUTS[kind]
    merger = _Merger(layout.fields)
    first -= layout.earlier_days
    query = select(PACKS.day, PACKS.names, PACKS.types, PACKS.rows, PACKS.data).where(
        PACKS.connection_id == connection_id, PACKS.kind == kind, PACKS.day >= first, PACKS.day < last
    )
    known = set()
    for day, names, types, rows, data in session.connection().execute(query.order_by(PACKS.day)):
        known.add(day)
        merger.add(_unpack(layout.fields, types.split(), rows, data), json.loads(names))
    begun = max(first, _first_day(session, kind, connection_id)) if len(known) < last - first else last
    for start, end in _runs(day for day in range(begun, last) if day not in known):
        merger.add(*_read(session, layout, connection_id, start * DAY_S, end * DAY_S))
    return merger.merged()


class _Merger:
    """Joins the columns of several days; each day's names become indexes into the names of all days."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        self.days: list[ColumnArrays] = []
        self.names: dict[str, dict[str, int]] = {name: {} for name, type_ in fields.items() if type_ == "name"}
        self.places: dict[str, list[NDArray[np.int64]]] = {
            name: [] for name in self.names
        }  # new indexes of each day's names

    def add(self, columns: ColumnArrays, names: dict[str, list[str]]) -> None:
        if not len(columns["at"]):
            return
        self.days.append(columns)
        for name, known in self.names.items():
            places = [known.setdefault(text, len(known)) for text in names[name]]
            self.places[name].append(np.array(places, dtype=np.int64))

    def merged(self) -> PackedRows:
        return PackedRows(
            LazyColumns(self.fields, self._column), {name: tuple(known) for name, known in self.names.items()}
        )

    def _column(self, name: str) -> NDArray[Any]:
        parts = [columns[name] for columns in self.days]
        if name in self.names:
            parts = [places[values] for places, values in zip(self.places[name], parts, strict=True)]
        return np.concatenate([np.zeros(0, _loaded(self.fields[name])), *parts])


def _loaded(type_: str) -> type[Any]:
    return np.float64 if type_ == "f8" else np.bool_ if type_ == "?" else np.int64


def _read(
    session: Session, layout: PackLayout, connection_id: int, since_s: int, until_s: int
) -> tuple[ColumnArrays, dict[str, list[str]]]:
    """Rows as columns, and the names of each column that holds names."""
    at = epoch_seconds(layout.at)
    query = layout.rows.where(layout.connection_id == connection_id, at >= since_s, at < until_s)
    first, second = list(layout.rows.selected_columns)[:2]
    rows = (
        session.connection().execute(query.order_by(second, first)).all()
    )  # so that every database returns the same order
    found: Iterable[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(layout.fields)
    columns: ColumnArrays = {}
    names: dict[str, list[str]] = {}
    for (name, type_), values in zip(layout.fields.items(), found, strict=True):
        if type_ == "name":
            known: dict[str, int] = {}
            columns[name] = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
            names[name] = list(known)
        elif type_ == "key":
            columns[name] = np.array([number_key(value) for value in values], dtype=np.int64)
        elif type_ == "outcome":
            columns[name] = np.array([_PLACES.get(value, UNKNOWN) for value in values], dtype=np.int64)
        else:
            columns[name] = np.array(values, dtype=_loaded(type_))  # None becomes NaN in columns of numbers
    return columns, names


def _unpack(fields: Iterable[str], types: Sequence[str], rows: int, data: bytes) -> ColumnArrays:
    columns: ColumnArrays = {}
    place = 0
    for name, type_ in zip(fields, types, strict=True):
        packed = np.dtype(type_)
        columns[name] = np.frombuffer(data, packed, rows, place)
        place += rows * packed.itemsize
    return columns


def _store(session: Session, kind: PackKind, connection_id: int, day: int) -> bool:
    """Pack a day; logs a warning and returns False when its values can't be packed."""
    try:
        row = _packed(session, kind, connection_id, day)
        with session.begin_nested():
            session.connection().execute(insert(DayPack), [row])
    except _UNPACKABLE as error:
        log.warning("The %s of day %s can't be packed; figures read their rows. %s", kind, day, str(error)[:200])
        return False
    return True


def _packed(session: Session, kind: PackKind, connection_id: int, day: int) -> dict[str, Any]:
    columns, names = _read(session, PACK_LAYOUTS[kind], connection_id, day * DAY_S, (day + 1) * DAY_S)
    types = [_width(column) for column in columns.values()]
    data = b"".join(column.astype(type_).tobytes() for column, type_ in zip(columns.values(), types, strict=True))
    row = {"connection_id": connection_id, "kind": kind, "day": day, "rows": len(columns["at"]), "data": data}
    return row | {"names": json.dumps(names), "types": " ".join(types)}


def _width(column: NDArray[Any]) -> str:
    """The narrowest type that holds every value of a column."""
    if column.dtype.kind != "i":
        return str(column.dtype.str[1:])
    least, most = (int(column.min()), int(column.max())) if len(column) else (0, 0)
    return next(one for one in _WIDTHS if np.iinfo(one).min <= least and most <= np.iinfo(one).max)


def _packed_days(session: Session, kind: PackKind, connection_id: int, first: int, last: int) -> Iterator[int]:
    query = select(PACKS.day).where(
        PACKS.connection_id == connection_id, PACKS.kind == kind, PACKS.day >= first, PACKS.day < last
    )
    return iter(session.connection().execute(query).scalars())


def _first_day(session: Session, kind: PackKind, connection_id: int) -> int:
    """The day of the oldest row; `_NEVER` without any row."""
    layout = PACK_LAYOUTS[kind]
    mine = layout.connection_id == connection_id
    query = layout.begins(connection_id) if layout.begins else select(func.min(epoch_seconds(layout.at))).where(mine)
    first = session.connection().execute(query).scalar()
    return int(first) // DAY_S if first is not None else _NEVER


def _runs(days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive days as (first, last + 1), each at most `_READ_DAYS` long."""
    start = end = -1
    for day in days:
        if day != end or end - start >= _READ_DAYS:
            if end > start:
                yield start, end
            start = day
        end = day + 1
    if end > start:
        yield start, end


def _writes(session: Session) -> bool:
    return bool(session.connection().get_execution_options().get("pbx_writes", False))
