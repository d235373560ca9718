"""Voiced stretches of a channel packed into windows of 30 seconds, and the way back from a window to the recording.

Whisper's encoder always reads 30 seconds, so what it costs is the number of windows; silence is left out, but for short
gaps that keep phrases apart. Pure and streaming: it holds the sound of what is not packed yet, and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE_HZ = 16_000
WINDOW_S = 30.0
_WINDOW = int(WINDOW_S * RATE_HZ)
_GAP = int(0.2 * RATE_HZ)  # between stretches: enough for the model to end a phrase
_CUT_FROM = int(20.0 * RATE_HZ)  # a stretch longer than a window is cut where it is quietest between here and the end
_QUIET = int(0.1 * RATE_HZ)  # measured over so much

WindowSamples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SampleRun:
    """A run of samples of the recording, `start` up to `stop`, that lies at `at` in its window (all in samples)."""

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
    """Up to 30 s of one channel's voice: `sound` at 16 kHz, and where its pieces come from, in their order."""

    channel: int
    pieces: tuple[SampleRun, ...]
    sound: WindowSamples

    @property
    def start_s(self) -> float:
        return self.pieces[0].start_s

    def piece_at(self, window_s: float) -> int:
        """The index of the piece under a time in the window; in a gap, of the nearer one."""
        at = window_s * RATE_HZ

        def away(index: int) -> float:
            piece = self.pieces[index]
            return max(piece.at - at, at - (piece.at + piece.stop - piece.start), 0.0)

        return min(range(len(self.pieces)), key=away)

    def time_at(self, window_s: float, piece: int | None = None) -> float:
        """Seconds in the recording for seconds in the window, never outside of the piece (the one under it if None)."""
        found = self.pieces[self.piece_at(window_s) if piece is None else piece]
        offset = min(max(window_s * RATE_HZ - found.at, 0.0), float(found.stop - found.start))
        return (found.start + offset) / RATE_HZ

    def span_of(self, piece: int) -> tuple[float, float]:
        """From when to when a piece lies in the window, in seconds."""
        found = self.pieces[piece]
        return found.at / RATE_HZ, (found.at + found.stop - found.start) / RATE_HZ

    def unpacked(self) -> "list[Window]":
        """Each piece in a window of its own."""
        return [
            Window(self.channel, (SampleRun(p.start, p.stop, 0),), self.sound[p.at : p.at + p.stop - p.start])
            for p in self.pieces
        ]


class WindowPacker:
    """Packs one channel. Feed it sound with the stretches that end in it; it gives windows as they fill.

    `start_s`: where in the recording the sound begins. `stretches_per_window`: at most so many (None: what fits).
    """

    def __init__(self, channel: int = 0, start_s: float = 0.0, stretches_per_window: int | None = None) -> None:
        self._channel = channel
        self._most = stretches_per_window
        self._held_from = round(start_s * RATE_HZ)  # the recording's sample that `_held` begins with
        self._held: WindowSamples = np.zeros(0, np.float32)
        self._pieces: list[tuple[int, int, WindowSamples]] = []  # of the window being packed: start, stop, sound
        self._filled = 0  # samples of it

    @property
    def pending_s(self) -> float | None:
        """The start of the earliest voice that is in no window yet, of what was fed."""
        return self._pieces[0][0] / RATE_HZ if self._pieces else None

    def feed(
        self, sound: WindowSamples, stretches: Sequence[tuple[float, float]], settled_s: float, speaking: bool = False
    ) -> list[Window]:
        """Take the next samples (16 kHz) and the voiced stretches found since, as seconds in the recording.

        No later stretch may begin before `settled_s`: the sound before it is let go. `speaking`: a stretch has been
        going on since `settled_s`; all of it but the last half minute is packed, and only the rest of it when it comes.
        """
        self._held = np.concatenate([self._held, sound.astype(np.float32, copy=False)])
        end = self._held_from + len(self._held)
        windows: list[Window] = []
        for start_s, end_s in stretches:
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
        """What is left, as the last window, if anything is."""
        return self._close()

    def _place(self, start: int, stop: int) -> list[Window]:
        windows: list[Window] = []
        for first, last in self._cut(start, stop):
            gap = _GAP if self._pieces else 0
            full = self._most is not None and len(self._pieces) >= self._most
            if self._pieces and (full or self._filled + gap + last - first > _WINDOW):
                windows += self._close()
                gap = 0
            self._pieces.append((first, last, self._sound(first, last).copy()))
            self._filled += gap + last - first
        return windows

    def _cut(self, start: int, stop: int) -> list[tuple[int, int]]:
        """In parts no longer than a window."""
        cuts: list[tuple[int, int]] = []
        while stop - start > _WINDOW:
            at = self._quietest(start)
            cuts.append((start, at))
            start = at
        return [*cuts, (start, stop)]

    def _quietest(self, start: int) -> int:
        """Where to cut a stretch that begins at `start` and is longer than a window."""
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
