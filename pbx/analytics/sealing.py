"""Copies past days of the datasets to Parquet files, so that questions about a year are answered quickly.

A file holds one dataset's rows of one month (UTC): `columns/<PBX>/<dataset>/2026-11-<token>.parquet` in the data
directory. It is only a copy; `sealed_days` lists the days that it holds. The database deletes a day from that list when
one of its rows changes (triggers of migration 0016). Questions read the day's rows until it is sealed again. So figures
are correct whether or not sealing ever runs, and the files can be deleted at any time.

A file is never changed: a month with a new day gets a new file, and the old one is deleted a quarter of an hour later,
when no page reads it any more. No file is listed before it is complete on the disk.
"""

import logging
import os
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, delete, insert, select, update
from sqlmodel import Session

from pbx.analytics.datasets import DATASETS, DatasetName
from pbx.analytics.rows_to_columns import DAY_S, first_day, read_rows
from pbx.store.chunks import chunks
from pbx.store.engine import columns_dir, reading, writing
from pbx.store.models import SealedDay, Table

_UNUSED_FOR_S = 900  # by then, a page that opened a file has finished reading it
_Month = tuple[int, int]  # a year and its month
_DAYS = Table.metadata.tables[str(SealedDay.__tablename__)].c
_EPOCH = date(1970, 1, 1)
# Numbers that grow from row to row, and texts with common beginnings, are stored as differences.
_ENCODINGS = {
    **dict.fromkeys(("at_s", "call_id", "visit_id", "day"), "DELTA_BINARY_PACKED"),
    **dict.fromkeys(("linkedid", "uniqueid"), "DELTA_BYTE_ARRAY"),
}
log = logging.getLogger(__name__)


def seal_history(
    engine: Engine, connection_id: int, stop: threading.Event | None = None, before: datetime | None = None
) -> int:
    """Copy all days before a moment (default: now, so before today in UTC) that are not sealed; return how many.

    The rows are read without keeping other writers waiting. A month that can't be written is logged and left out. It
    ends early when `stop` is set. Raises DataError or StorageFull when the cache can't be read or written.
    """
    last, sealed = int((before or datetime.now(UTC)).timestamp()) // DAY_S, 0
    for name in DATASETS:
        with reading(engine) as session:
            days = _open_days(session, name, connection_id, last)
        for month in sorted(_by_month(days), reverse=True):
            if stop is not None and stop.is_set():
                return sealed
            try:
                sealed += _seal_month(engine, name, connection_id, _by_month(days)[month])
            except (OSError, pa.ArrowException) as error:
                log.warning("The %s of %d-%02d can't be copied; figures read their rows. %s", name, *month, error)
    return sealed


def sealed_files(
    session: Session, name: DatasetName, connection_id: int, first: int, last: int
) -> dict[Path, list[int]]:
    """The complete files that hold sealed days from `first` up to `last`, each with those days, in order."""
    query = select(_DAYS.day, _DAYS.file, _DAYS.size_bytes).where(
        *(_DAYS.connection_id == connection_id, _DAYS.dataset == name, _DAYS.day >= first, _DAYS.day < last)
    )
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for day, file, size in session.connection().execute(query.order_by(_DAYS.day)):
        found[file, size].append(day)
    folder = _folder(session, name, connection_id)
    return {folder / file: days for (file, size), days in found.items() if size and _size(folder / file) == size}


def delete_damaged(session: Session) -> bool:
    """Delete the files that can't be read, so that their days are read from the rows; whether there were any.

    A listed file that was deleted counts, too.
    """
    found = False
    query = select(_DAYS.connection_id, _DAYS.dataset, _DAYS.file).where(_DAYS.size_bytes > 0).distinct()
    for connection_id, name, file in session.connection().execute(query):
        path = _folder(session, name, connection_id) / file
        try:
            pq.read_table(path, partitioning=None)
        except FileNotFoundError:
            found = True
        except (OSError, pa.ArrowException):
            log.warning("%s is damaged and is deleted; its days are read from the database.", path)
            path.unlink(missing_ok=True)
            found = True
    return found


