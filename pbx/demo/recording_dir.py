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
    """One recording. Like an open file, it can still be read after it was deleted.

    `content` is the sound itself or the path of its file.
    """

    format: str
    content: bytearray | bytes | Path

    def read(self) -> bytes:
        """Its current content."""
        return self.content.read_bytes() if isinstance(self.content, Path) else bytes(self.content)


class RecordingDir:
    """The recordings of the demo PBX. Threads may share it.

    A name is the path below Asterisk's directory `recording`, without the extension. Python's "surrogateescape" keeps
    bytes of a name that aren't UTF-8; as in Asterisk, the listing then fails.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._listing: bytes | None = None  # None after a change

    def add(self, name: str, content: bytes | Path, format: str = "wav") -> None:
        """Add a recording. It replaces one of the same name in any format."""
        with self._lock:
            self._files[name] = StoredFile(format, content)
            self._listing = None

    def file(self, name: str) -> StoredFile | None:
        """The recording with this name, or None."""
        with self._lock:
            return self._find(name)

    def names(self) -> list[str]:
        """All names, each once, in the order in which Asterisk lists them: by their bytes."""
        with self._lock:
            return self._sorted_names()

    def listing(self) -> bytes | None:
        """ARI's answer to `GET /recordings/stored`, as JSON. None if Asterisk would fail because a name isn't UTF-8."""
        with self._lock:
            if self._listing is None:
                items = [{"name": name, "format": self._format(name)} for name in self._listed_names()]
                text = json.dumps(items, ensure_ascii=False, separators=(",", ":"))
                try:
                    self._listing = text.encode()
                except UnicodeEncodeError:
                    return None
            return self._listing

    def add_ended_calls(self, now: datetime) -> None:
        """Add the recordings of calls that ended before `now`."""
        for call in recorded_calls(now):
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
