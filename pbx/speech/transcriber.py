"""The interface that every speech engine offers. Importing this module imports no engine."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pbx.errors import PbxError
from pbx.model.segment import Segment


@dataclass(frozen=True, slots=True)
class TranscriptionSource:
    """A recording to transcribe.

    `language`: a Whisper code such as "en"; None: detect it. `start_s`: where to continue, as everything before it is
    transcribed already.
    """

    path: Path
    language: str | None = None
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TranscriptPart:
    """The newest part of one source's transcript: all segments that begin before `done_s`, in the order of their start.

    Parts of one source come in order; the next part has no segment that begins before this one's `done_s`. The last
    part has `is_last` set, or `error` when the source can't be read or decoded.
    """

    source: int  # index into the sources given
    segments: tuple[Segment, ...] = ()
    done_s: float = 0.0
    duration_s: float | None = None  # of the recording, once known
    channels: int = 1  # separate speakers: 2 for true stereo, 1 for mono and dual mono
    voiced_s: float = 0.0  # seconds of speech in this part, all channels together
    language: str | None = None
    is_last: bool = False
    error: PbxError | None = None


class Transcriber(Protocol):
    """A speech engine with its model loaded. Use it from one thread at a time."""

    engine: str  # "whisper" or "faster-whisper"
    model: str  # name or path, as requested
    max_batch: int  # windows decoded together; halved for good when memory runs out

    def transcribe(
        self, sources: Sequence[TranscriptionSource], stop: threading.Event | None = None
    ) -> Iterator[TranscriptPart]:
        """Transcribe recordings, decoding windows of several together; yield each part as soon as it is complete.

        A source that fails ends in a part with its error; the others continue. Ends within seconds when `stop` is set.
        Raises ModelError when the model itself fails (memory runs out with a batch of one).
        """
        ...