def _open_days(session: Session, name: DatasetName, connection_id: int, last: int) -> list[int]:
    first = first_day(session, DATASETS[name], connection_id)
    files = sealed_files(session, name, connection_id, first, last)
    sealed = {day for days in files.values() for day in days}
    return [day for day in range(first, last) if day not in sealed]


def _seal_month(engine: Engine, name: DatasetName, connection_id: int, days: Sequence[int]) -> int:
    """Copy days of one month, and those of its sealed days, to a new file; return how many of the days were sealed.

    First, the days are marked with a token. A change of a row deletes its day's mark, also while the rows are being
    copied. At the end, only the days that still have the mark are sealed.
    """
    token = secrets.token_hex(4)
    first = _day(_date(days[0]).replace(day=1))
    last = _day((_date(days[0]).replace(day=1) + timedelta(days=32)).replace(day=1))
    with writing(engine) as session:
        _mark(session, name, connection_id, days, token)
    with reading(engine) as session:
        files = sealed_files(session, name, connection_id, first, last)
        rows = read_rows(session, DATASETS[name], connection_id, days, DATASETS[name].types)
        folder = _folder(session, name, connection_id)
    kept = [_rows_of_days(file, sealed) for file, sealed in files.items()]
    path = folder / f"{_date(first):%Y-%m}-{token}.parquet"
    size = _write(path, pa.concat_tables([*kept, rows]).sort_by([("day", "ascending"), ("at_s", "ascending")]))
    mine = _DAYS.connection_id == connection_id, _DAYS.dataset == name, _DAYS.day >= first, _DAYS.day < last
    copied = _DAYS.file.in_([token, *(file.name for file in files)])
    with writing(engine) as session:
        connection = session.connection()
        sealed = connection.execute(select(_DAYS.day).where(*mine, _DAYS.file == token)).all()
        connection.execute(update(SealedDay).where(*mine, copied).values(file=path.name, size_bytes=size))
        used = set(connection.scalars(select(_DAYS.file).where(*mine)))
    _delete_unused(folder, f"{_date(first):%Y-%m}-", used)
    return len(sealed)


def _mark(session: Session, name: DatasetName, connection_id: int, days: Sequence[int], token: str) -> None:
    mine = _DAYS.connection_id == connection_id, _DAYS.dataset == name
    for some in chunks(days):
        session.connection().execute(delete(SealedDay).where(*mine, _DAYS.day.in_(some)))
    marks = {"connection_id": connection_id, "dataset": name, "file": token, "size_bytes": 0}
    session.connection().execute(insert(SealedDay), [marks | {"day": day} for day in days])


def _rows_of_days(file: Path, days: Iterable[int]) -> pa.Table:
    return pq.read_table(file, filters=[("day", "in", list(days))], partitioning=None)


def _write(path: Path, rows: pa.Table) -> int:
    """Write a file aside, make sure that it is on the disk, and rename it; return its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    try:
        with aside.open("wb") as file:
            pq.write_table(
                rows,
                file,
                compression="zstd",
                compression_level=9,
                use_dictionary=[name for name in rows.column_names if name not in _ENCODINGS],
                column_encoding={name: kind for name, kind in _ENCODINGS.items() if name in rows.column_names},
            )
            file.flush()
            os.fsync(file.fileno())
        size = aside.stat().st_size
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return size


def _delete_unused(folder: Path, month: str, used: set[str]) -> None:
    for path in folder.glob(f"{month}*"):
        with suppress(OSError):  # Windows keeps a file that is open
            if path.name not in used and time.time() - path.stat().st_mtime > _UNUSED_FOR_S:
                path.unlink()


def _folder(session: Session, name: DatasetName, connection_id: int) -> Path:
    return columns_dir(session) / str(connection_id) / name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _by_month(days: Iterable[int]) -> dict[_Month, list[int]]:
    months: dict[_Month, list[int]] = defaultdict(list)
    for day in days:
        months[_date(day).year, _date(day).month].append(day)
    return months


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)


def _day(moment: date) -> int:
    return (moment - _EPOCH).days
