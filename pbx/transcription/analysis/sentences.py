"""Segments put together to sentences, speaker by speaker, and the questions among them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from pbx.speech.idioms import Idioms, idioms_of
from pbx.speech.words import WordAt, find_languages, find_words, fold, is_unspaced
from pbx.transcription.analysis.findings import Quote, SpokenSegment

_GAP_S = 1.5  # a sentence doesn't go on after a longer pause
_LONGEST_WORDS = 60
_END = re.compile(r"[.!?…؟۔।]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[」』”]?")
_ENDED = re.compile(r"[.!?…؟۔।。！？][\"'”’»)\]」』]*$")
_ABBREVIATION = re.compile(r"(?:\b(?:[^\W\d_]|mrs?|ms|dr|prof|st|nr|sra?|hr|fr|tel|approx|bzw)|\.\w)\.$", re.I)
_QUESTION_MARK = re.compile(r"[?？؟;][\"'”’»)\]」』]*$")
_MUCH_MORE = 3  # words after a courtesy that are a question of their own
_GREEK = re.compile("[\u0370-\u03ff]")


@dataclass(frozen=True)
class Sentence:
    """What one speaker said in one go. `start_s` is right where a segment begins, else by the share of letters."""

    start_s: float
    end_s: float
    speaker: str
    text: str

    @cached_property
    def words(self) -> tuple[WordAt, ...]:
        return tuple(find_words(self.text))

    @cached_property
    def folded(self) -> str:
        return fold(self.text)


class PlainWords(NamedTuple):
    """The words of a sentence that are part of no greeting and no courtesy.

    `after_courtesy`: how many of them come after the last courtesy, None where there is none.
    """

    words: list[WordAt]
    after_courtesy: int | None


@dataclass(frozen=True)
class Conversation:
    """A transcript to be analysed: its trustworthy sentences by start, and the languages they are in."""

    sentences: tuple[Sentence, ...]
    languages: frozenset[str]

    @property
    def idioms(self) -> Idioms:
        return idioms_of(self.languages)

    @cached_property
    def plain(self) -> tuple[PlainWords, ...]:
        """Of each sentence."""
        idioms = self.idioms
        return tuple(_plain(sentence, idioms) for sentence in self.sentences)


def read_conversation(segments: Sequence[SpokenSegment]) -> Conversation:
    """Put segments together to sentences. Flagged ones are left out."""
    sentences = tuple(sorted(_sentences_of(trusted(segments)), key=lambda sentence: sentence.start_s))
    return Conversation(sentences, find_languages([[at.word for at in sentence.words] for sentence in sentences]))


def trusted(segments: Sequence[SpokenSegment]) -> list[SpokenSegment]:
    """Return the segments with text and without flags, by start; one that ends before it starts has no length."""
    kept = (segment for segment in segments if not segment.flags and segment.text.strip())
    return sorted(
        (replace(segment, end_s=max(segment.start_s, segment.end_s)) for segment in kept),
        key=lambda segment: (segment.start_s, segment.end_s),
    )


def find_questions(conversation: Conversation) -> list[Quote]:
    """Return the questions asked: what ends with a question mark, or opens like a question and has no mark at its end.

    Left out is what asks nothing: "Right?", "Hello?", "How can I help you?".
    """
    idioms = conversation.idioms
    return [
        Quote(round(sentence.start_s, 2), sentence.speaker, sentence.text)
        for sentence, plain in zip(conversation.sentences, conversation.plain, strict=True)
        if _is_question(sentence, idioms) and _asks(plain, idioms)
    ]


def _asks(plain: PlainWords, idioms: Idioms) -> bool:
    if plain.after_courtesy is not None and plain.after_courtesy < _MUCH_MORE:
        return False
    return any(at.word not in idioms.fillers for at in plain.words)


def _plain(sentence: Sentence, idioms: Idioms) -> PlainWords:
    joined = " ".join(at.word for at in sentence.words)
    courtesies = [match.span() for match in idioms.courtesies.finditer(joined)]
    spans = courtesies + [match.span() for match in idioms.openings.finditer(joined)]
    after = max((last for _, last in courtesies), default=None)
    plain: list[WordAt] = []
    start = count_after = 0
    for at in sentence.words:
        end = start + len(at.word)
        if is_unspaced(at.word) or not any(first <= start and end <= last for first, last in spans):
            plain.append(at)
            count_after += after is not None and start >= after
        start = end + 1
    return PlainWords(plain, None if after is None else count_after)


def _is_question(sentence: Sentence, idioms: Idioms) -> bool:
    if mark := _QUESTION_MARK.search(sentence.text):
        return mark[0][0] != ";" or bool(_GREEK.search(sentence.text))
    bare = sentence.folded.rstrip(" .。")  # the languages that end questions by a word may close them with a full stop
    if idioms.endings.search(bare):
        return True
    if _ENDED.search(sentence.text):
        return False
    while opening := idioms.openings.match(bare):
        bare = bare[opening.end() :].lstrip(" ,")
        if not opening[0]:
            break
    return bool(idioms.questions.match(bare))


def _sentences_of(segments: Sequence[SpokenSegment]) -> Iterator[Sentence]:
    """Join what a speaker goes on saying and cut it at full stops; without any, a segment is a sentence."""
    punctuated = sum(bool(_END.search(segment.text)) for segment in segments) * 3 > len(segments)
    unfinished: dict[str, Sentence] = {}
    for segment in segments:
        begun = unfinished.pop(segment.speaker, None)
        if begun and segment.start_s - begun.end_s > _GAP_S:
            yield begun
            begun = None
        *whole, last = _cut(segment)
        if begun:
            first, *rest = (*whole, last)
            joined = replace(begun, end_s=first.end_s, text=_join(begun.text, first.text))
            *whole, last = (joined, *rest)
        yield from whole
        if not punctuated or _ENDED.search(last.text) or last.text.count(" ") > _LONGEST_WORDS:
            yield last
        else:
            unfinished[segment.speaker] = last
    yield from unfinished.values()


def _join(before: str, after: str) -> str:
    """A space between, but not in scripts that have none."""
    return f"{before} {after}" if before[-1].isascii() or after[0].isascii() or " " in before else before + after


def _cut(segment: SpokenSegment) -> list[Sentence]:
    text = " ".join(segment.text.split())
    ends = [match.end() for match in _END.finditer(text) if not _ABBREVIATION.search(text[: match.end()][-12:])]
    bounds = [0, *ends] if ends and ends[-1] == len(text) else [0, *ends, len(text)]
    per_letter_s = (segment.end_s - segment.start_s) / len(text)
    return [
        Sentence(
            segment.start_s + start * per_letter_s,
            segment.start_s + end * per_letter_s,
            segment.speaker,
            text[start:end].strip(),
        )
        for start, end in pairwise(bounds)
        if text[start:end].strip()
    ]
