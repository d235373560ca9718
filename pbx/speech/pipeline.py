"""Follows a recording through a speech engine: finds speech, hands out windows, and collects their segments.

Independent of the engine. Segments may come back in any order and are passed on in the recording's order, up to a
point where a killed worker can continue without losing or repeating a word.
"""

import math
from collections.abc import Iterator

import numpy as np

from pbx.model.segment import Segment
from pbx.speech.audio import has_separate_speakers, read_sound
from pbx.speech.audio_windows import RATE_HZ, Window, WindowPacker, WindowSamples
from pbx.speech.tones import Tone, ToneDetector, resolve_overlaps
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart
from pbx.speech.vad import SpeechSpan, VoiceDetector

_BLOCK_S = 60.0
_REACH_S = 0.5  # a ring also discards speech this close to it
_PATIENCE_S = 120.0  # the longest a half-filled window waits: later speech of others can't be passed on before it
_LONG_S = 40.0  # longer speech without a pause is packed before its end is known


class Track:
    """One channel: its detectors, its packer, and the spans and tones found so far."""

    def __init__(self, channel: int, start_s: float, max_spans: int | None) -> None:
        self._channel = channel
        self._voice = VoiceDetector(start_s)
        self._tone = ToneDetector(start_s)
        self._packer = WindowPacker(channel, start_s, max_spans)
        self._fed_s = start_s
        self._waiting: list[SpeechSpan] = []  # in which a tone may still be found
        self._spoken: list[SpeechSpan] = []  # packed; they may still split music
        self._tones: list[Tone] = []  # that a span may still split, or that may still discard a span
        self.voice: list[tuple[float, float]] = []  # packed, and not yet before `done_s`
        self.tones: list[tuple[float, float]] = []  # likewise
        self.tone_segments: list[Segment] = []  # music and ringing, until they are collected

    @property
    def settled_s(self) -> float:
        """All speech and tones that begin before this are known, and the speech is in windows that were handed out."""
        pending = [] if self._packer.pending_s is None else [self._packer.pending_s]
        waiting = [span.start_s for span in self._waiting] + [tone.start_s for tone in self._tones]
        return min(self._voice.settled_s, self._tone.settled_s, *pending, *waiting)

    def feed(self, sound: WindowSamples) -> list[Window]:
        """Take the channel's next samples and return the full windows."""
        self._waiting += self._voice.feed(sound)
        self._tones += self._tone.feed(sound)
        self._fed_s += len(sound) / RATE_HZ
        windows = self._pack(sound, self._voice.settled_s, self._tone.settled_s)
        pending_s = self._packer.pending_s
        if pending_s is not None and self._fed_s - pending_s > _PATIENCE_S:
            windows += self._packer.finish()
        return windows

    def finish(self) -> list[Window]:
        """Return the last windows."""
        self._waiting += self._voice.finish()
        self._tones += self._tone.finish()
        return self._pack(np.zeros(0, np.float32), math.inf, math.inf) + self._packer.finish()

    def _pack(self, sound: WindowSamples, voice_s: float, tone_s: float) -> list[Window]:
        """Pack the spans that no later tone can affect: speech before `voice_s` and tones before `tone_s` are known."""
        ready = [span for span in self._waiting if span.end_s <= tone_s]
        self._waiting = self._waiting[len(ready) :]
        open_s = min([voice_s, *(span.start_s for span in self._waiting)])
        self._tones.sort(key=lambda tone: tone.start_s)
        _, spoken = resolve_overlaps(self._tones, ready)
        self._spoken += spoken
        self._add_tone_segments(open_s)
        spans = [(span.start_s, span.end_s) for span in spoken]
        self.voice += spans
        speaking = not self._waiting and self._fed_s - voice_s > _LONG_S
        return self._packer.feed(sound, spans, open_s, speaking)

    def _add_tone_segments(self, open_s: float) -> None:
        """Turn tones into segments where no later speech, which begins at `open_s` at the earliest, can affect them."""
        over = [tone for tone in self._tones if tone.end_s + _REACH_S <= open_s]
        self._tones = [tone for tone in self._tones if tone.end_s + _REACH_S > open_s]
        left, _ = resolve_overlaps(over, self._spoken)
        self.tone_segments += [
            Segment(tone.start_s, tone.end_s, self._channel, "", flags=(tone.kind,)) for tone in left
        ]
        self.tones += [(tone.start_s, tone.end_s) for tone in left]
        waiting_s = min([open_s, *(tone.start_s for tone in self._tones)])
        self._spoken = [span for span in self._spoken if span.end_s > waiting_s]


