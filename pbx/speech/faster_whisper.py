"""The optional engine "faster-whisper" (CTranslate2), with the same windows, retries and guard as "whisper"."""

import gc
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pbx.errors import ModelError, SettingsError
from pbx.model.segment import Segment
from pbx.operating_system import free_memory_bytes
from pbx.speech.alignment import TimedPhrase, TimedWord
from pbx.speech.audio_windows import RATE_HZ, Window, WindowSamples
from pbx.speech.batching import BatchTranscriber, DecodingJob
from pbx.speech.checkpoints import Precision, default_threads, is_out_of_memory
from pbx.speech.decoding import MAX_COMPRESSION_RATIO, MAX_NO_SPEECH_PROB, MIN_AVG_LOGPROB, Stopped, compression_ratio
from pbx.speech.segmenting import to_segments, uncovered
from pbx.speech.transcriber import TranscriptionSource
from pbx.speech.weights import PIP_LINES
from pbx.speech.whisper import TEMPERATURES

_COMPUTE_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}
_OVERHEAD_BYTES = 300_000_000  # as for the engine "whisper"
_SPACING_S = 40.0  # between windows in a batch's array: more than a window's length
_FRAMES_PER_S = 100
_MISSED_S = 1.0  # speech of this length without a word is decoded again alone
_LEAST_WORD_S = 0.02


