"""faster-whisper transcribes with the test checkpoint, converted to CTranslate2's format, and handles errors."""

import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ctranslate2
import faster_whisper
import numpy as np
import pytest

from pbx.errors import DataError, ModelError, SettingsError
from pbx.model.segment import Segment
from pbx.speech import faster_whisper as faster
from pbx.speech.audio import load_sound
from pbx.speech.audio_windows import RATE_HZ
from pbx.speech.faster_whisper import FasterTranscriber
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart
from tests.paths import FIXTURES
from tests.unit.speech.ctranslate2_checkpoint import convert
from tests.unit.speech.sounds import save_wav
from tests.unit.speech.synthetic_speech import CHECKPOINT

AUDIO = FIXTURES / "audio"
PHRASE_1, PHRASE_2 = AUDIO / "phrase-1.ulaw", AUDIO / "phrase-2.ulaw"
TEXT_1, TEXT_2 = "Thank you for calling support.", "My account number is four five six."


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test checkpoint in faster-whisper's format."""
    return convert(CHECKPOINT, tmp_path_factory.mktemp("ct2"))


@pytest.fixture
def transcriber(folder: Path) -> FasterTranscriber:
    # The checkpoint was trained on windows of one or two phrases.
    return FasterTranscriber(folder, "micro", "cpu", threads=1, precision="fp32", max_spans=1)


def segments_by_source(parts: Iterable[TranscriptPart]) -> dict[int, list[Segment]]:
    segments: dict[int, list[Segment]] = {}
    for part in parts:
        assert part.error is None
        segments.setdefault(part.source, []).extend(part.segments)
    return segments


