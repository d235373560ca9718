"""Days of history packed column by column, so that a year's figures are read in a moment.

A row of `day_packs` holds what the figures need of one UTC day of visits, rings, agents' changes, calls, seizures of
trunks, talks with a number, or looks at trunks (`pack_shapes`). It is only ever a copy: the database itself drops it
when a row of its day changes (triggers of steps 0004, 0008 and 0011), a day without one is read from the rows, and
`pack_days` packs again. So figures are right whether or not it ever runs.

How many names a day has and how large its numbers are is decided outside, by whoever dials. A column is as wide as its
day needs, and says so in its pack (`types`); a day that can't be packed all the same is read from its rows.
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
from pbx.analytics.pack_columns import SHAPES, PackKind, Shape
from pbx.analytics.pack_columns import seconds as seconds
from pbx.store.agent_names import agent_names
from pbx.store.models import DayPack, Table

ColumnArrays = dict[str, NDArray[Any]]
Loaded = TypeVar("Loaded")
DAY_S = 86_400
_OF_MEMBERS: tuple[PackKind, ...] = ("visits", "rings", "changes")
_NEVER = 2**31 - 1  # a day that no database integer exceeds
_READ_DAYS = 31  # so many days without a pack are read at once
_PLACES = {name: place for place, name in enumerate(OUTCOMES)}
_KEY_DIGITS = 9  # national prefixes, country codes and outside lines differ; the last digits don't
_WIDTHS = ("u1", "i1", "u2", "i2", "u4", "i4", "i8")  # of integers in a pack, the narrowest first
_UNPACKABLE = (OverflowError, ValueError, TypeError, MemoryError, DataError)  # what is in a day's rows, not the disk
log = logging.getLogger(__name__)
PACKS = Table.metadata.tables[str(DayPack.__tablename__)].c


class Lazy(Mapping[str, NDArray[Any]]):
    """Columns each made once it is asked for, as most questions need few of them."""

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
class Packed:
    """Columns of equal length, and the names that the columns of `names` are places in."""

    columns: Lazy
    names: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.columns["at"])

    def where(self, mask: NDArray[np.bool_]) -> "Packed":
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        together = len(rows) and rows[-1] - rows[0] == len(rows) - 1
        which = slice(rows[0], rows[-1] + 1) if together else rows  # nothing is copied of what lies together
        return Packed(Lazy(self.columns, lambda name: self.columns[name][which]), self.names)

    def code(self, column: str, name: str) -> int:
        """The place of a name in a column's names; -1 when nothing has it."""
        return self.names[column].index(name) if name in self.names[column] else -1

    def narrowed(self, asked: Mapping[str, str | None]) -> "Packed":
        """Only what has the names asked for; None asks for nothing."""
        masks = [self.columns[column] == self.code(column, name) for column, name in asked.items() if name is not None]
        return self.where(np.logical_and.reduce(masks)) if masks else self

    def compact(self, column: str) -> "Packed":
        """Without the names that no row has."""
        used, places = np.unique(self.columns[column], return_inverse=True)
        names = tuple(self.names[column][int(place)] for place in used)
        columns = Lazy(self.columns, lambda name: places if name == column else self.columns[name])
        return Packed(columns, self.names | {column: names})

    def renamed(self, column: str, names: Mapping[str, str]) -> "Packed":
        """Other names for some of a column's; those that are then the same have one place."""
        if names.keys().isdisjoint(self.names[column]):
            return self
        known: dict[str, int] = {}
        places = np.array([known.setdefault(names.get(name, name), len(known)) for name in self.names[column]])

        def of(name: str) -> NDArray[Any]:
            return places[self.columns[name]] if name == column else self.columns[name]

        return Packed(Lazy(self.columns, of), self.names | {column: tuple(known)})


def number_key(number: str) -> int:
    """A number that is the same for all ways of writing a telephone number: by its last nine digits; 0 for none.

    `+49 30 1234567`, `0301234567` and `00049301234567` (with an outside line's 0) are one. A number with fewer digits,
    area code included, is only the same when it is written with the same prefix.
    """
    digits = re.sub(r"\D", "", number)
    return int("1" + digits[-_KEY_DIGITS:]) if digits else 0


