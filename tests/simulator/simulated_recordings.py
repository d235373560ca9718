"""Recordings that grow, disappear, or are listed twice; and any number of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from pbx.demo.recording_dir import RecordingDir, StoredFile

_FIRST_BULK_DAY = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(slots=True)
class _Bulk:
    """Many recordings that share one sound. Their names are made on demand."""

    file: StoredFile
    count: int
    deleted: set[str] = field(default_factory=set)

    def names(self) -> Iterator[str]:
        """The names of those that were not deleted."""
        return (name for name in bulk_names(self.count) if name not in self.deleted)

    def __contains__(self, name: str) -> bool:
        return name not in self.deleted and name in _bulk_name_set(self.count)


class SimulatedRecordings(RecordingDir):
    """A recording directory that tests change while the PBX serves it. Threads may share it."""

    def __init__(self) -> None:
        super().__init__()
        self._bulk: _Bulk | None = None
        self._listed_twice: list[str] = []

    def grow(self, name: str, more: bytes) -> None:
        """Append to a recording as a call in progress does, or begin one. Downloads in progress get it too."""
        with self._lock:
            file = self._files.get(name)
            if file is None:
                self._files[name] = StoredFile("wav", bytearray(more))
                self._listing = None
            elif isinstance(file.content, bytearray):
                file.content += more
            else:
                file.content = bytearray(file.read() + more)

    def finish(self, name: str, content: bytes) -> None:
        """Replace the bytes of a growing recording, in place, as Asterisk does with the header when the call ends."""
        with self._lock:
            self._files[name].content = bytearray(content)

    def delete(self, name: str) -> None:
        """Delete a recording. Raises KeyError for an unknown name."""
        with self._lock:
            if self._files.pop(name, None) is None:
                if self._bulk is None or name not in self._bulk:
                    raise KeyError(name)
                self._bulk.deleted.add(name)
            self._listing = None

    def list_twice(self, name: str) -> None:
        """List a recording twice. No Asterisk should do so, but a client must cope with it."""
        with self._lock:
            self._listed_twice.append(name)
            self._listing = None

    def add_bulk(self, count: int, content: bytes | Path) -> None:
        """Add `count` recordings with the same sound, which need memory for their names only. 0 removes them."""
        with self._lock:
            self._bulk = _Bulk(StoredFile("wav", content), count) if count else None
            self._listing = None

    def content(self, name: str) -> bytes:
        """The sound of a recording. Raises KeyError for an unknown name."""
        found = self.file(name)
        if found is None:
            raise KeyError(name)
        return found.read()

    def _find(self, name: str) -> StoredFile | None:
        found = super()._find(name)
        if found is None and self._bulk is not None and name in self._bulk:
            return self._bulk.file
        return found

    def _sorted_names(self) -> list[str]:
        return sorted({*self._files, *(self._bulk.names() if self._bulk is not None else ())})

    def _listed_names(self) -> list[str]:
        return sorted([*self._sorted_names(), *(name for name in self._listed_twice if name in self._files)])

    def __len__(self) -> int:
        return len(self.names())


def recordings_of_ended_calls(now: datetime) -> SimulatedRecordings:
    """A directory with the recordings of the calls that ended before `now`."""
    recordings = SimulatedRecordings()
    recordings.add_ended_calls(now)
    return recordings


@lru_cache(maxsize=1)
def bulk_names(count: int) -> tuple[str, ...]:
    """The names of many recordings: calls into queue 600, one every half minute from 5 January 2026."""
    names, first_s = [], int(_FIRST_BULK_DAY.timestamp())
    for at_s in range(0, 30 * count, 30):
        if at_s % 86_400 == 0:
            day = _FIRST_BULK_DAY + timedelta(seconds=at_s)
            folder, date = f"{day:%Y/%m/%d}", f"{day:%Y%m%d}"
        minute, second = divmod(at_s % 86_400, 60)
        hour, minute = divmod(minute, 60)
        clock, number = f"{hour:02}{minute:02}{second:02}", at_s // 30
        names.append(f"{folder}/q-600-02079460{number % 1000:03}-{date}-{clock}-{first_s + at_s}.{number}")
    return tuple(names)


@lru_cache(maxsize=1)
def _bulk_name_set(count: int) -> frozenset[str]:
    return frozenset(bulk_names(count))
