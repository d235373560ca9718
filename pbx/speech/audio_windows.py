"""Packs the speech of a channel into windows of 30 seconds, and converts times in a window to times in the recording.

Whisper's encoder always reads 30 seconds, so its cost is the number of windows. Silence is left out, except for short
gaps that keep phrases apart. Pure and streaming: only sound that is not packed yet stays in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE_HZ = 16_000
WINDOW_S = 30.0
_WINDOW = int(WINDOW_S * RATE_HZ)
_GAP = int(0.2 * RATE_HZ)  # between spans: enough for the model to end a phrase
_CUT_FROM = int(20.0 * RATE_HZ)  # a longer span is cut at the quietest point between here and the window's end
_QUIET = int(0.1 * RATE_HZ)  # over which loudness is measured

WindowSamples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SampleRun:
    """Samples `start` to `stop` of the recording, which begin at `at` in their window (all in samples)."""

    start: int
    stop: int
    at: int

    @property
    def start_s(self) -> float:
        return self.start / RATE_HZ

    @property
    def end_s(self) -> float:
        return self.stop / RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Up to 30 s of one channel's speech: `sound` at 16 kHz, and where its pieces come from, in order."""

    channel: int
    pieces: tuple[SampleRun, ...]
    sound: WindowSamples

    @property
    def start_s(self) -> float:
        return self.pieces[0].start_s

    def piece_at(self, window_s: float) -> int:
        """Return the index of the piece at a time in the window; in a gap, the index of the nearer one."""
        at = window_s * RATE_HZ

        def away(index: int) -> float:
            piece = self.pieces[index]
            return max(piece.at - at, at - (piece.at + piece.stop - piece.start), 0.0)

        return min(range(len(self.pieces)), key=away)

    def time_at(self, window_s: float, piece: int | None = None) -> float:
        """Convert seconds in the window to seconds in the recording, within a piece (None: the piece at that time)."""
        found = self.pieces[self.piece_at(window_s) if piece is None else piece]
        offset = min(max(window_s * RATE_HZ - found.at, 0.0), float(found.stop - found.start))
        return (found.start + offset) / RATE_HZ

    def span_of(self, piece: int) -> tuple[float, float]:
        """Return the start and end of a piece in the window, in seconds."""
        found = self.pieces[piece]
        return found.at / RATE_HZ, (found.at + found.stop - found.start) / RATE_HZ

    def unpacked(self) -> "list[Window]":
        """Return each piece in a window of its own."""
        return [
            Window(self.channel, (SampleRun(p.start, p.stop, 0),), self.sound[p.at : p.at + p.stop - p.start])
            for p in self.pieces
        ]


class WindowPacker:
    """Packs one channel. Feed it sound with the speech spans that end in it; it returns windows as they fill.

    `start_s`: where in the recording the sound begins. `max_spans`: the most spans in a window (None: as many as fit).
    """

    def __init__(self, channel: int = 0, start_s: float = 0.0, max_spans: int | None = None) -> None:
        self._channel = channel
        self._max_spans = max_spans
        self._held_from = round(start_s * RATE_HZ)  # the recording's sample that `_held` begins with
        self._held: WindowSamples = np.zeros(0, np.float32)
        self._pieces: list[tuple[int, int, WindowSamples]] = []  # of the window being packed: start, stop, sound
        self._filled = 0  # samples of it

    @property
    def pending_s(self) -> float | None:
        """The start of the earliest speech that was fed and is in no window yet, in seconds."""
        return self._pieces[0][0] / RATE_HZ if self._pieces else None

    def feed(
        self, sound: WindowSamples, spans: Sequence[tuple[float, float]], settled_s: float, speaking: bool = False
    ) -> list[Window]:
        """Take the next samples (16 kHz) and the speech spans found since, as seconds in the recording.

        No later span may begin before `settled_s`: earlier sound is dropped. `speaking`: a span that began at
        `settled_s` is still open; all of it but the last half minute is packed now, the rest once it ends.
        """
        self._held = np.concatenate([self._held, sound.astype(np.float32, copy=False)])
        end = self._held_from + len(self._held)
        windows: list[Window] = []
        for start_s, end_s in spans:
            start = max(round(start_s * RATE_HZ), self._held_from)
            stop = min(round(end_s * RATE_HZ), end)
            if stop > start:
                windows += self._place(start, stop)
        keep = max(round(min(settled_s, end / RATE_HZ) * RATE_HZ), self._held_from)
        while speaking and end - keep > _WINDOW:
            cut = self._quietest(keep)
            windows += self._place(keep, cut)
            keep = cut
        self._held = self._held[keep - self._held_from :].copy()
        self._held_from = keep
        return windows

    def finish(self) -> list[Window]:
        """Return the last window, if any speech is left."""
        return self._close()

    def _place(self, start: int, stop: int) -> list[Window]:
        windows: list[Window] = []
        for first, last in self._cut(start, stop):
            gap = _GAP if self._pieces else 0
            full = self._max_spans is not None and len(self._pieces) >= self._max_spans
            if self._pieces and (full or self._filled + gap + last - first > _WINDOW):
                windows += self._close()
                gap = 0
            self._pieces.append((first, last, self._sound(first, last).copy()))
            self._filled += gap + last - first
        return windows

    def _cut(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Cut a span into parts no longer than a window."""
        cuts: list[tuple[int, int]] = []
        while stop - start > _WINDOW:
            at = self._quietest(start)
            cuts.append((start, at))
            start = at
        return [*cuts, (start, stop)]

    def _quietest(self, start: int) -> int:
        """Return where to cut a span that begins at `start` and is longer than a window."""
        tail = self._sound(start + _CUT_FROM, start + _WINDOW)
        power = (tail[: len(tail) // _QUIET * _QUIET].reshape(-1, _QUIET) ** 2).sum(axis=1)
        return start + _CUT_FROM + int(power.argmin()) * _QUIET + _QUIET // 2

    def _sound(self, start: int, stop: int) -> WindowSamples:
        return self._held[start - self._held_from : stop - self._held_from]

    def _close(self) -> list[Window]:
        if not self._pieces:
            return []
        sound = np.zeros(self._filled, np.float32)
        pieces: list[SampleRun] = []
        at = 0
        for start, stop, part in self._pieces:
            pieces.append(SampleRun(start, stop, at))
            sound[at : at + len(part)] = part
            at += len(part) + _GAP
        self._pieces, self._filled = [], 0
        return [Window(self._channel, tuple(pieces), sound)]
