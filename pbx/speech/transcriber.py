"""What every speech engine offers, and which one the settings choose. Importing this imports no engine."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pbx.errors import PbxError
from pbx.model.segment import Segment


@dataclass(frozen=True, slots=True)
class TranscriptionSource:
    """A recording to transcribe. `language`: a Whisper code such as "en"; None: find out.

    `start_s`: where to go on, as all before it is transcribed already.
    """

    path: Path
    language: str | None = None
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TranscriptPart:
    """What is newly known of one source: segments in the order of their start, all that begin before `done_s`.

    Parts of one source come in order; the next has no segment that begins before this one's `done_s`. In the last,
    `whole` is set. When the source can't be read or decoded, its last part carries `error` instead.
    """

    source: int  # index into the sources given
    segments: tuple[Segment, ...] = ()
    done_s: float = 0.0
    duration_s: float | None = None  # of the recording, once known
    channels: int = 1  # speakers told apart: 2 for true stereo, 1 for mono and dual mono
    voiced_s: float = 0.0  # of speech in this part, all channels together
    language: str | None = None
    whole: bool = False
    error: PbxError | None = None


class Transcriber(Protocol):
    """A speech engine with its model loaded. Not for several threads at once."""

    engine: str  # "whisper" or "faster-whisper"
    model: str  # name or path, as asked for
    max_batch: int  # windows decoded at once; halved, and kept so, when memory runs out

    def transcribe(
        self, sources: Sequence[TranscriptionSource], stop: threading.Event | None = None
    ) -> Iterator[TranscriptPart]:
        """Transcribe recordings, windows of several decoded together; yield each part as soon as it is known.

        A source that fails ends in a part with its error and stops no other. When `stop` is set, ends within seconds.
        Raises ModelError when the model itself fails (memory runs out with a batch of one).
        """
        ...