def test_words_have_the_times_at_which_they_were_spoken(transcriber: FasterTranscriber) -> None:
    *_, last = parts = list(transcriber.transcribe([TranscriptionSource(PHRASE_1)]))
    assert (last.is_last, last.language, last.channels) == (True, "en", 1)
    (segment,) = segments_by_source(parts)[0]
    assert segment.text == TEXT_1
    assert segment.flags == ()
    assert segment.confidence > 0.9
    assert [word.text for word in segment.words] == TEXT_1.split()
    times = [time for word in segment.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(word.end_s > word.start_s for word in segment.words)
    assert 0 <= segment.start_s < segment.end_s <= last.duration_s  # type: ignore[operator]


def test_two_channels_keep_their_speakers_and_their_times(transcriber: FasterTranscriber, tmp_path: Path) -> None:
    first, second = load_sound(PHRASE_1)[0], load_sound(PHRASE_2)[0]
    lanes = np.zeros((2, 14 * RATE_HZ), np.float32)
    lanes[0, RATE_HZ : RATE_HZ + len(first)] = first
    lanes[1, 4 * RATE_HZ : 4 * RATE_HZ + len(second)] = second
    lanes[0, 10 * RATE_HZ : 10 * RATE_HZ + len(first)] = first
    call = save_wav(tmp_path / "call.wav", lanes)
    segments = segments_by_source(transcriber.transcribe([TranscriptionSource(call)]))[0]
    assert [(s.channel, s.text) for s in segments] == [(0, TEXT_1), (1, TEXT_2), (0, TEXT_1)]
    for segment, start_s in zip(segments, (1, 4, 10), strict=True):
        assert segment.start_s == pytest.approx(start_s, abs=0.3)


def test_recordings_share_batches_and_a_broken_one_does_not_stop_the_others(
    transcriber: FasterTranscriber, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF" + bytes(40))
    parts = list(
        transcriber.transcribe(
            [TranscriptionSource(PHRASE_1), TranscriptionSource(broken), TranscriptionSource(PHRASE_2)]
        )
    )
    (failed,) = [part for part in parts if part.error]
    assert failed.source == 1
    assert isinstance(failed.error, DataError)
    texts = {part.source: segment.text for part in parts for segment in part.segments}
    assert texts == {0: TEXT_1, 2: TEXT_2}
    assert sorted(part.source for part in parts if part.is_last) == [0, 2]


def test_an_unknown_language_is_reported(transcriber: FasterTranscriber) -> None:
    (part,) = transcriber.transcribe([TranscriptionSource(PHRASE_1, language="klingon")])
    assert isinstance(part.error, SettingsError)
    assert "klingon" in str(part.error)
    assert (
        segments_by_source(transcriber.transcribe([TranscriptionSource(PHRASE_1, language="EN")]))[0][0].text == TEXT_1
    )


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_int8_transcribes_the_same(folder: Path, precision: Any) -> None:
    int8_transcriber = FasterTranscriber(folder, "micro", "auto", threads=1, precision=precision)
    assert (
        segments_by_source(int8_transcriber.transcribe([TranscriptionSource(PHRASE_2, language="en")]))[0][0].text
        == TEXT_2
    )


def test_a_poor_result_is_retried_alone_at_higher_temperatures(
    transcriber: FasterTranscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    retried_s: list[float] = []
    write_alone = FasterTranscriber._write_alone

    def recording_write_alone(self: FasterTranscriber, sound: Any, language: str | None) -> Any:
        retried_s.append(len(sound) / RATE_HZ)
        return write_alone(self, sound, language)

    monkeypatch.setattr(FasterTranscriber, "_write_alone", recording_write_alone)
    assert segments_by_source(transcriber.transcribe([TranscriptionSource(PHRASE_1)]))[0][0].text == TEXT_1
    assert retried_s == []
    monkeypatch.setattr(faster, "MIN_AVG_LOGPROB", 0.0)  # no result is that certain
    assert segments_by_source(transcriber.transcribe([TranscriptionSource(PHRASE_1)]))[0][0].text == TEXT_1
    assert len(retried_s) == 1


def test_memory_that_runs_out_halves_the_batch(transcriber: FasterTranscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write_together = FasterTranscriber._write_together

    def fail_with_several(self: FasterTranscriber, sounds: Any, language: str | None) -> Any:
        sizes.append(len(sounds))
        if len(sounds) > 1:
            raise RuntimeError("CUDA failed with error out of memory")
        return write_together(self, sounds, language)

    monkeypatch.setattr(FasterTranscriber, "_write_together", fail_with_several)
    found = segments_by_source(
        transcriber.transcribe(
            [TranscriptionSource(PHRASE_1), TranscriptionSource(PHRASE_2), TranscriptionSource(PHRASE_1)]
        )
    )
    assert [found[index][0].text for index in range(3)] == [TEXT_1, TEXT_2, TEXT_1]
    assert sizes == [3, 1, 1, 1]
    assert transcriber.max_batch == 1


def test_too_little_memory_for_one_window_raises_a_model_error(
    transcriber: FasterTranscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: FasterTranscriber, sounds: Any, language: str | None) -> Any:
        raise MemoryError

    monkeypatch.setattr(FasterTranscriber, "_write_together", fail)
    with pytest.raises(ModelError, match="Memory ran out"):
        list(transcriber.transcribe([TranscriptionSource(PHRASE_1)]))


def test_a_stop_ends_the_transcription(transcriber: FasterTranscriber) -> None:
    stop = threading.Event()
    stop.set()
    assert [part for part in transcriber.transcribe([TranscriptionSource(PHRASE_1)], stop) if part.is_last] == []


def test_words_without_a_duration_share_the_time_until_the_next_word() -> None:
    def word(text: str, start_s: float, end_s: float) -> SimpleNamespace:
        return SimpleNamespace(word=text, start=start_s, end=end_s, probability=0.5)

    model_words = [
        word(" I", 40.0, 40.0),
        word(" am", 40.0, 40.0),
        word(" ready", 40.0, 40.8),
        word(" now", 41.0, 41.0),
    ]
    words = faster._words(model_words, 40.0, 1.5)
    assert [(w.text, round(w.start_s, 3), round(w.end_s, 3)) for w in words] == [
        (" I", 0.0, 0.1),
        (" am", 0.1, 0.3),
        (" ready", 0.3, 0.8),
        (" now", 1.0, 1.02),
    ]


def test_a_text_without_word_times_is_kept() -> None:
    segment = SimpleNamespace(
        text=" …? ", words=[], start=41.0, end=42.5, avg_logprob=-0.5, no_speech_prob=0.2, compression_ratio=0.5
    )
    (phrase,) = faster._written([segment], 40.0, 3.0).phrases
    assert (phrase.text, phrase.start_s, phrase.end_s) == ("…?", 1.0, 2.5)


def test_a_missing_package_is_reported_with_its_installation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ModelError, match="not installed") as caught:
        FasterTranscriber(folder, "micro")
    assert "pip install faster-whisper==1.2.1" in caught.value.fix


def test_a_missing_gpu_is_reported(folder: Path) -> None:
    with pytest.raises(ModelError, match="no GPU cuda:99 "):
        FasterTranscriber(folder, "micro", "cuda:99")


def test_a_gpu_without_its_libraries_is_reported_or_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # CTranslate2 counts the driver's GPUs and notices only when loading that it can't use one.
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    real_model = faster_whisper.WhisperModel

    def model_without_cuda(path: str, device: str, **options: Any) -> Any:
        if device == "cuda":
            raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
        return real_model(path, device=device, **options)

    monkeypatch.setattr(faster_whisper, "WhisperModel", model_without_cuda)
    with pytest.raises(ModelError, match="can't use the GPU: Library libcublas"):
        FasterTranscriber(folder, "micro", "cuda")
    transcriber = FasterTranscriber(folder, "micro", "auto", threads=1)
    assert segments_by_source(transcriber.transcribe([TranscriptionSource(PHRASE_2)]))[0][0].text == TEXT_2


def test_a_model_too_large_for_memory_is_refused_before_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster, "free_memory_bytes", lambda: 310_000_000)
    with pytest.raises(ModelError, match="of memory, more than is free") as caught:
        FasterTranscriber(folder, "micro", "cpu")
    assert "smaller model" in caught.value.fix
