"""Detects hold music and ring-back on one channel: streaming, in times of the recording.

Music holds its pitches: a note stays at one place in the spectrum for a quarter of a second, then another follows. The
partials of a voice glide, and those of noise, clicks and clipping are short. Over five seconds, such partials have 0 to
8% of the energy of telephone speech, and 10 to 90% of that of Asterisk's own hold music. A tone that never changes
(hum, dialling tone) is not music. Ring-back is a pure tone around 425 Hz of even level that stops after 0.8 to 3 s (or
comes twice for 0.4 s), as in ITU-T E.180; engaged tones are shorter or never pause, and are not reported.

Limits: music is only reported when it is certain. Drums, rap, and music shorter than 6 s are missed; edges are exact to
a second or two; music softer than -55 dBFS counts as silence; speech codecs (GSM, G.729) distort pitches, so more music
is missed. For speech over music see `resolve_overlaps`. Ring-back of other pitches, or that is music, is not detected.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pbx.speech.audio import SPEECH_HZ
from pbx.speech.vad import SpeechSpan, VadSamples

_SIZE, _HOP = 2048, 1024  # samples of a spectrum (128 ms, 7.8 Hz per bin), and between two spectra
_HOP_S = _HOP / SPEECH_HZ
_BIN_HZ = SPEECH_HZ / _SIZE
_LOW, _HIGH = round(200 / _BIN_HZ), round(3400 / _BIN_HZ)  # the telephone band
_HELD = 4  # hops for which a partial of music stays in place: a quarter of a second
_ABOVE = 15.0  # a partial's power over the median around it (12 dB); noise exceeds it in one of a million bins
_SOFT = 10 ** (-55 / 10)  # mean square below which sound is silence
_RING = (round(370 / _BIN_HZ) - _LOW, round(510 / _BIN_HZ) - _LOW)
_PURE = 0.9  # share of the power in that band during a ring
_BATCH = 128  # spectra per batch, 8 s: limits memory
_CELL = 16  # spectra that are assessed together: 1.02 s
_BEGINS, _LASTS = 0.2, 0.12  # share of power in held partials over five cells, at which music begins and continues
_LEAST_MUSIC_S, _LONGEST_S = 6.0, 60.0


@dataclass(frozen=True, slots=True)
class Tone:
    """Hold music, or the other phone ringing, from `start_s` to `end_s` of the recording."""

    start_s: float
    end_s: float
    kind: Literal["music", "ringing"]


@dataclass(slots=True)
class _SecondOfSound:
    """A second of sound: its share of held partials, and the strongest ones by bin."""

    start_s: float
    weight: float  # sum of the spectra's amplitudes: loud sound counts most
    held: float  # the same, each times its share of held partials
    first_s: float  # of the spectra with held partials; after the cell when there are none
    last_s: float
    bins: Counter[int]

    @property
    def share(self) -> float:
        return self.held / self.weight if self.weight else 0.0


class ToneDetector:
    """Finds hold music and ring-back on one channel, fed in blocks of any length. Keeps the data of a few seconds.

    `at_s`: where in the recording the first block begins. Tones of one kind come in order and don't overlap. Tones of
    more than a minute come in pieces; those of music touch. A detector is for one channel and one thread.
    """

    def __init__(self, at_s: float = 0.0) -> None:
        self._begin_s = at_s
        self._fed = 0
        self._spectra = _Spectra()
        self._rings = _Rings()
        self._music = _Music()
        self._count = 0  # spectra so far
        self._cell: list[tuple[float, float, int]] = []  # amplitude, share and strongest bin of each spectrum

    @property
    def settled_s(self) -> float:
        """No tone that is still to be reported begins before this, in seconds."""
        now_s = self._begin_s + (self._count - len(self._cell)) * _HOP_S
        return min(self._music.settled_s(self._begin_s), self._rings.settled_s, now_s)

    def feed(self, block: VadSamples) -> list[Tone]:
        """Take the next float32 samples (-1 to 1, 16 kHz) and return the tones that are now certain."""
        self._fed += len(block)
        found: list[Tone] = []
        for powers, held in self._spectra.feed(block):
            found += self._judge(powers, held)
        return found

    def finish(self) -> list[Tone]:
        """Return the last tones. The detector takes no more sound."""
        end_s = self._begin_s + self._fed / SPEECH_HZ
        found = self._rings.finish()
        if self._cell:
            found += self._music.feed(self._close_cell())
        return [replace(tone, end_s=min(tone.end_s, end_s)) for tone in found + self._music.finish()]

    def _judge(self, powers: NDArray[np.float32], held: NDArray[np.float32]) -> Iterator[Tone]:
        total = powers.sum(axis=1)
        share = np.where(total > _SOFT, held.sum(axis=1) / np.maximum(total, _SOFT), 0.0)
        pure = powers[:, _RING[0] : _RING[1]].sum(axis=1) > _PURE * total
        for power, part, strongest, is_pure in zip(total, share, held.argmax(axis=1), pure, strict=True):
            at_s = self._begin_s + self._count * _HOP_S
            yield from self._rings.feed(at_s, float(power), bool(is_pure))
            self._cell.append((float(power) ** 0.5, float(part), int(strongest)))
            self._count += 1
            if len(self._cell) == _CELL:
                yield from self._music.feed(self._close_cell())

    def _close_cell(self) -> _SecondOfSound:
        start_s = self._begin_s + (self._count - len(self._cell)) * _HOP_S
        tonal = [i for i, (_, share, _) in enumerate(self._cell) if share > 0.3]
        cell = _SecondOfSound(
            start_s,
            sum(weight for weight, _, _ in self._cell),
            sum(weight * share for weight, share, _ in self._cell),
            start_s + (max(tonal[0] - _HELD, 0) if tonal else _CELL) * _HOP_S,  # held: after _HELD hops
            start_s + (tonal[-1] + 2 if tonal else 0) * _HOP_S,
            Counter(self._cell[i][2] for i in tonal),
        )
        self._cell = []
        return cell


class _Spectra:
    """Computes power spectra of the telephone band, and the power in held partials."""

    def __init__(self) -> None:
        self._rest: VadSamples = np.zeros(0, np.float32)
        window = np.hanning(_SIZE)
        self._window = window.astype(np.float32)
        self._scale = np.float32(2 / (_SIZE * (window**2).sum()))  # powers add up to the mean square
        self._peaks: NDArray[np.bool_] = np.zeros((_HELD, _HIGH - _LOW), bool)  # of the spectra before

    def feed(self, block: VadSamples) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield (spectra, bins) of power, and the same of held power."""
        sound = np.concatenate([self._rest, np.asarray(block, np.float32)])
        count = max((len(sound) - _SIZE) // _HOP + 1, 0)
        for first in range(0, count, _BATCH):
            last = min(first + _BATCH, count)
            piece = sound[first * _HOP : (last - 1) * _HOP + _SIZE]
            yield self._analyse(np.lib.stride_tricks.sliding_window_view(piece, _SIZE)[::_HOP])
        self._rest = sound[count * _HOP :].copy()

    def _analyse(self, pieces: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        spectra = np.fft.rfft(pieces * self._window, axis=1)
        band = spectra[:, _LOW - 1 : _HIGH + 1]
        wide: NDArray[np.float32] = ((band.real**2 + band.imag**2) * self._scale).astype(np.float32, copy=False)
        below, powers, above = wide[:, :-2], wide[:, 1:-1], wide[:, 2:]
        peaks = (powers >= below) & (powers >= above) & (powers > _ABOVE * _medians(powers))
        near = np.concatenate([self._peaks, _widened(peaks)])
        held = peaks.copy()
        for back in range(1, _HELD + 1):
            held &= near[_HELD - back : len(near) - back]
        self._peaks = near[-_HELD:]
        return powers, np.where(held, below + powers + above, np.float32(0))


def _medians(powers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each bin the median of the 400 Hz around it, in steps of 8 bins."""
    bins = powers.shape[1]
    steps = [np.median(powers[:, max(0, at - 24) : at + 25], axis=1) for at in range(0, bins, 8)]
    return np.stack(steps, axis=1).repeat(8, axis=1)[:, :bins].astype(np.float32)


def _widened(peaks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark each peak's neighbours too: a partial between two bins alternates between them."""
    wide = peaks.copy()
    wide[:, 1:] |= peaks[:, :-1]
    wide[:, :-1] |= peaks[:, 1:]
    return wide


class _Music:
    """Finds music in cells: two thresholds on the mean of five cells, and more than one lasting tone."""

    def __init__(self) -> None:
        self._recent: deque[_SecondOfSound] = deque(maxlen=5)
        self._run: list[_SecondOfSound] = []  # cells of the current music
        self._reported_s: float | None = None  # end of what was reported of it

    def feed(self, cell: _SecondOfSound) -> list[Tone]:
        self._recent.append(cell)
        return self._step(self._recent[2]) if len(self._recent) == 5 else []

    def finish(self) -> list[Tone]:
        """Return the last music; the last two cells have no two after them."""
        found: list[Tone] = []
        for cell in list(self._recent)[-2:] if len(self._recent) > 2 else []:
            found += self._step(cell)
        return found + self._end()

    def settled_s(self, begin_s: float) -> float:
        if self._run:
            return self._run[0].start_s if self._reported_s is None else self._reported_s
        return self._recent[-4].start_s if len(self._recent) > 3 else begin_s  # the next step may go back this far

    def _step(self, cell: _SecondOfSound) -> list[Tone]:
        least = max(each.weight for each in self._recent) / 10  # silence counts as soft sound, so a beep isn't music
        weight = sum(max(each.weight, least) for each in self._recent)
        mean = sum(each.held for each in self._recent) / weight if weight else 0.0
        if mean < (_LASTS if self._run else _BEGINS):
            return self._end()
        if not self._run:  # the two cells before contributed, so the music may have begun with them
            for before in list(self._recent)[1::-1]:
                if before.share < _BEGINS:
                    break
                self._run.insert(0, before)
        self._run.append(cell)
        if cell.start_s - self._run[0].start_s < _LONGEST_S:
            return []
        tones = self._close(self._run[:-1], cell.start_s)
        self._reported_s = tones[0].end_s if tones else None
        self._run = [cell]
        return tones

    def _end(self) -> list[Tone]:
        while self._run and self._run[-1].share < _LASTS:
            self._run.pop()
        tones = self._close(self._run, self._run[-1].last_s) if self._run else []
        self._run, self._reported_s = [], None
        return tones

    def _close(self, run: Sequence[_SecondOfSound], end_s: float) -> list[Tone]:
        """Return the run as music, if it is long enough or continues music, and its pitches change."""
        start_s = self._reported_s
        if start_s is None:
            start_s = next((cell.first_s for cell in run if cell.share >= _LASTS), end_s)
            if end_s - start_s < _LEAST_MUSIC_S or not _is_varied(run):
                return []
        return [Tone(start_s, end_s, "music")] if end_s > start_s else []


def _is_varied(cells: Iterable[_SecondOfSound]) -> bool:
    """Whether more than three partials are the strongest at times, unlike in a dialling tone."""
    strongest: Counter[int] = Counter()
    for cell in cells:
        for bin_, number in cell.bins.items():
            strongest[bin_ // 2] += number
    return sum(number for _, number in strongest.most_common(3)) < 0.95 * strongest.total()


class _Rings:
    """Finds ring-back in spectra: bursts of an even, pure tone, joined over the silence between them."""

    _EVEN_DB = 3.0  # more than telephone noise changes a tone
    _BURST_S = (0.75, 3.2)  # one ring, or both short ones of a British ring
    _JOIN_S = 0.35  # pause within a ring
    _PAUSE_S = 6.5  # longest pause between rings

    def __init__(self) -> None:
        self._burst: list[tuple[float, float]] = []  # time and power of the current ring's spectra
        self._off: list[tuple[float, float]] = []  # the same, of the spectra since
        self._open: Tone | None = None  # rings that others may follow
        self._loud = 0  # loud, impure spectra in a row: speech

    @property
    def settled_s(self) -> float:
        first_s = self._burst[0][0] if self._burst else float("inf")
        return self._open.start_s if self._open else first_s

    def feed(self, at_s: float, power: float, pure: bool) -> list[Tone]:
        loudest = max((power for _, power in self._burst), default=0.0)
        found: list[Tone] = []
        if pure and power > max(_SOFT, loudest / 4):
            self._burst += [*self._off, (at_s, power)] if self._off and self._burst else [(at_s, power)]
            self._off = []
        elif self._burst:
            self._off.append((at_s, power))
            loud = power > loudest / 4 and not pure and len(self._off) > 2
            if loud or at_s - self._burst[-1][0] > self._JOIN_S:
                found = self._close()
        self._loud = 0 if pure or power < 10 * _SOFT else self._loud + 1
        if self._open and not self._burst and (self._loud > 3 or at_s - self._open.end_s > self._PAUSE_S):
            found.append(self._open)
            self._open = None
        return found

    def finish(self) -> list[Tone]:
        found = self._close() if self._burst else []
        if self._open:
            found.append(self._open)
        return found

    def _close(self) -> list[Tone]:
        """Join the burst to the rings before, or begin new ones; a burst that is no ring ends them."""
        burst, self._burst, self._off = self._burst, [], []
        loudest = max(power for _, power in burst)
        full = [power for _, power in burst if power > loudest / 2]
        start_s, end_s = burst[0][0] + _HOP_S / 2, burst[-1][0] + 1.5 * _HOP_S
        heard_s = len(full) * _HOP_S
        even = 10 * np.log10(loudest / min(full)) < self._EVEN_DB
        if not (even and heard_s >= self._BURST_S[0] * 0.8 and self._BURST_S[0] <= end_s - start_s <= self._BURST_S[1]):
            before, self._open = self._open, None
            return [before] if before else []
        self._open = Tone(self._open.start_s if self._open else start_s, end_s, "ringing")
        if end_s - self._open.start_s < _LONGEST_S:
            return []
        before, self._open = self._open, None
        return [before]


def find_tones(sound: VadSamples) -> list[Tone]:
    """Return hold music and ring-back of a channel, float32 (samples,) at 16 kHz, in order of their start."""
    detector = ToneDetector()
    return sorted(detector.feed(sound) + detector.finish(), key=lambda tone: (tone.start_s, tone.end_s))


def resolve_overlaps(tones: Sequence[Tone], voice: Sequence[SpeechSpan]) -> tuple[list[Tone], list[SpeechSpan]]:
    """Resolve overlaps of the tones and the speech of one channel, each in order; return what remains of both.

    A ring discards speech within it, because the voice detector sometimes takes pure tones for speech. Speech splits
    music, as somebody may talk over it; remaining music lasts at least a second.
    """
    rings = [tone for tone in tones if tone.kind == "ringing"]
    spoken = [s for s in voice if not any(r.start_s - 0.5 <= s.start_s and s.end_s <= r.end_s + 0.5 for r in rings)]
    left: list[Tone] = []
    for tone in tones:
        pieces = [tone]
        for span in spoken if tone.kind == "music" else []:
            if span.end_s > tone.start_s and span.start_s < tone.end_s:
                last = pieces.pop()
                pieces.append(replace(last, end_s=min(last.end_s, span.start_s)))
                pieces.append(replace(last, start_s=max(last.start_s, span.end_s)))
        left += [piece for piece in pieces if tone.kind == "ringing" or piece.end_s - piece.start_s >= 1]
    return left, spoken
