"""A recording on its way through a speech engine: what is voice, in which window it went, and how far it is done.

No engine is in here: it hands out windows, takes their segments back in any order, and gives them on in the
recording's order, up to where a killed worker may go on without losing or repeating a word.
"""

import math
from collections.abc import Iterator

import numpy as np

from pbx.model.segment import Segment
from pbx.speech.audio import read_sound, speakers_apart
from pbx.speech.tones import Tone, ToneDetector, settle_claims
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart
from pbx.speech.vad import SpeechSpan, VoiceDetector
from pbx.speech.windows import RATE_HZ, Window, WindowPacker, WindowSamples

_BLOCK_S = 60.0
_REACH_S = 0.5  # how far a ring takes voice away beside it
_PATIENCE_S = 120.0  # a phrase of who says little waits so long for company: what others say can't be told before
_LONG_S = 40.0  # who speaks for so long without a pause is packed before the end is known


class Track:
    """One channel: its detectors, its packer, and the stretches and tones found."""

    def __init__(self, channel: int, start_s: float, stretches_per_window: int | None) -> None:
        self._channel = channel
        self._voice = VoiceDetector(start_s)
        self._tone = ToneDetector(start_s)
        self._packer = WindowPacker(channel, start_s, stretches_per_window)
        self._fed_s = start_s
        self._stretches: list[SpeechSpan] = []  # in which a tone may yet be found
        self._spoken: list[SpeechSpan] = []  # packed; they may yet cut a hole into music
        self._tones: list[Tone] = []  # into which a stretch may yet cut, or that may yet take one away
        self.voice: list[tuple[float, float]] = []  # packed, not yet passed by what is done
        self.tones: list[tuple[float, float]] = []  # likewise
        self.marks: list[Segment] = []  # music and rings, until somebody takes them

    @property
    def settled_s(self) -> float:
        """All voice and tones that begin before this are known, and the voice is in windows that were handed out."""
        pending = [] if self._packer.pending_s is None else [self._packer.pending_s]
        waiting = [stretch.start_s for stretch in self._stretches] + [tone.start_s for tone in self._tones]
        return min(self._voice.settled_s, self._tone.settled_s, *pending, *waiting)

    def feed(self, sound: WindowSamples) -> list[Window]:
        """Take the channel's next samples; return the windows that are full."""
        self._stretches += self._voice.feed(sound)
        self._tones += self._tone.feed(sound)
        self._fed_s += len(sound) / RATE_HZ
        windows = self._pack(sound, self._voice.settled_s, self._tone.settled_s)
        pending_s = self._packer.pending_s
        if pending_s is not None and self._fed_s - pending_s > _PATIENCE_S:
            windows += self._packer.finish()
        return windows

    def finish(self) -> list[Window]:
        """The last windows."""
        self._stretches += self._voice.finish()
        self._tones += self._tone.finish()
        return self._pack(np.zeros(0, np.float32), math.inf, math.inf) + self._packer.finish()

    def _pack(self, sound: WindowSamples, voice_s: float, tone_s: float) -> list[Window]:
        """Pack the stretches that no tone to come can touch: what begins before `voice_s`, or `tone_s`, was found."""
        ready = [stretch for stretch in self._stretches if stretch.end_s <= tone_s]
        self._stretches = self._stretches[len(ready) :]
        open_s = min([voice_s, *(stretch.start_s for stretch in self._stretches)])
        self._tones.sort(key=lambda tone: tone.start_s)
        _, spoken = settle_claims(self._tones, ready)
        self._spoken += spoken
        self._mark(open_s)
        spans = [(stretch.start_s, stretch.end_s) for stretch in spoken]
        self.voice += spans
        speaking = not self._stretches and self._fed_s - voice_s > _LONG_S
        return self._packer.feed(sound, spans, open_s, speaking)

    def _mark(self, open_s: float) -> None:
        """Make segments of the tones that no voice to come can touch, which begins at `open_s` at the earliest."""
        over = [tone for tone in self._tones if tone.end_s + _REACH_S <= open_s]
        self._tones = [tone for tone in self._tones if tone.end_s + _REACH_S > open_s]
        left, _ = settle_claims(over, self._spoken)
        self.marks += [Segment(tone.start_s, tone.end_s, self._channel, "", flags=(tone.kind,)) for tone in left]
        self.tones += [(tone.start_s, tone.end_s) for tone in left]
        waiting_s = min([open_s, *(tone.start_s for tone in self._tones)])
        self._spoken = [stretch for stretch in self._spoken if stretch.end_s > waiting_s]


