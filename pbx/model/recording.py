"""A recording: one audio file of a call, as the PBX lists it and as it is stored on this machine."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# A call without a known recording has the state "none".
RecordingState = Literal[
    "listed", "downloading", "downloaded", "waiting", "empty", "unreadable", "too_large", "missing", "failed", "none"
]
# A call or recording that nobody has queued for transcription is "new".
TranscriptionState = Literal["new", "queued", "transcribing", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording stored on the PBX, identified by its name in ARI. Kept after the PBX deletes it (`gone_at`)."""

    name: str
    format: str = "wav"
    type: str = ""  # FreePBX's word: out, in, external, internal, q, rg, exten ...; "" if FreePBX didn't name the file
    uniqueid: str = ""
    started_at: datetime | None = None
    state: RecordingState = "listed"
    reason: str = ""  # why it isn't downloaded, as shown to the analyst
    file: str = ""  # path below data/audio, once downloaded
    size_bytes: int | None = None
    duration_s: float | None = None
    downloaded_at: datetime | None = None
    gone_at: datetime | None = None  # when a sync found that the PBX no longer lists it
