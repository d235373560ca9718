"""What both speech engines share: they decode windows of several recordings together and yield transcript parts."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pbx.errors import ModelError, PbxError
from pbx.model.segment import Segment
from pbx.speech.audio_windows import Window
from pbx.speech.checkpoints import is_out_of_memory
from pbx.speech.decoding import Stopped
from pbx.speech.pipeline import RecordingInProgress
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart

_LANGUAGE_WINDOWS = 4  # the language is detected from this many windows


@dataclass(eq=False)
class DecodingJob:
    """A window to decode. `encoded` is the engine's encoding of it, kept for further tries."""

    recording: RecordingInProgress
    window: Window
    encoded: Any = None


class BatchTranscriber(ABC):
    """A `Transcriber` without the engine-specific parts: detecting languages, and decoding a batch of windows.

    `max_spans`: the most speech spans in a window; None: as many as fit.
    """

    engine: str

    def __init__(self, model: str, batch: int, max_spans: int | None) -> None:
        self.model = model
        self.max_batch = batch
        self._max_spans = max_spans

    @abstractmethod
    def _requested_language(self, source: TranscriptionSource) -> str | None:
        """Return the language of a source, or None to detect it. Raises SettingsError for one the model lacks."""

    @abstractmethod
    def _detect_language(self, jobs: Sequence[DecodingJob]) -> str:
        """Return the code of the most likely language in these windows."""

    @abstractmethod
    def _decode(self, batch: Sequence[DecodingJob], stop: threading.Event | None) -> list[list[Segment]]:
        """Return the segments of each window. Raises Stopped when `stop` is set meanwhile."""

    @abstractmethod
    def _release(self, batch: Sequence[DecodingJob]) -> None:
        """Free the memory that decoding these windows took."""

    def transcribe(
        self, sources: Sequence[TranscriptionSource], stop: threading.Event | None = None
    ) -> Iterator[TranscriptPart]:
        """See `Transcriber.transcribe`. Raises ModelError when memory runs out with a batch of one."""
        jobs: list[DecodingJob] = []
        try:
            for index, source in enumerate(sources):
                recording = RecordingInProgress(index, source, self._max_spans)
                try:
                    recording.language = self._requested_language(source)
                    for windows in recording.listen():
                        if stop is not None and stop.is_set():
                            return
                        jobs += [DecodingJob(recording, window) for window in windows]
                        yield from self._run(jobs, stop)
                        if part := recording.part():
                            yield part
                except ModelError:
                    raise
                except PbxError as error:
                    jobs = [job for job in jobs if job.recording is not recording]
                    yield TranscriptPart(index, done_s=recording.done_s, language=recording.language, error=error)
            yield from self._run(jobs, stop, all_of_them=True)
        except Stopped:
            return

    def _run(
        self, jobs: list[DecodingJob], stop: threading.Event | None, all_of_them: bool = False
    ) -> Iterator[TranscriptPart]:
        """Decode the jobs that fill batches, or all of them; remove them from the list and yield the new parts."""
        while True:
            self._find_languages(jobs)
            ready = [job for job in jobs if job.recording.language is not None][: self.max_batch]
            if not ready or (len(ready) < self.max_batch and not all_of_them):
                return
            done = self._decode_within_memory(ready, stop)
            for job in done:
                jobs.remove(job)
            for recording in {id(job.recording): job.recording for job in done}.values():
                if part := recording.part():
                    yield part

    def _decode_within_memory(self, ready: list[DecodingJob], stop: threading.Event | None) -> list[DecodingJob]:
        """Decode as many of the jobs as memory allows and return them. Later batches are no larger."""
        while True:
            batch = ready[: self.max_batch]
            try:
                for job, segments in zip(batch, self._decode(batch, stop), strict=True):
                    job.recording.take(job.window, segments)
                return batch
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    fix = "Choose a smaller model (WHISPER_MODEL), or free memory."
                    raise ModelError(f"Memory ran out with the model {self.model}.", fix) from None
            self.max_batch = len(batch) // 2
            self._release(batch)

    def _find_languages(self, jobs: list[DecodingJob]) -> None:
        """Detect the language of the recordings that have enough windows for it."""
        undetected: dict[int, list[DecodingJob]] = {}
        for job in jobs:
            if job.recording.language is None:
                undetected.setdefault(job.recording.index, []).append(job)
        for first in undetected.values():
            if len(first) >= _LANGUAGE_WINDOWS or first[0].recording.ended:
                first[0].recording.language = self._detect_language(first[:_LANGUAGE_WINDOWS])
