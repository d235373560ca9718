"""What a conversation is about: the phrases it comes back to, and the analyst's own topics found in it."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from pbx.speech.words import UNSPACED, WordAt, all_stop_words, cut_unspaced, fold, is_unspaced, stem
from pbx.transcription.analysis.findings import Quote, SpokenSegment
from pbx.transcription.analysis.sentences import Conversation, Sentence, trusted

MOST_PHRASES = 8
_SURE_PHRASES = 6  # beyond these a single word must be said again
_LONGEST_PHRASE = 4  # words
_LONGEST_RUN = 8  # characters of a script without spaces
_GAP_S = 1.5  # a phrase doesn't run on into a later segment than that
_BETWEEN = re.compile(r"[ \-‐‑]+")
_MATCHES_ANYWHERE = re.compile(f"[{UNSPACED}\uac00-\ud7a3]")  # Korean has spaces, but its particles stick to the noun


class _KeyPhrase(NamedTuple):
    stems: tuple[str, ...]
    text: str
    opens: bool = False  # a sentence: its capital means nothing


def find_key_phrases(conversation: Conversation) -> list[str]:
    """Return up to eight phrases that tell most of what was spoken of, the most telling first, as first said.

    Candidates are runs of words between stop words, as in Rose et al., "Automatic keyword extraction from individual
    documents" (RAKE, 2010). Unlike there they are weighed by how often their words come back, as the degree favours the
    long phrases that only transcripts have: mean of ln(1 + n) over a phrase's words, times the root of its length,
    times 1 + ln(times it was said). A phrase whose last word, or most of whose words, are in better ones is left out.
    """
    stops = all_stop_words(conversation.languages)
    both = zip(conversation.sentences, conversation.plain, strict=True)
    said = [phrase for sentence, plain in both for phrase in _phrases_of(sentence, plain.words, stops)]
    words = Counter(word for phrase in said for word in phrase.stems)
    times = Counter(phrase.stems for phrase in said)
    texts: dict[tuple[str, ...], str] = {}
    for phrase in said:
        texts.setdefault(phrase.stems, phrase.text[0].lower() + phrase.text[1:] if phrase.opens else phrase.text)

    def weight(stems: tuple[str, ...]) -> float:
        mean = sum(math.log1p(words[word]) for word in stems) / len(stems)
        return mean * math.sqrt(len(stems)) * (1 + math.log(times[stems]))

    chosen: list[str] = []
    used: set[str] = set()
    for stems in sorted(texts, key=weight, reverse=True):  # stable: among equals the first said
        if len(chosen) >= _SURE_PHRASES and len(stems) == 1 and times[stems] == 1:
            continue  # a word said once
        if stems[-1] in used or 2 * len(used & set(stems)) > len(set(stems)):
            continue
        chosen.append(texts[stems])
        used |= set(stems)
        if len(chosen) == MOST_PHRASES:
            break
    return chosen


def match_topics(segments: Sequence[SpokenSegment], topics: Mapping[str, Sequence[str]]) -> dict[str, list[Quote]]:
    """Return the topics that were spoken of, each with the segments that say one of its phrases, by start.

    Case and accents don't matter; a phrase matches whole words, `refund*` also refunds and refunded; Chinese, Japanese,
    Korean and Thai match anywhere. A phrase may run on into the speaker's next segment; its first one counts. Flagged
    segments are left out.
    """
    patterns = {name: pattern for name, phrases in topics.items() if (pattern := _pattern(phrases))}
    found: dict[str, dict[int, SpokenSegment]] = {name: {} for name in patterns}
    for run in _runs(trusted(segments)):
        texts = [fold(" ".join(segment.text.split())) for segment in run]
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + len(text) + 1)
        whole = " ".join(texts)
        for name, pattern in patterns.items():
            for match in pattern.finditer(whole):
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
    """Return the stems of the words that say something."""
    stems: list[str] = []
    for at in words:
        if is_unspaced(at.word):
            stems += cut_unspaced(at.word, stops)
        elif at.word not in stops and len(at.word) > 1:
            stems.append(stem(at.word))
    return stems


def _phrases_of(sentence: Sentence, words: Sequence[WordAt], stops: frozenset[str]) -> Iterator[_KeyPhrase]:
    """Its runs of words that say something, with nothing but spaces and hyphens between them."""
    run: list[WordAt] = []
    for at in words:
        says = at.word not in stops and not at.word.isdigit() and len(at.word) > 1 and not is_unspaced(at.word)
        if run and not (says and _BETWEEN.fullmatch(sentence.text, run[-1].end, at.start)):
            yield _phrase(sentence, run)
            run = []
        if says:
            run.append(at)
        elif is_unspaced(at.word):
            yield from (
                _KeyPhrase((piece,), piece) for piece in cut_unspaced(at.word, stops) if len(piece) <= _LONGEST_RUN
            )
    if run:
        yield _phrase(sentence, run)


def _phrase(sentence: Sentence, run: Sequence[WordAt]) -> _KeyPhrase:
    """The last words of a run, as the noun comes last in most languages."""
    kept = run[-_LONGEST_PHRASE:]
    start, end = kept[0].start, kept[-1].end
    return _KeyPhrase(tuple(stem(at.word) for at in kept), sentence.text[start:end], opens=start == 0)


def _runs(segments: Sequence[SpokenSegment]) -> Iterator[list[SpokenSegment]]:
    """Segments that one speaker says without a longer pause, whatever others say meanwhile."""
    going: dict[str, list[SpokenSegment]] = {}
    for segment in segments:
        run = going.get(segment.speaker)
        if run and segment.start_s - run[-1].end_s <= _GAP_S:
            run.append(segment)
            continue
        if run:
            yield run
        going[segment.speaker] = [segment]
    yield from going.values()


def _pattern(phrases: Sequence[str]) -> re.Pattern[str] | None:
    """One pattern for all phrases of a topic; None when none has a word."""
    kinds = [kind for phrase in phrases if (kind := _phrase_pattern(phrase))]
    return re.compile("|".join(kinds)) if kinds else None


def _phrase_pattern(phrase: str) -> str:
    words = re.findall(r"[^\s*]+\*?", fold(phrase))
    parts = [re.escape(word.rstrip("*")) + (r"\w*" if word.endswith("*") else "") for word in words if word.strip("*")]
    if not parts:
        return ""
    if _MATCHES_ANYWHERE.search(phrase):
        return r"\s*".join(parts)
    return r"(?<!\w)" + r"[\W_]+".join(parts) + r"(?!\w)"
