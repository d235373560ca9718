"""What lies in the demo PBX's `recording` directory: names and sounds, as ARI lists and hands them out."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from pbx.demo.company import PlannedCall
from pbx.demo.scripts import script
from pbx.demo.story import ZONE, recorded_calls

_CROWD_FROM = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(slots=True)
class StoredFile:
    """One recording: who holds it goes on reading after it was deleted, as with an open file.

    `content` is the sound itself or the file it is in.
    """

    format: str
    content: bytearray | bytes | Path

    @property
    def size_bytes(self) -> int:
        """How long it is now."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def read(self) -> bytes:
        """All of it, as it is now."""
        return self.content.read_bytes() if isinstance(self.content, Path) else bytes(self.content)


@dataclass(slots=True)
class _Crowd:
    """Many recordings that share their sound; their names are told when they are asked for."""

    file: StoredFile
    count: int
    gone: set[str] = field(default_factory=set)

    def names(self) -> Iterator[str]:
        return (name for name in crowd_names(self.count) if name not in self.gone)


class Shelf:
    """The recordings. Safe to share among threads: tests and the story put and take, the server reads.

    A name is the path below `recording` without the extension; bytes that are not UTF-8 stand in it as Python's
    "surrogateescape" has them, and make the whole list fail as they do with Asterisk.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._crowd: _Crowd | None = None
        self._twice: list[str] = []
        self._listing: bytes | None = None  # until something changes

    def add(self, name: str, content: bytes | Path, format: str = "wav") -> None:
        """Put a recording there; another file of that name in any format is replaced."""
        with self._lock:
            self._files[name] = StoredFile(format, content)
            self._listing = None

    def grow(self, name: str, more: bytes) -> None:
        """Append to a recording, as a call that goes on does, or begin it. Downloads under way see it grow."""
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
        """Give a growing recording its final bytes, in place: the call has ended and the header is fixed."""
        with self._lock:
            self._files[name].content = bytearray(content)

    def delete(self, name: str) -> None:
        """Take a recording away. Raises KeyError for one that isn't there."""
        with self._lock:
            if self._files.pop(name, None) is None:
                crowd = self._crowd
                if crowd is None or name in crowd.gone or name not in _crowd_set(crowd.count):
                    raise KeyError(name)
                crowd.gone.add(name)
            self._listing = None

    def duplicate(self, name: str) -> None:
        """Have the list name a recording twice, as no Asterisk should; a client has to bear it."""
        with self._lock:
            self._twice.append(name)
            self._listing = None

    def crowd(self, count: int, content: bytes | Path) -> None:
        """Have `count` more recordings with the same sound (0: none), in the memory of their names."""
        with self._lock:
            self._crowd = _Crowd(StoredFile("wav", content), count) if count else None
            self._listing = None

    def file(self, name: str) -> StoredFile | None:
        """The recording of that name, None where there is none."""
        with self._lock:
            found = self._files.get(name)
            if found is None and (crowd := self._crowd) is not None and name not in crowd.gone:
                return crowd.file if name in _crowd_set(crowd.count) else None
            return found

    def content(self, name: str) -> bytes:
        """The sound of a recording. Raises KeyError for one that isn't there."""
        found = self.file(name)
        if found is None:
            raise KeyError(name)
        return found.read()

    def names(self) -> list[str]:
        """All names in the order in which Asterisk lists them: by their bytes, each once."""
        with self._lock:
            return self._names()

    def _names(self) -> list[str]:
        crowded = [] if self._crowd is None else self._crowd.names()
        return sorted({*self._files, *crowded})

    def listing(self) -> bytes | None:
        """What ARI answers to `GET /recordings/stored`, JSON; None where Asterisk fails: a name that isn't UTF-8."""
        with self._lock:
            if self._listing is None:
                known, crowded = self._files, StoredFile("wav", b"")
                items = [
                    {"name": name, "format": known.get(name, crowded).format}
                    for name in sorted([*self._names(), *(name for name in self._twice if name in known)])
                ]
                text = json.dumps(items, ensure_ascii=False, separators=(",", ":"))
                try:
                    self._listing = text.encode()
                except UnicodeEncodeError:
                    return None
            return self._listing

    def __len__(self) -> int:
        with self._lock:
            return len(self._names())


@lru_cache(maxsize=1)
def crowd_names(count: int) -> tuple[str, ...]:
    """The names of a crowd: calls into queue 600, one every half a minute of one spring."""
    names, begun_s = [], int(_CROWD_FROM.timestamp())
    for at_s in range(0, 30 * count, 30):
        if at_s % 86_400 == 0:
            day = _CROWD_FROM + timedelta(seconds=at_s)
            folder, date = f"{day:%Y/%m/%d}", f"{day:%Y%m%d}"
        minute, second = divmod(at_s % 86_400, 60)
        hour, minute = divmod(minute, 60)
        clock, number = f"{hour:02}{minute:02}{second:02}", at_s // 30
        names.append(f"{folder}/q-600-02079460{number % 1000:03}-{date}-{clock}-{begun_s + at_s}.{number}")
    return tuple(names)


@lru_cache(maxsize=1)
def _crowd_set(count: int) -> frozenset[str]:
    return frozenset(crowd_names(count))


def name_of(call: PlannedCall) -> str:
    """The name that FreePBX gives to the recording of a queue's call, with its folders of year, month and day."""
    at = call.started_at.astimezone(ZoneInfo(ZONE))
    return f"{at:%Y/%m/%d}/q-{call.queue}-{call.from_number}-{at:%Y%m%d-%H%M%S}-{call.uniqueid}"


def stock_shelf(now: datetime, seed: int = 1) -> Shelf:
    """The shelf with the story's recorded calls as they are on it at `now`."""
    shelf = Shelf()
    for call in recorded_calls(now, seed):
        shelf.add(name_of(call), script(call.recording).sound)
    return shelf