class RecordingInProgress:
    """One source while it is transcribed. `index`: of the source; `language`: set when it is known."""

    def __init__(self, index: int, source: TranscriptionSource, stretches_per_window: int | None = None) -> None:
        self.index = index
        self.source = source
        self.language: str | None = None
        self.ended = False  # all of it was listened to
        self.done_s = source.start_s
        self._stretches = stretches_per_window
        self._tracks: list[Track] = []
        self._fed_s = source.start_s
        self._open: list[Window] = []  # handed out, and not back
        self._ready: list[Segment] = []
        self._told = False  # the last part was taken

    def listen(self) -> Iterator[list[Window]]:
        """Read the recording and yield the windows of each minute, none for silence.

        Raises DataError when it can't be read, ModelError when the voice detector is missing.
        """
        apart = speakers_apart(self.source.path)
        for block in read_sound(self.source.path, _BLOCK_S, self.source.start_s):
            rows = block if apart else block[:1]
            if not self._tracks:
                self._tracks = [Track(i, self.source.start_s, self._stretches) for i in range(len(rows))]
            self._fed_s += block.shape[1] / RATE_HZ
            yield self._out([w for track, row in zip(self._tracks, rows, strict=True) for w in track.feed(row)])
        last = [window for track in self._tracks for window in track.finish()]
        self.ended = True
        yield self._out(last)

    def take(self, window: Window, segments: list[Segment]) -> None:
        """A window comes back with what was said in it."""
        self._open.remove(window)
        self._ready += segments

    def part(self) -> TranscriptPart | None:
        """What is newly known, if anything is; the last part is `whole`, and after it there is none."""
        whole = self.ended and not self._open
        done_s = max(self._fed_s if whole else self._frontier(), self.done_s)
        if self._told or (done_s <= self.done_s and not whole):
            return None
        self._told = whole
        ready = sorted((s for s in self._ready if whole or s.start_s < done_s), key=lambda s: (s.start_s, s.channel))
        self._ready = [] if whole else [s for s in self._ready if s.start_s >= done_s]
        part = TranscriptPart(
            self.index,
            tuple(ready),
            done_s,
            self._fed_s if self.ended else None,
            max(1, len(self._tracks)),
            self._voiced(done_s),
            self.language,
            whole,
        )
        self.done_s = done_s
        return part

    def _out(self, windows: list[Window]) -> list[Window]:
        self._open += windows
        for track in self._tracks:
            self._ready += track.marks
            track.marks = []
        return windows

    def _frontier(self) -> float:
        """Up to where all is known, and nothing on any channel reaches across: who goes on there repeats nothing."""
        settled = [] if self.ended else [track.settled_s for track in self._tracks]
        done_s = min([*settled, *(window.start_s for window in self._open)], default=self.done_s)
        spans = [span for track in self._tracks for span in (*track.voice, *track.tones)]
        while across := [start for start, end in spans if start < done_s < end]:
            done_s = min(across)
        return done_s

    def _voiced(self, done_s: float) -> float:
        """Seconds of voice that begin before `done_s` and weren't counted yet."""
        voiced_s = 0.0
        for track in self._tracks:
            voiced_s += sum(end - start for start, end in track.voice if start < done_s)
            track.voice = [span for span in track.voice if span[0] >= done_s]
            track.tones = [span for span in track.tones if span[0] >= done_s]
        return voiced_s