def load_columns(session: Session, kind: PackKind, connection_id: int, since: datetime, until: datetime) -> Packed:
    """What happened from `since` up to `until`, in no order; of queues' agents by their names, see agent_names.

    Within a reading session, whose state doesn't move, the same question is answered from memory.
    """
    since_s, until_s = int(since.timestamp()), int(until.timestamp())
    days = (since_s // DAY_S, -(-until_s // DAY_S))

    def load() -> Packed:
        found = _load(session, kind, connection_id, *days)
        if kind not in _OF_MEMBERS or not len(found):
            return found
        names = remembered(session, ("agent names", connection_id), lambda: agent_names(session, connection_id))
        return found.renamed("agent", names)

    def cut() -> Packed:
        found = remembered(session, (kind, connection_id, *days), load)  # whole days: "now" moves on, they don't
        return found.where((found.columns["at"] >= since_s) & (found.columns["at"] < until_s))

    return remembered(session, (kind, connection_id, since_s, until_s), cut)


def remembered(session: Session, question: Hashable, answer: Callable[[], Loaded]) -> Loaded:
    """The answer to a question, worked out once in a reading session; every time in a writing one."""
    memory: dict[Hashable, Any] = {} if _writes(session) else session.info.setdefault("figures", {})
    if question not in memory:
        memory[question] = answer()
    found: Loaded = memory[question]
    return found


def pack_days(session: Session, connection_id: int, before: datetime | None = None, limit: int | None = None) -> int:
    """Pack the whole UTC days before a moment (now) that are not packed, the newest first; return how many were.

    For a writing session. `limit`: at most so many, so that no writer waits long; call again until it returns 0. A day
    that can't be packed is left to be read from its rows, and stops no other.
    """
    last = int((before or datetime.now(UTC)).timestamp()) // DAY_S
    packed = 0
    for kind in SHAPES:
        first = _first_day(session, kind, connection_id)
        known = set(_packed_days(session, kind, connection_id, first, last))
        for day in range(last - 1, first - 1, -1):
            if day in known:
                continue
            if limit is not None and packed >= limit:
                return packed
            packed += _store(session, kind, connection_id, day)
    return packed


def forget_packs(session: Session, connection_id: int) -> None:
    """Drop all packs of a PBX; they come again."""
    session.connection().execute(delete(DayPack).where(PACKS.connection_id == connection_id))


def _load(session: Session, kind: PackKind, connection_id: int, first: int, last: int) -> Packed:
    """The days from `first` up to `last`, in order; earlier ones too where their rows may be of these."""
    shape = SHAPES[kind]
    merger = _Merger(shape.fields)
    first -= shape.earlier_days
    query = select(PACKS.day, PACKS.names, PACKS.types, PACKS.rows, PACKS.data).where(
        PACKS.connection_id == connection_id, PACKS.kind == kind, PACKS.day >= first, PACKS.day < last
    )
    known = set()
    for day, names, types, rows, data in session.connection().execute(query.order_by(PACKS.day)):
        known.add(day)
        merger.add(_unpack(shape.fields, types.split(), rows, data), json.loads(names))
    begun = max(first, _first_day(session, kind, connection_id)) if len(known) < last - first else last
    for start, end in _runs(day for day in range(begun, last) if day not in known):
        merger.add(*_read(session, shape, connection_id, start * DAY_S, end * DAY_S))
    return merger.merged()


class _Merger:
    """Puts days together: columns behind one another, each day's names made places among all names."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        self.days: list[ColumnArrays] = []
        self.names: dict[str, dict[str, int]] = {name: {} for name, type_ in fields.items() if type_ == "name"}
        self.places: dict[str, list[NDArray[np.int64]]] = {name: [] for name in self.names}  # of each day's names

    def add(self, columns: ColumnArrays, names: dict[str, list[str]]) -> None:
        if not len(columns["at"]):
            return
        self.days.append(columns)
        for name, known in self.names.items():
            places = [known.setdefault(text, len(known)) for text in names[name]]
            self.places[name].append(np.array(places, dtype=np.int64))

    def merged(self) -> Packed:
        return Packed(Lazy(self.fields, self._column), {name: tuple(known) for name, known in self.names.items()})

    def _column(self, name: str) -> NDArray[Any]:
        parts = [columns[name] for columns in self.days]
        if name in self.names:
            parts = [places[values] for places, values in zip(self.places[name], parts, strict=True)]
        return np.concatenate([np.zeros(0, _loaded(self.fields[name])), *parts])


def _loaded(type_: str) -> type[Any]:
    return np.float64 if type_ == "f8" else np.bool_ if type_ == "?" else np.int64


def _read(
    session: Session, shape: Shape, connection_id: int, since_s: int, until_s: int
) -> tuple[ColumnArrays, dict[str, list[str]]]:
    """Rows as columns, and the names of each column of names."""
    at = seconds(shape.at)
    query = shape.rows.where(shape.connection_id == connection_id, at >= since_s, at < until_s)
    first, second = list(shape.rows.selected_columns)[:2]
    rows = session.connection().execute(query.order_by(second, first)).all()  # the same from whichever database
    found: Iterable[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(shape.fields)
    columns: ColumnArrays = {}
    names: dict[str, list[str]] = {}
    for (name, type_), values in zip(shape.fields.items(), found, strict=True):
        if type_ == "name":
            known: dict[str, int] = {}
            columns[name] = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
            names[name] = list(known)
        elif type_ == "key":
            columns[name] = np.array([number_key(value) for value in values], dtype=np.int64)
        elif type_ == "outcome":
            columns[name] = np.array([_PLACES.get(value, UNKNOWN) for value in values], dtype=np.int64)
        else:
            columns[name] = np.array(values, dtype=_loaded(type_))  # of numbers None becomes NaN
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
    """Pack a day; False, said in the log, when that can't be."""
    try:
        row = _packed(session, kind, connection_id, day)
        with session.begin_nested():
            session.connection().execute(insert(DayPack), [row])
    except _UNPACKABLE as error:
        log.warning("The %s of day %s can't be packed; figures read their rows. %s", kind, day, str(error)[:200])
        return False
    return True


def _packed(session: Session, kind: PackKind, connection_id: int, day: int) -> dict[str, Any]:
    columns, names = _read(session, SHAPES[kind], connection_id, day * DAY_S, (day + 1) * DAY_S)
    types = [_width(column) for column in columns.values()]
    data = b"".join(column.astype(type_).tobytes() for column, type_ in zip(columns.values(), types, strict=True))
    row = {"connection_id": connection_id, "kind": kind, "day": day, "rows": len(columns["at"]), "data": data}
    return row | {"names": json.dumps(names), "types": " ".join(types)}


def _width(column: NDArray[Any]) -> str:
    """The narrowest type that holds all of a column."""
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
    """The day of the oldest row; one that never comes where there is none."""
    shape = SHAPES[kind]
    mine = shape.connection_id == connection_id
    query = shape.begins(connection_id) if shape.begins else select(func.min(seconds(shape.at))).where(mine)
    first = session.connection().execute(query).scalar()
    return int(first) // DAY_S if first is not None else _NEVER


def _runs(days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Days that follow one another as (first, after the last), at most `_READ_DAYS` long."""
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
