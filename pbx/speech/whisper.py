"""The engine "whisper": decodes batches of windows with openai-whisper's models. Importing this imports no torch."""

import gc
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pbx.errors import SettingsError
from pbx.model.segment import Segment
from pbx.operating_system import free_memory_bytes
from pbx.speech.alignment import TimedPhrase, read_phrases
from pbx.speech.audio_windows import Window
from pbx.speech.batching import BatchTranscriber, DecodingJob
from pbx.speech.checkpoints import Precision, default_threads, load_network
from pbx.speech.decoding import MAX_COMPRESSION_RATIO, Decoded, Decoder, DecodingRules
from pbx.speech.segmenting import to_segments, uncovered
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # openai-whisper's, after 0
_SAMPLES = 3  # per window and temperature; openai-whisper's program takes five, its transcribe() one
_BATCH_BYTES = 1_200_000_000  # of memory: seven windows of "medium", four of "large"
_MISSED_S = 1.0  # speech of this length without a word is decoded again alone


class WhisperTranscriber(BatchTranscriber):
    """A Whisper model in memory, as a `Transcriber`. Use it from one thread at a time.

    `weights`: a checkpoint in openai-whisper's format; `model`: its name. `threads`: torch's, for the process.
    `precision`: "auto" is fp16 on a GPU; on a CPU bf16 when a test of a few ms shows it to be faster than fp32, else
    int8. `batch`: windows decoded together, if memory allows. `max_spans`: the most speech spans in a window (None: as
    many as fit), for models trained on shorter speech. `rules`: how tokens are chosen.
    Raises ModelError when the file is no checkpoint, or too large.
    """

    engine = "whisper"

    def __init__(
        self,
        weights: Path,
        model: str,
        device: str = "auto",
        threads: int | None = None,
        precision: Precision = "auto",
        batch: int = 8,
        max_spans: int | None = None,
        rules: DecodingRules | None = None,
    ) -> None:
        import torch

        torch.set_num_threads(threads or default_threads())
        self._network = load_network(weights, model, device, precision)
        super().__init__(model, min(batch, self._windows_in_memory()), max_spans)
        self._rules = rules or DecodingRules()
        self._decoder = Decoder(self._network, self._rules)

    def transcribe(
        self, sources: Sequence[TranscriptionSource], stop: threading.Event | None = None
    ) -> Iterator[TranscriptPart]:
        """See `Transcriber.transcribe`. Raises ModelError when memory runs out with a batch of one."""
        self._network.stop = stop  # checked in each layer, because a large model takes minutes for a batch
        yield from super().transcribe(sources, stop)

    def _windows_in_memory(self) -> int:
        """Return how many windows fit in memory: Linux kills a process that takes too much without a warning."""
        free = free_memory_bytes() if self._network.device.type == "cpu" else None
        room = _BATCH_BYTES if free is None else min(_BATCH_BYTES, free // 2)
        return max(1, room // self._network.window_bytes)

    def _requested_language(self, source: TranscriptionSource) -> str | None:
        if not self._network.multilingual:
            return "en"
        try:
            return None if source.language is None else self._network.tokenizer(source.language).language
        except ValueError:
            fix = "Set WHISPER_LANGUAGE to auto, or to a code such as en or de."
            raise SettingsError(f"This model knows no language {source.language!r}.", fix) from None

    def _release(self, batch: Sequence[DecodingJob]) -> None:
        import torch

        for job in batch:
            job.encoded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _detect_language(self, jobs: Sequence[DecodingJob]) -> str:
        chances = sum(self._decoder.detect_languages(self._encoded([job]))[0] for job in jobs)
        codes = self._network.tokenizer(None).all_language_codes
        return str(codes[int(chances.argmax())])  # type: ignore[union-attr]

    def _encoded(self, jobs: Sequence[DecodingJob]) -> "Tensor":
        import torch

        new = [job for job in jobs if job.encoded is None]
        if new:
            for job, encoded in zip(new, self._network.encode([job.window.sound for job in new]), strict=True):
                job.encoded = encoded
        return torch.stack([job.encoded for job in jobs if job.encoded is not None])

    def _decode(self, batch: Sequence[DecodingJob], stop: threading.Event | None) -> list[list[Segment]]:
        """Return each window's segments: decode, retry poor results at rising temperatures, then span by span."""
        found = self._decode_once(batch)
        for temperature in TEMPERATURES if self._rules.retry else ():
            failing = [i for i, decoded in enumerate(found) if not decoded.good]
            samples = min(_SAMPLES, self.max_batch)
            size = max(1, self.max_batch // samples)
            for group in (failing[first : first + size] for first in range(0, len(failing), size)):
                again = self._decode_once([batch[i] for i in group], temperature, samples)
                for i, decoded in zip(group, again, strict=True):
                    found[i] = max(found[i], decoded, key=_rank)
        return [self._segments(job, decoded) for job, decoded in zip(batch, found, strict=True)]

    def _decode_once(self, jobs: Sequence[DecodingJob], temperature: float = 0.0, samples: int = 1) -> list[Decoded]:
        languages = [job.recording.language for job in jobs]
        return self._decoder.decode(self._encoded(jobs), languages, temperature, samples)

    def _segments(self, job: DecodingJob, decoded: Decoded) -> list[Segment]:
        """Return a window's segments. If it failed as one, or lacks text for some spans, those are decoded alone."""
        phrases = self._phrases(job, decoded)
        alone: list[Window] = []
        if len(job.window.pieces) > 1 and self._rules.retry:
            alone = uncovered(job.window, phrases, _MISSED_S) if decoded.good else job.window.unpacked()
        segments = to_segments(job.window, phrases, decoded) if decoded.good or not alone else []
        for first in range(0, len(alone), self.max_batch):
            jobs = [DecodingJob(job.recording, window) for window in alone[first : first + self.max_batch]]
            for one, again in zip(jobs, self._decode_once(jobs), strict=True):
                segments += to_segments(one.window, self._phrases(one, again), again)
        return segments

    def _phrases(self, job: DecodingJob, decoded: Decoded) -> list[TimedPhrase]:
        language = job.recording.language
        network = self._network
        return read_phrases(decoded, network.tokenizer(language), job.window.sound, language, network.heads_known)


def _rank(decoded: Decoded) -> tuple[bool, bool, float]:
    """Rank decodings of a window: good ones first, then those without repetition, then the most likely."""
    return decoded.good, decoded.ended and decoded.compression_ratio <= MAX_COMPRESSION_RATIO, decoded.avg_logprob
