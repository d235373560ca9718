"""Voice activity detection on one channel with the Silero model: streaming, in times of the recording."""

import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pbx.errors import ModelError
from pbx.speech.audio import SPEECH_HZ

_MODEL = "data/silero_vad_16k_sequence.onnx"  # many frames in one call: 0.2 s for 180 s of sound
_FRAME = 512  # samples (32 ms) for each probability, as the model was trained
_CONTEXT = 64  # samples before a frame, which the model reads with it
_STATE = (1, 1, 128)
_BATCH = 512  # frames in one call: 16 s
_BEGINS = 0.35  # probability at which speech begins; lower than Silero's 0.5, for telephone lines
_ENDS = 0.20  # probability below which it ends: 0.15 lower, as with Silero
_PAD_S = 0.2  # added before and after, for the soft beginnings and ends of words
_LEAST_SILENCE_S = 0.5  # shorter pauses don't end a span; longer than two pads, so spans never touch
_LEAST_VOICE_S = 0.1  # shorter is a click; the shortest "no" lasts 0.15 s

VadSamples = NDArray[np.float32]  # (samples,) of one channel at SPEECH_HZ


@dataclass(frozen=True, slots=True)
class SpeechSpan:
    """Speech from `start_s` to `end_s` of the recording, including pauses under half a second."""

    start_s: float
    end_s: float


class VoiceDetector:
    """Finds the speech spans of one channel, fed in blocks of any length. Keeps less than 0.1 s of sound.

    `at_s`: where in the recording the first block begins. Spans come in order and never overlap; a span is reported
    once half a second without speech has followed it, however long it is. A detector is for one channel and one
    thread; all share the model. Raises ModelError when the model is missing.
    """

    def __init__(self, at_s: float = 0.0) -> None:
        self._session = _load_session()
        self._begin_s = at_s
        self._fed = 0  # samples
        self._rest: VadSamples = np.zeros(0, np.float32)
        self._context: VadSamples = np.zeros(_CONTEXT, np.float32)
        self._hidden = self._cell = np.zeros(_STATE, np.float32)
        self._frame = 0  # frames judged
        self._voice_at: int | None = None  # frame in which the open span began
        self._pause_at: int | None = None  # frame in which the pause within it began

    @property
    def settled_s(self) -> float:
        """No span that is still to be reported begins before this, in seconds."""
        frame = self._frame if self._voice_at is None else self._voice_at
        return max(self._begin_s, self._time_s(frame) - _PAD_S)

    def feed(self, block: VadSamples) -> list[SpeechSpan]:
        """Take the next float32 samples (-1 to 1, 16 kHz) and return the spans that have ended."""
        self._fed += len(block)
        sound = np.concatenate([self._rest, np.asarray(block, np.float32)])
        complete = len(sound) // _FRAME * _FRAME
        self._rest = sound[complete:].copy()
        return list(self._find_spans(sound[:complete]))

    def finish(self) -> list[SpeechSpan]:
        """Return the last spans, up to the end of the sound. The detector takes no more sound."""
        last = np.concatenate([self._rest, np.zeros(-len(self._rest) % _FRAME, np.float32)])
        found = list(self._find_spans(last))
        if self._voice_at is not None:
            end = self._frame if self._pause_at is None else self._pause_at
            found += self._close(self._voice_at, end)
        return found

    def _find_spans(self, sound: VadSamples) -> Iterator[SpeechSpan]:
        """Yield spans by hysteresis: two thresholds, and a span ends only after a long enough pause."""
        for probability in self._probabilities(sound):
            if probability >= _BEGINS:
                self._pause_at = None
                if self._voice_at is None:
                    self._voice_at = self._frame
            elif self._voice_at is not None and probability < _ENDS and self._pause_at is None:
                self._pause_at = self._frame
            self._frame += 1
            if self._voice_at is None or self._pause_at is None:
                continue
            if (self._frame - self._pause_at) * _FRAME >= _LEAST_SILENCE_S * SPEECH_HZ:
                yield from self._close(self._voice_at, self._pause_at)
                self._voice_at = self._pause_at = None

    def _probabilities(self, sound: VadSamples) -> Iterator[float]:
        frames = sound.reshape(-1, _FRAME)
        for first in range(0, len(frames), _BATCH):
            batch = frames[first : first + _BATCH]
            contexts = np.vstack([self._context, batch[:-1, -_CONTEXT:]])
            self._context = batch[-1, -_CONTEXT:].copy()
            given = {"input": np.concatenate([contexts, batch], axis=1), "h": self._hidden, "c": self._cell}
            judged, self._hidden, self._cell = self._session.run(["speech_probs", "hn", "cn"], given)
            yield from judged.reshape(-1).tolist()

    def _close(self, first: int, after: int) -> list[SpeechSpan]:
        """Return the padded span of the frames from `first` to before `after`; nothing when too short for a word."""
        if (after - first) * _FRAME < _LEAST_VOICE_S * SPEECH_HZ:
            return []
        end_s = min(self._time_s(after) + _PAD_S, self._begin_s + self._fed / SPEECH_HZ)
        return [SpeechSpan(max(self._time_s(first) - _PAD_S, self._begin_s), end_s)]

    def _time_s(self, frame: int) -> float:
        return self._begin_s + frame * _FRAME / SPEECH_HZ


def find_voice(sound: VadSamples) -> list[SpeechSpan]:
    """Return the speech spans of a channel: float32 (samples,) at 16 kHz. Raises ModelError as VoiceDetector."""
    detector = VoiceDetector()
    return detector.feed(sound) + detector.finish()


@functools.cache
def _load_session() -> Any:  # onnxruntime.InferenceSession, which several threads may run
    """Load the model from the silero-vad package, which itself would import torch and limit it to one thread."""
    fix = "Install the requirements again: pip install -r requirements.txt"
    found = importlib.util.find_spec("silero_vad")
    places = found.submodule_search_locations if found else None
    path = Path(places[0], _MODEL) if places else None
    if path is None or not path.is_file():
        raise ModelError("The voice detector's model (silero-vad) is not installed.", fix)
    try:
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1  # more threads don't help a model this small
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no narrower common type
        raise ModelError(f"The voice detector can't be loaded: {error}", fix) from None
