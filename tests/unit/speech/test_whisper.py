"""The engine transcribes with a tiny real Whisper model: words, speakers and times, other sounds, and errors."""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pbx.errors import DataError, ModelError, SettingsError
from pbx.model.segment import Segment
from pbx.speech import checkpoints, whisper
from pbx.speech.decoding import Decoded, Decoder, DecodingRules
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart
from pbx.speech.whisper import WhisperTranscriber
from tests.unit.speech.sounds import save_wav
from tests.unit.speech.synthetic_speech import CHECKPOINT, Clip, errors_in, stored_clips

RATE_HZ = 16_000

Sound = npt.NDArray[np.float32]


def write_wav(path: Path, *channels: Sound) -> Path:
    length = max(len(channel) for channel in channels)
    return save_wav(path, [np.pad(channel, (0, length - len(channel))) for channel in channels])


def silence(seconds: float) -> Sound:
    return np.zeros(int(seconds * RATE_HZ), np.float32)


def place_clips(clips: list[tuple[float, Clip]], seconds: float) -> Sound:
    sound = silence(seconds)
    for at_s, clip in clips:
        begin = int(at_s * RATE_HZ)
        sound[begin : begin + len(clip.sound)] += clip.sound
    return sound


def ring_back() -> Sound:
    """Six seconds of a European ring-back tone."""
    tone = 0.1 * np.sin(2 * np.pi * 425 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    return np.concatenate([tone, silence(4), tone])


def segments_of(parts: list[TranscriptPart], source: int = 0) -> list[Segment]:
    return [segment for part in parts if part.source == source for segment in part.segments]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return stored_clips()


@pytest.fixture(scope="module")
def loaded() -> WhisperTranscriber:
    return WhisperTranscriber(CHECKPOINT, "micro", "cpu", threads=1, precision="fp32", max_spans=1)


@pytest.fixture
def engine(loaded: WhisperTranscriber) -> WhisperTranscriber:
    loaded.max_batch, loaded._max_spans = 8, 1
    return loaded


@pytest.fixture
def call(tmp_path: Path, clips: list[Clip]) -> tuple[Path, list[tuple[int, float, Clip]]]:
    """A call of two speakers: its file, and the channel, start and clip of each sentence."""
    sentences = [(0, 1.0, clips[1]), (1, 4.0, clips[0]), (0, 7.0, clips[5]), (1, 11.0, clips[6]), (0, 12.5, clips[3])]
    sounds = [
        place_clips([(at_s, clip) for channel, at_s, clip in sentences if channel == side], 15) for side in (0, 1)
    ]
    return write_wav(tmp_path / "call.wav", *sounds), sentences


def test_two_speakers_have_their_own_segments_in_order_of_time(
    engine: WhisperTranscriber, call: tuple[Path, list[tuple[int, float, Clip]]]
) -> None:
    path, sentences = call
    parts = list(engine.transcribe([TranscriptionSource(path)]))
    found = segments_of(parts)
    assert [(s.channel, s.text) for s in found] == [(channel, clip.text) for channel, _, clip in sentences]
    for segment, (_, at_s, clip) in zip(found, sentences, strict=True):
        assert segment.start_s == pytest.approx(at_s, abs=0.3)
        assert segment.end_s == pytest.approx(at_s + len(clip.sound) / RATE_HZ, abs=0.5)
        assert " ".join(word.text for word in segment.words) == segment.text
        times = [at for word in segment.words for at in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert segment.start_s <= times[0]
        assert times[-1] <= segment.end_s
        assert segment.flags == ()
        assert 0.5 < segment.confidence <= 1
    last = parts[-1]
    assert (last.is_last, last.channels, last.language, last.done_s) == (True, 2, "en", pytest.approx(15))
    assert sum(part.voiced_s for part in parts) == pytest.approx(10, abs=2)


def test_words_have_the_times_at_which_they_were_spoken(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    clip = clips[4]  # "I need help with my account.": the last word takes a third of it
    path = write_wav(tmp_path / "one.wav", place_clips([(20.0, clip)], 25))
    (segment,) = segments_of(list(engine.transcribe([TranscriptionSource(path, "en")])))
    length_s = len(clip.sound) / RATE_HZ
    assert segment.words[0].start_s == pytest.approx(20.0, abs=0.2)
    assert segment.words[-1].start_s == pytest.approx(20.0 + length_s * 0.68, abs=0.3)


def test_no_more_words_are_wrong_than_with_openai_whisper(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    from whisper import load_model

    model = load_model(str(CHECKPOINT), device="cpu")
    options = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False, "fp16": False}
    paths = [write_wav(tmp_path / f"{i}.wav", place_clips([(1.0, clip)], 5)) for i, clip in enumerate(clips)]
    parts = list(engine.transcribe([TranscriptionSource(path, "en") for path in paths]))
    openai = ours = words = 0
    for index, clip in enumerate(clips):
        wrong, spoken = errors_in(clip.text, " ".join(s.text for s in segments_of(parts, index)))
        ours, words = ours + wrong, words + spoken
        openai += errors_in(clip.text, model.transcribe(clip.sound, **options)["text"])[0]
    assert ours / words <= openai / words + 0.01


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_less_precise_weights_transcribe_the_same(
    precision: checkpoints.Precision, call: tuple[Path, list[tuple[int, float, Clip]]]
) -> None:
    path, sentences = call
    engine = WhisperTranscriber(CHECKPOINT, "micro", "cpu", threads=1, precision=precision, max_spans=1)
    found = segments_of(list(engine.transcribe([TranscriptionSource(path)])))
    assert [s.text for s in found] == [clip.text for _, _, clip in sentences]


def test_tokens_equal_those_of_openai_whisper(engine: WhisperTranscriber, clips: list[Clip]) -> None:
    import torch
    from whisper import load_model, log_mel_spectrogram, pad_or_trim

    sounds = [clip.sound for clip in clips[:6]]
    ours = engine._decoder.decode(engine._network.encode(sounds), ["en"] * 6)
    model = load_model(str(CHECKPOINT), device="cpu")
    mels = [log_mel_spectrogram(pad_or_trim(sound)) for sound in sounds]
    openai = model.decode(torch.stack(mels), language="en", fp16=False)
    for actual, expected in zip(ours, openai, strict=True):
        assert list(actual.tokens) == expected.tokens
        assert actual.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-3)
        assert actual.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=1e-3)
        assert actual.compression_ratio == pytest.approx(expected.compression_ratio)


@pytest.mark.parametrize(
    "sound",
    [
        silence(5),
        silence(0.2),
        (np.random.default_rng(0).normal(0, 0.003, 5 * RATE_HZ)).astype(np.float32),
        np.sin(np.arange(5 * RATE_HZ) / 9).astype(np.float32),
    ],
    ids=["silence", "short", "noise", "tone"],
)
def test_without_speech_whisper_is_not_called(
    engine: WhisperTranscriber, tmp_path: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_decode", lambda *_: pytest.fail("Whisper was called"))
    *_, last = engine.transcribe([TranscriptionSource(write_wav(tmp_path / "x.wav", sound))])
    assert (last.is_last, last.segments, last.voiced_s) == (True, (), 0.0)
    assert last.done_s == last.duration_s == pytest.approx(len(sound) / RATE_HZ)


def test_ringing_is_flagged_and_what_follows_is_transcribed(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    sound = np.concatenate([silence(1), ring_back(), silence(1), clips[1].sound, silence(1)])
    found = segments_of(list(engine.transcribe([TranscriptionSource(write_wav(tmp_path / "x.wav", sound), "en")])))
    assert [(s.text, s.flags) for s in found] == [("", ("ringing",)), (clips[1].text, ())]
    assert found[0].start_s == pytest.approx(1, abs=0.3)
    assert found[0].end_s == pytest.approx(7, abs=0.3)


def test_continuing_after_a_killed_worker_gives_the_same_segments(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    engine.max_batch = 2
    sides = [[(8.0 * i + 4 * side, clips[(3 * i + side) % 8]) for i in range(9)] for side in (0, 1)]
    path = write_wav(tmp_path / "long.wav", *(place_clips(side, 77) for side in sides))
    all_parts = list(engine.transcribe([TranscriptionSource(path, "en")]))
    assert len(all_parts) >= 2
    expected = [(s.channel, s.text) for s in segments_of(all_parts)]
    assert len(expected) == 18
    for cut, part in enumerate(all_parts, 1):
        assert all(s.start_s < part.done_s for s in segments_of(all_parts[:cut]))
        assert all(s.start_s >= part.done_s for s in segments_of(all_parts[cut:]))
    before = all_parts[: len(all_parts) // 2]
    after = list(engine.transcribe([TranscriptionSource(path, "en", before[-1].done_s)]))
    assert after[-1].done_s == pytest.approx(77)
    assert [(s.channel, s.text) for s in segments_of(before) + segments_of(after)] == expected


def test_a_broken_recording_does_not_stop_the_others(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(write_wav(tmp_path / "a.wav", clips[0].sound).read_bytes()[:44])
    good = write_wav(tmp_path / "good.wav", place_clips([(1.0, clips[0])], 4))
    sources = [
        TranscriptionSource(good, "en"),
        TranscriptionSource(broken),
        TranscriptionSource(tmp_path / "gone.wav"),
        TranscriptionSource(good, "xx"),
        TranscriptionSource(good),
    ]
    parts = list(engine.transcribe(sources))
    errors = {part.source: type(part.error) for part in parts if part.error}
    assert errors == {1: DataError, 2: DataError, 3: SettingsError}
    assert [segments_of(parts, i)[0].text for i in (0, 4)] == [clips[0].text] * 2
    assert {part.source for part in parts if part.is_last} == {0, 4}


def test_a_silent_and_an_overdriven_channel_are_transcribed(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    loud = np.clip(place_clips([(1.0, clips[0]), (5.0, clips[1])], 9) * 8, -1, 1)
    parts = list(engine.transcribe([TranscriptionSource(write_wav(tmp_path / "x.wav", silence(9), loud), "en")]))
    assert parts[-1].channels == 2
    assert {s.channel for s in segments_of(parts)} == {1}
    assert len(segments_of(parts)) == 2


def test_the_rest_of_a_truncated_recording_is_transcribed(
    engine: WhisperTranscriber, tmp_path: Path, clips: list[Clip]
) -> None:
    path = write_wav(tmp_path / "cut.wav", place_clips([(1.0, clips[0]), (6.0, clips[1])], 9))
    path.write_bytes(path.read_bytes()[: 5 * RATE_HZ * 2])
    parts = list(engine.transcribe([TranscriptionSource(path, "en")]))
    assert [s.text for s in segments_of(parts)] == [clips[0].text]
    assert parts[-1].is_last


def test_a_stop_ends_the_transcription(
    engine: WhisperTranscriber, call: tuple[Path, list[tuple[int, float, Clip]]]
) -> None:
    stop = threading.Event()
    step = engine._network.step
    steps = []

    def stop_at_third_step(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 3:
            stop.set()
        return step(*arguments)  # type: ignore[arg-type]

    engine._network.step = stop_at_third_step  # type: ignore[method-assign, assignment]
    assert not any(part.is_last for part in engine.transcribe([TranscriptionSource(call[0], "en")] * 3, stop))
    assert len(steps) == 3
    engine._network.step = step  # type: ignore[method-assign]
    assert [part.is_last for part in engine.transcribe([TranscriptionSource(call[0], "en")])][-1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 3 bytes")])
def test_when_memory_runs_out_the_batch_is_halved_permanently(
    engine: WhisperTranscriber,
    call: tuple[Path, list[tuple[int, float, Clip]]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    decode, sizes = Decoder.decode, []

    def fail_with_several(self: Decoder, encoded: npt.NDArray[np.float32], *arguments: object) -> list[Decoded]:
        sizes.append(len(encoded))
        if len(encoded) > 1:
            raise error
        return decode(self, encoded, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "decode", fail_with_several)
    found = segments_of(list(engine.transcribe([TranscriptionSource(call[0], "en")])))
    assert [s.text for s in found] == [clip.text for _, _, clip in call[1]]
    assert engine.max_batch == 1
    assert sizes[:3] == [5, 2, 1]

    def always_fail(*_: object) -> list[Decoded]:
        raise error

    monkeypatch.setattr(Decoder, "decode", always_fail)
    with pytest.raises(ModelError, match="Memory ran out with the model micro") as caught:
        list(engine.transcribe([TranscriptionSource(call[0], "en")]))
    assert "smaller model" in caught.value.fix


def test_other_errors_are_not_treated_as_lack_of_memory(
    engine: WhisperTranscriber, call: tuple[Path, list[tuple[int, float, Clip]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[Decoded]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Decoder, "decode", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        list(engine.transcribe([TranscriptionSource(call[0], "en")]))
    assert engine.max_batch == 8


def test_poor_results_are_retried_at_higher_temperatures_and_then_by_span(
    engine: WhisperTranscriber, call: tuple[Path, list[tuple[int, float, Clip]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine._max_spans = 2
    decode, calls, encodings = Decoder.decode, [], []
    encode = engine._network.encode

    def count_encodings(sounds: list[Sound]) -> object:
        encodings.append(len(sounds))
        return encode(sounds)

    monkeypatch.setattr(engine._network, "encode", count_encodings)
    monkeypatch.setattr(whisper, "TEMPERATURES", (0.2, 0.8))

    def return_poor_results(
        self: Decoder, encoded: object, languages: list[str], temperature: float, samples: int
    ) -> list[Decoded]:
        calls.append((len(languages), temperature, samples))
        found = decode(self, encoded, languages, temperature, samples)  # type: ignore[arg-type]
        if len(encodings) > 1:  # single spans give good results
            return found
        return [Decoded(d.tokens, d.logprobs, -3.0, 0.0, 9.0, temperature, True, d.attention) for d in found]

    monkeypatch.setattr(Decoder, "decode", return_poor_results)
    found = segments_of(list(engine.transcribe([TranscriptionSource(call[0], "en")])))
    assert [s.text for s in found] == [clip.text for _, _, clip in call[1]]
    assert calls[0] == (3, 0.0, 1)
    assert {temperature for _, temperature, _ in calls} == {0.0, 0.2, 0.8}
    assert all(samples == 3 for _, temperature, samples in calls if temperature > 0)
    assert encodings == [3, 2, 2]  # each window once, then each span of windows with several
    # The third window has a single span, so it isn't retried, and its segment is flagged.
    assert [bool(s.flags) for s in found] == [False, False, False, False, True]


def test_decoding_of_a_repetition_stops_early(
    engine: WhisperTranscriber, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    word = engine._network.tokenizer("en").encode(" one")[0]

    def repeat_one_word(self: Decoder, logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((len(logits),), word), torch.full((len(logits),), -0.1)

    monkeypatch.setattr(Decoder, "_choose", repeat_one_word)
    (repeated,) = engine._decoder.decode(engine._network.encode([clips[0].sound]), ["en"])
    assert len(repeated.tokens) == 48
    assert not repeated.good
    assert repeated.compression_ratio > 2.4


def test_a_window_that_reaches_the_token_limit_is_a_poor_result(engine: WhisperTranscriber, clips: list[Clip]) -> None:
    decoder = Decoder(engine._network, DecodingRules(max_tokens=4))
    (short,) = decoder.decode(engine._network.encode([clips[2].sound]), ["en"])
    assert len(short.tokens) == 4
    assert not short.ended
    assert not short.good


def test_language_detection_returns_a_probability_per_language(engine: WhisperTranscriber, clips: list[Clip]) -> None:
    probabilities = engine._decoder.detect_languages(engine._network.encode([clips[0].sound, clips[1].sound]))
    assert probabilities.shape == (2, 99)
    assert probabilities.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