@dataclass(frozen=True, slots=True)
class Written:
    """The result of decoding one window, in times of the window."""

    phrases: tuple[TimedPhrase, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float

    @property
    def good(self) -> bool:
        """Whether it passes Whisper's quality tests; silence passes."""
        if self.avg_logprob < MIN_AVG_LOGPROB and self.no_speech_prob > MAX_NO_SPEECH_PROB:
            return True
        return self.compression_ratio <= MAX_COMPRESSION_RATIO and self.avg_logprob >= MIN_AVG_LOGPROB


class FasterTranscriber(BatchTranscriber):
    """A model of faster-whisper in memory, as a `Transcriber`. Use it from one thread at a time.

    `weights`: a folder in CTranslate2's format. `precision`: "auto" is fp16 on a GPU, else int8. The other parameters
    are those of `WhisperTranscriber`. Raises ModelError when faster-whisper is not installed, or the folder is no
    model, damaged or too large.
    """

    engine = "faster-whisper"

    def __init__(
        self,
        weights: Path,
        model: str,
        device: str = "auto",
        threads: int | None = None,
        precision: Precision = "auto",
        batch: int = 8,
        max_spans: int | None = None,
        temperatures: Sequence[float] = TEMPERATURES,
    ) -> None:
        super().__init__(model, batch, max_spans)
        self._temperatures = temperatures
        self._whisper = _load(weights, device, threads or default_threads(), precision)

    def _requested_language(self, source: TranscriptionSource) -> str | None:
        known = self._whisper.supported_languages
        if known == ["en"] or source.language is None:
            return "en" if known == ["en"] else None
        if source.language.lower() in known:
            return source.language.lower()
        fix = "Set WHISPER_LANGUAGE to auto, or to a code such as en or de."
        raise SettingsError(f"This model knows no language {source.language!r}.", fix)

    def _detect_language(self, jobs: Sequence[DecodingJob]) -> str:
        from faster_whisper.audio import pad_or_trim

        features = np.stack([pad_or_trim(self._whisper.feature_extractor(job.window.sound)) for job in jobs])
        chances: dict[str, float] = {}
        for found in self._whisper.model.detect_language(self._whisper.encode(features)):
            for token, probability in found:
                chances[token[2:-2]] = chances.get(token[2:-2], 0.0) + probability
        return max(chances, key=chances.__getitem__)

    def _release(self, batch: Sequence[DecodingJob]) -> None:
        gc.collect()

    def _decode(self, batch: Sequence[DecodingJob], stop: threading.Event | None) -> list[list[Segment]]:
        found: dict[DecodingJob, list[Segment]] = {}
        for language in {job.recording.language for job in batch}:
            jobs = [job for job in batch if job.recording.language == language]
            written = self._write([job.window for job in jobs], language, stop)
            for job, one in zip(jobs, written, strict=True):
                found[job] = self._segments_of(job.window, one, language, stop)
        return [found[job] for job in batch]

    def _segments_of(
        self, window: Window, written: Written, language: str | None, stop: threading.Event | None
    ) -> list[Segment]:
        """Return a window's segments. If it failed as one, or lacks text for some spans, those are decoded alone."""
        alone: list[Window] = []
        if len(window.pieces) > 1:
            alone = uncovered(window, written.phrases, _MISSED_S) if written.good else window.unpacked()
        segments = to_segments(window, written.phrases, written) if written.good or not alone else []
        for first in range(0, len(alone), self.max_batch):
            windows = alone[first : first + self.max_batch]
            for one, again in zip(windows, self._write(windows, language, stop, hotter=False), strict=True):
                segments += to_segments(one, again.phrases, again)
        return segments

    def _write(
        self, windows: Sequence[Window], language: str | None, stop: threading.Event | None, hotter: bool = True
    ) -> list[Written]:
        """Decode windows greedily in one batch, then poor ones alone at rising temperatures."""
        if stop is not None and stop.is_set():
            raise Stopped
        written = self._write_together([window.sound for window in windows], language)
        for index, window in enumerate(windows):
            if hotter and self._temperatures and not written[index].good:
                if stop is not None and stop.is_set():
                    raise Stopped
                again = self._write_alone(window.sound, language)
                written[index] = max(written[index], again, key=lambda one: (one.good, one.avg_logprob))
        return written

    def _write_together(self, sounds: Sequence[WindowSamples], language: str | None) -> list[Written]:
        from faster_whisper import BatchedInferencePipeline

        step = round(_SPACING_S * RATE_HZ)
        joined = np.zeros(step * len(sounds), np.float32)
        for index, sound in enumerate(sounds):
            joined[index * step : index * step + len(sound)] = sound
        clips = [{"start": i * _SPACING_S, "end": i * _SPACING_S + len(s) / RATE_HZ} for i, s in enumerate(sounds)]
        segments, _ = BatchedInferencePipeline(self._whisper).transcribe(
            joined,
            language=language,
            clip_timestamps=clips,
            batch_size=len(sounds),
            beam_size=1,
            temperature=0.0,
            vad_filter=False,
            without_timestamps=False,
            word_timestamps=True,
        )
        heard: list[list[Any]] = [[] for _ in sounds]
        for segment in segments:
            heard[round(segment.seek / _FRAMES_PER_S / _SPACING_S)].append(segment)
        return [_written(one, i * _SPACING_S, len(sounds[i]) / RATE_HZ) for i, one in enumerate(heard)]

    def _write_alone(self, sound: WindowSamples, language: str | None) -> Written:
        segments, _ = self._whisper.transcribe(
            sound,
            language=language,
            temperature=list(self._temperatures),
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        return _written(segments, 0.0, len(sound) / RATE_HZ)


def _written(heard: Iterable[Any], from_s: float, length_s: float) -> Written:
    """Convert faster-whisper's segments, whose window begins at `from_s`, to times of a window of `length_s`."""
    heard = list(heard)
    phrases = []
    for segment in heard:
        words = _words(segment.words or (), from_s, length_s) or _as_one_word(segment, from_s)
        if words:
            confidence = float(np.mean([word.probability for word in words]))
            start_s, end_s = words[0].start_s, words[-1].end_s
            phrases.append(TimedPhrase(start_s, end_s, segment.text.strip(), words, segment.avg_logprob, confidence))
    return Written(
        tuple(phrases),
        float(np.mean([segment.avg_logprob for segment in heard])) if heard else 0.0,
        max((segment.no_speech_prob for segment in heard), default=1.0),
        compression_ratio("".join(segment.text for segment in heard).strip()),
    )


def _as_one_word(segment: Any, from_s: float) -> tuple[TimedWord, ...]:
    """Return a segment without word times as one word, so that its text isn't lost."""
    start_s, end_s = float(segment.start) - from_s, float(segment.end) - from_s
    text = segment.text.strip()
    return (TimedWord(text, start_s, end_s, float(np.exp(segment.avg_logprob))),) if text else ()


def _words(heard: Sequence[Any], from_s: float, length_s: float) -> tuple[TimedWord, ...]:
    """Return words in times of the window. Words without a length share the next word's length by letters."""
    words: list[TimedWord] = []
    waiting: list[Any] = []
    for index, word in enumerate(heard):
        waiting.append(word)
        if word.end - waiting[0].start < _LEAST_WORD_S * len(waiting) and index < len(heard) - 1:
            continue
        before_s = words[-1].end_s if words else 0.0
        start_s = min(max(float(waiting[0].start) - from_s, before_s), length_s)
        end_s = min(max(float(word.end) - from_s, start_s + _LEAST_WORD_S * len(waiting)), length_s)
        letters = np.cumsum([0, *(max(1, len(one.word.strip())) for one in waiting)])
        times = start_s + (end_s - start_s) * letters / letters[-1]
        words += [
            TimedWord(one.word, float(begin), float(end), float(one.probability))
            for one, begin, end in zip(waiting, times[:-1], times[1:], strict=True)
        ]
        waiting = []
    return tuple(word for word in words if word.text.strip())


def _load(weights: Path, device: str, threads: int, precision: Precision) -> Any:
    """Load a folder as a WhisperModel. Raises ModelError."""
    try:
        from ctranslate2 import get_cuda_device_count
        from faster_whisper import WhisperModel
    except ImportError:
        fix = f"Install it with: {PIP_LINES['faster-whisper']}; or set WHISPER_ENGINE to whisper."
        raise ModelError("The speech engine faster-whisper is not installed.", fix) from None
    where, _, number = device.partition(":")
    gpus = get_cuda_device_count()
    if where == "cuda" and int(number or 0) >= gpus:
        raise ModelError(f"There is no GPU {device} that faster-whisper can use.", "Set WHISPER_DEVICE to auto or cpu.")
    size = (weights / "model.bin").stat().st_size
    places = ["cuda", "cpu"] if where == "auto" and gpus else ["cpu" if where == "auto" else where]
    for place in places:
        if place == "cpu" and _is_too_much(size):
            raise _too_large(weights, size)
        try:
            model = WhisperModel(
                str(weights),
                device=place,
                device_index=int(number or 0),
                compute_type=_COMPUTE_TYPES.get(precision, "float16" if place == "cuda" else "int8"),
                cpu_threads=threads,
                local_files_only=True,
            )
            if place == "cuda":  # CUDA's libraries are only loaded when they are needed
                model.encode(np.zeros((model.model.n_mels, 3000), np.float32))
            return model
        except Exception as error:  # the tokenizers library raises no narrower type
            if place != places[-1]:
                continue
            if is_out_of_memory(error):
                raise _too_large(weights, size) from None
            if place == "cuda" and "librar" in str(error).lower():
                fix = "Install CUDA's libraries, or set WHISPER_DEVICE to cpu."
                raise ModelError(f"faster-whisper can't use the GPU: {error}.", fix) from None
            fix = "Delete the folder so that it is downloaded again, or name another model in WHISPER_MODEL."
            raise ModelError(f"{weights.name} is damaged or not a faster-whisper model: {error}.", fix) from None
    raise AssertionError("one of the places answers or fails")


def _is_too_much(size: int) -> bool:
    return size + _OVERHEAD_BYTES > free_memory_bytes()


def _too_large(weights: Path, size: int) -> ModelError:
    return ModelError(
        f"{weights.name} needs about {(size + _OVERHEAD_BYTES) / 1e9:.1f} GB of memory, more than is free.",
        "Choose a smaller model (WHISPER_MODEL: tiny, base, small, medium, large-v3, turbo), or free memory.",
    )
