"""The batching that all engines share yields each recording's parts in order, with one last part."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pbx.model.segment import Segment
from pbx.speech.batching import BatchTranscriber, DecodingJob
from pbx.speech.transcriber import TranscriptionSource
from tests.unit.speech.synthetic_speech import stored_clips
from tests.unit.speech.test_pipeline import segments_for
from tests.unit.speech.test_whisper import place_clips, write_wav


class FakeEngine(BatchTranscriber):
    """Writes a segment for each span of speech."""

    engine = "scribe"

    def _requested_language(self, source: TranscriptionSource) -> str | None:
        return source.language

    def _detect_language(self, jobs: Sequence[DecodingJob]) -> str:
        return "en"

    def _decode(self, batch: Sequence[DecodingJob], stop: threading.Event | None) -> list[list[Segment]]:
        return [segments_for(job.window) for job in batch]

    def _release(self, batch: Sequence[DecodingJob]) -> None:
        raise AssertionError("there is memory enough")


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("language", ["en", None])
def test_each_recording_has_one_last_part(tmp_path: Path, batch: int, language: str | None) -> None:
    clips = stored_clips()
    sounds = [place_clips([(1.0 + 4 * i, clips[i]) for i in range(number + 1)], 4 * number + 6) for number in range(3)]
    paths = [write_wav(tmp_path / f"{number}.wav", sound) for number, sound in enumerate(sounds)]
    parts = list(FakeEngine("m", batch, 1).transcribe([TranscriptionSource(path, language) for path in paths]))
    for index in range(3):
        parts_of_source = [part for part in parts if part.source == index]
        assert [part.is_last for part in parts_of_source] == [False] * (len(parts_of_source) - 1) + [True]
        assert sum(len(part.segments) for part in parts_of_source) == index + 1