class RecordingInProgress:
    """One source while it is transcribed. `index`: the source's; `language`: set once it is known."""

    def __init__(self, index: int, source: TranscriptionSource, max_spans: int | None = None) -> None:
        self.index = index
        self.source = source
        self.language: str | None = None
        self.ended = False  # the recording was read to its end
        self.done_s = source.start_s
        self._max_spans = max_spans
        self._tracks: list[Track] = []
        self._fed_s = source.start_s
        self._open: list[Window] = []  # handed out and not returned yet
        self._ready: list[Segment] = []
        self._finished = False  # the last part was returned

    def listen(self) -> Iterator[list[Window]]:
        """Read the recording and yield the windows of each minute, none for silence.

        Raises DataError when it can't be read, ModelError when the voice detector is missing.
        """
        apart = has_separate_speakers(self.source.path)
        for block in read_sound(self.source.path, _BLOCK_S, self.source.start_s):
            rows = block if apart else block[:1]
            if not self._tracks:
                self._tracks = [Track(i, self.source.start_s, self._max_spans) for i in range(len(rows))]
            self._fed_s += block.shape[1] / RATE_HZ
            yield self._hand_out([w for track, row in zip(self._tracks, rows, strict=True) for w in track.feed(row)])
        last = [window for track in self._tracks for window in track.finish()]
        self.ended = True
        yield self._hand_out(last)

    def take(self, window: Window, segments: list[Segment]) -> None:
        """Take a decoded window's segments."""
        self._open.remove(window)
        self._ready += segments

    def part(self) -> TranscriptPart | None:
        """Return what is newly known, or None; the last part has `is_last` set, and none follows it."""
        is_last = self.ended and not self._open
        done_s = max(self._fed_s if is_last else self._known_until(), self.done_s)
        if self._finished or (done_s <= self.done_s and not is_last):
            return None
        self._finished = is_last
        ready = sorted((s for s in self._ready if is_last or s.start_s < done_s), key=lambda s: (s.start_s, s.channel))
        self._ready = [] if is_last else [s for s in self._ready if s.start_s >= done_s]
        part = TranscriptPart(
            self.index,
            tuple(ready),
            done_s,
            self._fed_s if self.ended else None,
            max(1, len(self._tracks)),
            self._voiced(done_s),
            self.language,
            is_last,
        )
        self.done_s = done_s
        return part

    def _hand_out(self, windows: list[Window]) -> list[Window]:
        self._open += windows
        for track in self._tracks:
            self._ready += track.tone_segments
            track.tone_segments = []
        return windows

    def _known_until(self) -> float:
        """Return the latest time before which all is known and which no speech crosses: no word is repeated later."""
        settled = [] if self.ended else [track.settled_s for track in self._tracks]
        done_s = min([*settled, *(window.start_s for window in self._open)], default=self.done_s)
        spans = [span for track in self._tracks for span in (*track.voice, *track.tones)]
        while across := [start for start, end in spans if start < done_s < end]:
            done_s = min(across)
        return done_s

    def _voiced(self, done_s: float) -> float:
        """Return the seconds of speech that begin before `done_s` and weren't counted yet."""
        voiced_s = 0.0
        for track in self._tracks:
            voiced_s += sum(end - start for start, end in track.voice if start < done_s)
            track.voice = [span for span in track.voice if span[0] >= done_s]
            track.tones = [span for span in track.tones if span[0] >= done_s]
        return voiced_s
