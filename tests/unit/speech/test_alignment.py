"""Words get their times from the decoder's attention, and segments end where a pause begins."""

import numpy as np
import pytest
import torch
from whisper.tokenizer import Tokenizer, get_tokenizer

from pbx.speech.alignment import TimedPhrase, TimedWord, read_phrases
from pbx.speech.audio_windows import SampleRun, Window
from pbx.speech.decoding import Decoded
from pbx.speech.segmenting import to_segments, uncovered

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def english() -> Tokenizer:
    return get_tokenizer(True, num_languages=99, language="en", task="transcribe")


def decoded(tokenizer: Tokenizer, parts: list[float | str], attention_s: list[float], ended: bool = True) -> Decoded:
    """A decoder's output. `attention_s`: the time it attends to for each token, and for the end."""
    tokens: list[int] = []
    for part in parts:
        stamp = isinstance(part, float)
        tokens += [tokenizer.timestamp_begin + round(part / 0.02)] if stamp else tokenizer.encode(part)
    attention = torch.full((len(tokens) + ended, 2, 1500), -9.0)
    for row, at_s in enumerate(attention_s):
        at = round(at_s / 0.02)
        attention[row, :, max(at - 6, 0) : at + 6] = 9.0
    return Decoded(tuple(tokens), (-0.1,) * len(tokens), -0.1, 0.0, 1.0, 0.0, ended, attention)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32)


def test_words_are_at_the_times_that_known_alignment_heads_attend_to(english: Tokenizer) -> None:
    output = decoded(
        english, [0.0, " Please hold", 4.0, 4.0, " Goodbye.", 6.0], [0.1, 3.0, 3.5, 3.8, 4.0, 4.5, 5.2, 5.8]
    )
    first, second = read_phrases(output, english, noise(6.0), "en", heads_known=True)
    assert [word.text for word in first.words] == [" Please", " hold"]
    assert 3.0 <= first.words[1].start_s <= 3.5
    assert first.words[0].end_s == first.words[1].start_s
    assert [(word.text, word.probability) for word in second.words] == [(" Goodbye.", pytest.approx(np.exp(-0.1)))]
    assert (first.text, second.text) == ("Please hold", "Goodbye.")
    assert (second.start_s, second.end_s) == (4.0, 6.0)


def test_without_known_alignment_heads_words_are_evenly_spaced(english: Tokenizer) -> None:
    output = decoded(english, [0.0, " one two three four", 4.0], [0.0] * 6)
    (phrase,) = read_phrases(output, english, noise(4.0), "en")
    assert [word.start_s for word in phrase.words] == pytest.approx([0, 0.8, 1.6, 2.9], abs=0.35)


def test_words_start_and_end_within_the_sound(english: Tokenizer) -> None:
    output = decoded(english, [0.0, " Goodbye", 3.0], [0.0, 1.5, 2.9])
    sound = noise(3.0)
    sound[:RATE_HZ] = sound[2 * RATE_HZ :] = 0
    (phrase,) = read_phrases(output, english, sound, "en")
    assert phrase.words[0].start_s == pytest.approx(1.0, abs=0.03)
    assert phrase.words[0].end_s == pytest.approx(2.0, abs=0.03)


def test_text_without_a_closing_timestamp_lasts_to_the_end(english: Tokenizer) -> None:
    output = decoded(english, [1.0, " Goodbye Helen"], [1.0, 1.5, 2.0], ended=False)
    (phrase,) = read_phrases(output, english, noise(5.0), "en")
    assert (phrase.start_s, phrase.end_s) == (1.0, 5.0)
    assert [word.text for word in phrase.words] == [" Goodbye", " Helen"]


def test_more_tokens_than_frames_have_times_too(english: Tokenizer) -> None:
    output = decoded(english, [0.0, " one two three four five six seven", 0.02], [0.0] * 10)
    (phrase,) = read_phrases(output, english, noise(0.1), "en")
    assert len(phrase.words) == 7
    assert all(0 <= word.start_s <= word.end_s <= 0.3 for word in phrase.words)


def test_chinese_is_split_into_tokens_and_arabic_into_words() -> None:
    chinese = get_tokenizer(True, num_languages=99, language="zh", task="transcribe")
    output = decoded(chinese, [0.0, "你好，世界。", 3.0], [])
    (phrase,) = read_phrases(output, chinese, noise(3.0), "zh")
    assert [word.text for word in phrase.words] == ["你好，", "世界。"]
    arabic = get_tokenizer(True, num_languages=99, language="ar", task="transcribe")
    output = decoded(arabic, [0.0, " مرحبا بك", 3.0], [])
    (phrase,) = read_phrases(output, arabic, noise(3.0), "ar")
    assert [word.text.strip() for word in phrase.words] == ["مرحبا", "بك"]


def test_an_empty_output_has_no_phrases(english: Tokenizer) -> None:
    assert read_phrases(decoded(english, [0.0], [0.0, 0.0]), english, noise(3.0), "en") == []
    assert read_phrases(decoded(english, [], [0.0]), english, noise(3.0), "en") == []


def window(*spans: tuple[float, float]) -> Window:
    """A window that packs these spans of a recording."""
    pieces, at = [], 0
    for start_s, end_s in spans:
        pieces.append(SampleRun(round(start_s * RATE_HZ), round(end_s * RATE_HZ), at))
        at += round((end_s - start_s + 0.2) * RATE_HZ)
    return Window(1, tuple(pieces), np.zeros(at, np.float32))


def phrase(*words: tuple[str, float, float]) -> TimedPhrase:
    timed = tuple(TimedWord(text, start_s, end_s, 0.9) for text, start_s, end_s in words)
    return TimedPhrase(timed[0].start_s, timed[-1].end_s, "".join(w.text for w in timed).strip(), timed, -0.1, 0.9)


GOOD = Decoded((), (), -0.1, 0.0, 1.0, 0.0, True, torch.zeros(1))


def test_a_phrase_is_split_at_a_pause_but_not_at_a_breath() -> None:
    packed_window = window((10, 12), (12.6, 14), (40, 42))
    segments = to_segments(packed_window, [phrase((" one", 0.5, 1), (" two", 2.3, 3), (" three", 4, 5.4))], GOOD)
    assert [(s.text, s.channel, s.start_s, s.end_s) for s in segments] == [
        ("one two", 1, 10.5, pytest.approx(13.4)),
        ("three", 1, pytest.approx(40.2), pytest.approx(41.6)),
    ]
    assert [(w.text, w.start_s) for w in segments[0].words] == [("one", 10.5), ("two", pytest.approx(12.7))]


def test_words_stay_within_their_span() -> None:
    packed_window = window((10, 12), (40, 42))
    (first, second) = to_segments(packed_window, [phrase((" one", 0.5, 2.15), (" two", 1.9, 4.9))], GOOD)
    assert first.end_s == 12.0
    assert (second.start_s, second.end_s) == (40.0, 42.0)


def test_a_span_without_a_word_is_found() -> None:
    packed_window = window((10, 12), (20, 20.5), (40, 42))
    missed = uncovered(packed_window, [phrase((" one", 0.5, 2.0))], 1.0)
    assert [window.start_s for window in missed] == [40.0]
