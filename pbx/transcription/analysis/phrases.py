"""Key phrases of a conversation, and mentions of the analyst's own topics."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from pbx.speech.words import UNSPACED, WordAt, all_stop_words, cut_unspaced, fold, is_unspaced, stem
from pbx.transcription.analysis.findings import Quote, SpokenSegment
from pbx.transcription.analysis.sentences import Conversation, Sentence, trusted

MAX_PHRASES = 8
_ALWAYS_ALLOWED_PHRASES = 6  # after these, a single word must occur more than once
_MAX_PHRASE_WORDS = 4
_MAX_UNSPACED_CHARACTERS = 8  # of a phrase in a script without spaces
_GAP_S = 1.5  # a phrase doesn't continue after a longer pause
_BETWEEN = re.compile(r"[ \-‐‑]+")
_MATCHES_ANYWHERE = re.compile(f"[{UNSPACED}\uac00-\ud7a3]")  # Korean has spaces, but its particles stick to the noun


class _KeyPhrase(NamedTuple):
    stems: tuple[str, ...]
    text: str
    is_sentence_start: bool = False  # then its capital letter means nothing


def find_key_phrases(conversation: Conversation) -> list[str]:
    """Return up to eight phrases that describe the conversation best, most important first, as they were first said.

    Candidates are runs of words between stop words, as in Rose et al., "Automatic keyword extraction from individual
    documents" (RAKE, 2010). RAKE's word degree favours long phrases, which transcripts have many of. So candidates are
    weighted by how often their words occur: the mean of ln(1 + n) over the words, times the root of the number of
    words, times 1 + ln(occurrences of the phrase). A phrase is left out if its last word, or most of its words, are in
    better ones.
    """
    stops = all_stop_words(conversation.languages)
    pairs = zip(conversation.sentences, conversation.plain, strict=True)
    candidates = [phrase for sentence, plain in pairs for phrase in _phrases_of(sentence, plain.words, stops)]
    words = Counter(word for phrase in candidates for word in phrase.stems)
    times = Counter(phrase.stems for phrase in candidates)
    texts: dict[tuple[str, ...], str] = {}
    for phrase in candidates:
        texts.setdefault(
            phrase.stems, phrase.text[0].lower() + phrase.text[1:] if phrase.is_sentence_start else phrase.text
        )

    def weight(stems: tuple[str, ...]) -> float:
        mean = sum(math.log1p(words[word]) for word in stems) / len(stems)
        return mean * math.sqrt(len(stems)) * (1 + math.log(times[stems]))

    chosen: list[str] = []
    used: set[str] = set()
    for stems in sorted(texts, key=weight, reverse=True):  # stable, so the phrase said first wins
        if len(chosen) >= _ALWAYS_ALLOWED_PHRASES and len(stems) == 1 and times[stems] == 1:
            continue
        if stems[-1] in used or 2 * len(used & set(stems)) > len(set(stems)):
            continue
        chosen.append(texts[stems])
        used |= set(stems)
        if len(chosen) == MAX_PHRASES:
            break
    return chosen


def match_topics(segments: Sequence[SpokenSegment], topics: Mapping[str, Sequence[str]]) -> dict[str, list[Quote]]:
    """Return the topics mentioned, each with the segments that contain one of its phrases, by start.

    Case and accents are ignored. Phrases match complete words; `refund*` also matches refunds and refunded; Chinese,
    Japanese, Korean and Thai phrases match anywhere. If a phrase continues in the speaker's next segment, the first
    segment counts. Flagged segments are left out.
    """
    patterns = {name: pattern for name, phrases in topics.items() if (pattern := _pattern(phrases))}
    found: dict[str, dict[int, SpokenSegment]] = {name: {} for name in patterns}
    for run in _runs(trusted(segments)):
        texts = [fold(" ".join(segment.text.split())) for segment in run]
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + len(text) + 1)
        joined = " ".join(texts)
        for name, pattern in patterns.items():
            for match in pattern.finditer(joined):
                index = next(i for i, (start, end) in enumerate(pairwise(starts)) if start <= match.start() < end)
                found[name][id(run[index])] = run[index]
    return {
        name: [
            Quote(segment.start_s, segment.speaker, segment.text)
            for segment in sorted(hits.values(), key=lambda segment: segment.start_s)
        ]
        for name, hits in found.items()
        if hits
    }


def content_stems(words: Sequence[WordAt], stops: frozenset[str]) -> list[str]:
    """Return the stems of the content words: all but stop words and single letters."""
    stems: list[str] = []
    for at in words:
        if is_unspaced(at.word):
            stems += cut_unspaced(at.word, stops)
        elif at.word not in stops and len(at.word) > 1:
            stems.append(stem(at.word))
    return stems


def _phrases_of(sentence: Sentence, words: Sequence[WordAt], stops: frozenset[str]) -> Iterator[_KeyPhrase]:
    """Yield a sentence's runs of content words with only spaces and hyphens between them."""
    run: list[WordAt] = []
    for at in words:
        is_content = at.word not in stops and not at.word.isdigit() and len(at.word) > 1 and not is_unspaced(at.word)
        if run and not (is_content and _BETWEEN.fullmatch(sentence.text, run[-1].end, at.start)):
            yield _phrase(sentence, run)
            run = []
        if is_content:
            run.append(at)
        elif is_unspaced(at.word):
            yield from (
                _KeyPhrase((piece,), piece)
                for piece in cut_unspaced(at.word, stops)
                if len(piece) <= _MAX_UNSPACED_CHARACTERS
            )
    if run:
        yield _phrase(sentence, run)


def _phrase(sentence: Sentence, run: Sequence[WordAt]) -> _KeyPhrase:
    """Return the last words of a run as a phrase, because the noun comes last in most languages."""
    words = run[-_MAX_PHRASE_WORDS:]
    start, end = words[0].start, words[-1].end
    return _KeyPhrase(tuple(stem(at.word) for at in words), sentence.text[start:end], is_sentence_start=start == 0)


def _runs(segments: Sequence[SpokenSegment]) -> Iterator[list[SpokenSegment]]:
    """Group segments that one speaker says without a longer pause, whatever others say meanwhile."""
    open_runs: dict[str, list[SpokenSegment]] = {}
    for segment in segments:
        run = open_runs.get(segment.speaker)
        if run and segment.start_s - run[-1].end_s <= _GAP_S:
            run.append(segment)
            continue
        if run:
            yield run
        open_runs[segment.speaker] = [segment]
    yield from open_runs.values()


def _pattern(phrases: Sequence[str]) -> re.Pattern[str] | None:
    """Return one pattern for all phrases of a topic; None if none contains a word."""
    patterns = [pattern for phrase in phrases if (pattern := _phrase_pattern(phrase))]
    return re.compile("|".join(patterns)) if patterns else None


def _phrase_pattern(phrase: str) -> str:
    words = re.findall(r"[^\s*]+\*?", fold(phrase))
    parts = [re.escape(word.rstrip("*")) + (r"\w*" if word.endswith("*") else "") for word in words if word.strip("*")]
    if not parts:
        return ""
    if _MATCHES_ANYWHERE.search(phrase):
        return r"\s*".join(parts)
    return r"(?<!\w)" + r"[\W_]+".join(parts) + r"(?!\w)"
