"""What the speech engines have in common: recordings in, windows of several decoded together, parts out."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pbx.errors import ModelError, PbxError
from pbx.model.segment import Segment
from pbx.speech.checkpoints import is_out_of_memory
from pbx.speech.decoding import Stopped
from pbx.speech.listening import RecordingInProgress
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart
from pbx.speech.windows import Window

_LANGUAGE_WINDOWS = 4  # the language is told from the first so many voiced windows together


@dataclass(eq=False)
class DecodingJob:
    """A window to decode; `encoded` is what its engine keeps of it between tries."""

    recording: RecordingInProgress
    window: Window
    encoded: Any = None


class BatchTranscriber(ABC):
    """A `Transcriber`, but for what is the engine's own: languages, and a batch of windows to segments.

    `stretches_per_window`: at most so many phrases in a window; None: what fits.
    """

    engine: str

    def __init__(self, model: str, batch: int, stretches_per_window: int | None) -> None:
        self.model = model
        self.max_batch = batch
        self._stretches = stretches_per_window

    @abstractmethod
    def _language_of(self, source: TranscriptionSource) -> str | None:
        """The language of a source where it is known beforehand. Raises SettingsError for one there is not."""

    @abstractmethod
    def _hear_language(self, jobs: Sequence[DecodingJob]) -> str:
        """The code of the language that is likeliest spoken in these windows."""

    @abstractmethod
    def _decode(self, batch: Sequence[DecodingJob], stop: threading.Event | None) -> list[list[Segment]]:
        """What was said in each window. Raises Stopped when `stop` is set meanwhile."""

    @abstractmethod
    def _release(self, batch: Sequence[DecodingJob]) -> None:
        """Let go of memory that decoding these took."""

    def transcribe(
        self, sources: Sequence[TranscriptionSource], stop: threading.Event | None = None
    ) -> Iterator[TranscriptPart]:
        """See `Transcriber.transcribe`. Raises ModelError when memory runs out with a batch of one."""
        jobs: list[DecodingJob] = []
        try:
            for index, source in enumerate(sources):
                recording = RecordingInProgress(index, source, self._stretches)
                try:
                    recording.language = self._language_of(source)
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
        """Decode the jobs that make full batches, or all; take them off the list, and tell what became known."""
        while True:
            self._find_languages(jobs)
            ready = [job for job in jobs if job.recording.language is not None][: self.max_batch]
            if not ready or (len(ready) < self.max_batch and not all_of_them):
                return
            done = self._sparing(ready, stop)
            for job in done:
                jobs.remove(job)
            for recording in {id(job.recording): job.recording for job in done}.values():
                if part := recording.part():
                    yield part

    def _sparing(self, ready: list[DecodingJob], stop: threading.Event | None) -> list[DecodingJob]:
        """Decode as many of the jobs as memory allows, and return these; what it allows is remembered."""
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
        """Tell the language of the recordings that enough voice was heard of."""
        asked: dict[int, list[DecodingJob]] = {}
        for job in jobs:
            if job.recording.language is None:
                asked.setdefault(job.recording.index, []).append(job)
        for first in asked.values():
            if len(first) >= _LANGUAGE_WINDOWS or first[0].recording.ended:
                first[0].recording.language = self._hear_language(first[:_LANGUAGE_WINDOWS])
