"""The demo PBX's recording directory: names and sounds, as ARI lists and serves them."""

import json
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pbx.demo.company import ZONE, PlannedCall
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.simulated_history import recorded_calls


@dataclass(slots=True)
class StoredFile:
    """One recording. Whoever holds it can go on reading after it was deleted, as with an open file.

    `content` is the sound itself or the path of its file.
    """

    format: str
    content: bytearray | bytes | Path

    @property
    def size_bytes(self) -> int:
        """Its current length."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def read(self) -> bytes:
        """Its current content."""
        return self.content.read_bytes() if isinstance(self.content, Path) else bytes(self.content)


class RecordingDir:
    """The recordings of the demo PBX. Safe to share among threads: the story adds recordings, the server reads them.

    A name is the path below `recording` without the extension. Bytes of a name that aren't UTF-8 are kept as Python's
    "surrogateescape" has them, and make the listing fail as they do in Asterisk.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._listing: bytes | None = None  # until something changes

    def add(self, name: str, content: bytes | Path, format: str = "wav") -> None:
        """Add a recording; another file of that name in any format is replaced."""
        with self._lock:
            self._files[name] = StoredFile(format, content)
            self._listing = None

    def file(self, name: str) -> StoredFile | None:
        """The recording of that name, None where there is none."""
        with self._lock:
            return self._find(name)

    def names(self) -> list[str]:
        """All names in the order in which Asterisk lists them: by their bytes, each once."""
        with self._lock:
            return self._sorted_names()

    def listing(self) -> bytes | None:
        """ARI's answer to `GET /recordings/stored`, as JSON. None where Asterisk fails: a name isn't UTF-8."""
        with self._lock:
            if self._listing is None:
                items = [{"name": name, "format": self._format(name)} for name in self._listed_names()]
                text = json.dumps(items, ensure_ascii=False, separators=(",", ":"))
                try:
                    self._listing = text.encode()
                except UnicodeEncodeError:
                    return None
            return self._listing

    def add_ended_calls(self, now: datetime, seed: int = 1) -> None:
        """Add the recordings of the story's calls that have ended."""
        for call in recorded_calls(now, seed):
            if self.file(recording_name(call)) is None:
                self.add(recording_name(call), SAMPLE_RECORDINGS[call.recording].sound)

    def _find(self, name: str) -> StoredFile | None:
        return self._files.get(name)

    def _format(self, name: str) -> str:
        return self._files[name].format if name in self._files else "wav"

    def _sorted_names(self) -> list[str]:
        return sorted(self._files)

    def _listed_names(self) -> list[str]:
        return self._sorted_names()


def recording_name(call: PlannedCall) -> str:
    """FreePBX's name for the recording of a queue call, with its folders of year, month and day."""
    at = call.started_at.astimezone(ZoneInfo(ZONE))
    return f"{at:%Y/%m/%d}/q-{call.queue}-{call.from_number}-{at:%Y%m%d-%H%M%S}-{call.uniqueid}"
