"""Words get their times from where the decoder looked, and segments end where a pause begins."""

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


def decoded(tokenizer: Tokenizer, parts: list[float | str], looks_s: list[float], ended: bool = True) -> Decoded:
    """Timestamps and texts as the decoder writes them; `looks_s`: where it looks for each token, and for the end."""
    tokens: list[int] = []
    for part in parts:
        stamp = isinstance(part, float)
        tokens += [tokenizer.timestamp_begin + round(part / 0.02)] if stamp else tokenizer.encode(part)
    looks = torch.full((len(tokens) + ended, 2, 1500), -9.0)
    for row, at_s in enumerate(looks_s):
        at = round(at_s / 0.02)
        looks[row, :, max(at - 6, 0) : at + 6] = 9.0
    return Decoded(tuple(tokens), (-0.1,) * len(tokens), -0.1, 0.0, 1.0, 0.0, ended, looks)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32)


def test_words_lie_where_the_known_heads_look(english: Tokenizer) -> None:
    given = decoded(
        english, [0.0, " Please hold", 4.0, 4.0, " Goodbye.", 6.0], [0.1, 3.0, 3.5, 3.8, 4.0, 4.5, 5.2, 5.8]
    )
    first, second = read_phrases(given, english, noise(6.0), "en", heads_known=True)
    assert [word.text for word in first.words] == [" Please", " hold"]
    assert 3.0 <= first.words[1].start_s <= 3.5
    assert first.words[0].end_s == first.words[1].start_s
    assert [(word.text, word.probability) for word in second.words] == [(" Goodbye.", pytest.approx(np.exp(-0.1)))]
    assert (first.text, second.text) == ("Please hold", "Goodbye.")
    assert (second.start_s, second.end_s) == (4.0, 6.0)


def test_without_known_heads_words_keep_an_even_pace(english: Tokenizer) -> None:
    given = decoded(english, [0.0, " one two three four", 4.0], [0.0] * 6)
    (phrase,) = read_phrases(given, english, noise(4.0), "en")
    assert [word.start_s for word in phrase.words] == pytest.approx([0, 0.8, 1.6, 2.9], abs=0.35)


def test_words_begin_and_end_where_there_is_sound(english: Tokenizer) -> None:
    given = decoded(english, [0.0, " Goodbye", 3.0], [0.0, 1.5, 2.9])
    sound = noise(3.0)
    sound[:RATE_HZ] = sound[2 * RATE_HZ :] = 0
    (phrase,) = read_phrases(given, english, sound, "en")
    assert phrase.words[0].start_s == pytest.approx(1.0, abs=0.03)
    assert phrase.words[0].end_s == pytest.approx(2.0, abs=0.03)


def test_text_that_no_timestamp_closes_lasts_to_the_end(english: Tokenizer) -> None:
    given = decoded(english, [1.0, " Goodbye Helen"], [1.0, 1.5, 2.0], ended=False)
    (phrase,) = read_phrases(given, english, noise(5.0), "en")
    assert (phrase.start_s, phrase.end_s) == (1.0, 5.0)
    assert [word.text for word in phrase.words] == [" Goodbye", " Helen"]


def test_more_tokens_than_frames_have_times_all_the_same(english: Tokenizer) -> None:
    given = decoded(english, [0.0, " one two three four five six seven", 0.02], [0.0] * 10)
    (phrase,) = read_phrases(given, english, noise(0.1), "en")
    assert len(phrase.words) == 7
    assert all(0 <= word.start_s <= word.end_s <= 0.3 for word in phrase.words)


def test_chinese_comes_in_tokens_and_arabic_in_words() -> None:
    chinese = get_tokenizer(True, num_languages=99, language="zh", task="transcribe")
    given = decoded(chinese, [0.0, "你好，世界。", 3.0], [])
    (phrase,) = read_phrases(given, chinese, noise(3.0), "zh")
    assert [word.text for word in phrase.words] == ["你好，", "世界。"]
    arabic = get_tokenizer(True, num_languages=99, language="ar", task="transcribe")
    given = decoded(arabic, [0.0, " مرحبا بك", 3.0], [])
    (phrase,) = read_phrases(given, arabic, noise(3.0), "ar")
    assert [word.text.strip() for word in phrase.words] == ["مرحبا", "بك"]


def test_nothing_written_is_no_phrase(english: Tokenizer) -> None:
    assert read_phrases(decoded(english, [0.0], [0.0, 0.0]), english, noise(3.0), "en") == []
    assert read_phrases(decoded(english, [], [0.0]), english, noise(3.0), "en") == []


def window(*spans: tuple[float, float]) -> Window:
    """Spans of a recording, packed."""
    pieces, at = [], 0
    for start_s, end_s in spans:
        pieces.append(SampleRun(round(start_s * RATE_HZ), round(end_s * RATE_HZ), at))
        at += round((end_s - start_s + 0.2) * RATE_HZ)
    return Window(1, tuple(pieces), np.zeros(at, np.float32))


def phrase(*words: tuple[str, float, float]) -> TimedPhrase:
    timed = tuple(TimedWord(text, start_s, end_s, 0.9) for text, start_s, end_s in words)
    return TimedPhrase(timed[0].start_s, timed[-1].end_s, "".join(w.text for w in timed).strip(), timed, -0.1, 0.9)


GOOD = Decoded((), (), -0.1, 0.0, 1.0, 0.0, True, torch.zeros(1))


def test_a_phrase_is_parted_at_a_pause_and_not_at_a_breath() -> None:
    packed = window((10, 12), (12.6, 14), (40, 42))
    found = to_segments(packed, [phrase((" one", 0.5, 1), (" two", 2.3, 3), (" three", 4, 5.4))], GOOD)
    assert [(s.text, s.channel, s.start_s, s.end_s) for s in found] == [
        ("one two", 1, 10.5, pytest.approx(13.4)),
        ("three", 1, pytest.approx(40.2), pytest.approx(41.6)),
    ]
    assert [(w.text, w.start_s) for w in found[0].words] == [("one", 10.5), ("two", pytest.approx(12.7))]


def test_words_stay_within_their_span() -> None:
    packed = window((10, 12), (40, 42))
    (one, other) = to_segments(packed, [phrase((" one", 0.5, 2.15), (" two", 1.9, 4.9))], GOOD)
    assert one.end_s == 12.0
    assert (other.start_s, other.end_s) == (40.0, 42.0)


def test_a_span_without_a_word_is_found() -> None:
    packed = window((10, 12), (20, 20.5), (40, 42))
    missed = uncovered(packed, [phrase((" one", 0.5, 2.0))], 1.0)
    assert [alone.start_s for alone in missed] == [40.0]
