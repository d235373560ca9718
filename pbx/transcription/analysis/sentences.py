"""Joins segments to sentences, speaker by speaker, and finds the questions among them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from pbx.speech.idioms import Idioms, idioms_of
from pbx.speech.words import WordAt, find_languages, find_words, fold, is_unspaced
from pbx.transcription.analysis.findings import Quote, SpokenSegment

_GAP_S = 1.5  # a sentence doesn't continue after a longer pause
_MAX_SENTENCE_WORDS = 60
_END = re.compile(r"[.!?…؟۔।]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[」』”]?")
_ENDED = re.compile(r"[.!?…؟۔।。！？][\"'”’»)\]」』]*$")
_ABBREVIATION = re.compile(r"(?:\b(?:[^\W\d_]|mrs?|ms|dr|prof|st|nr|sra?|hr|fr|tel|approx|bzw)|\.\w)\.$", re.I)
_QUESTION_MARK = re.compile(r"[?？؟;][\"'”’»)\]」』]*$")
_MIN_WORDS_AFTER_COURTESY = 3  # so many words after a courtesy are a question of their own
_GREEK = re.compile("[\u0370-\u03ff]")


@dataclass(frozen=True)
class Sentence:
    """A sentence of one speaker. If it starts inside a segment, `start_s` is estimated by its share of the letters."""

    start_s: float
    end_s: float
    speaker: str
    text: str

    @cached_property
    def words(self) -> tuple[WordAt, ...]:
        """The words, each with its position in the text."""
        return tuple(find_words(self.text))

    @cached_property
    def folded(self) -> str:
        """The text without case and accents."""
        return fold(self.text)


class PlainWords(NamedTuple):
    """The words of a sentence that are not part of a greeting or courtesy.

    `after_courtesy`: how many of them come after the last courtesy, None if there is none.
    """

    words: list[WordAt]
    after_courtesy: int | None


@dataclass(frozen=True)
class Conversation:
    """A transcript to analyse: its sentences without flags, by start, and their languages."""

    sentences: tuple[Sentence, ...]
    languages: frozenset[str]

    @property
    def idioms(self) -> Idioms:
        """The idioms of the conversation's languages."""
        return idioms_of(self.languages)

    @cached_property
    def plain(self) -> tuple[PlainWords, ...]:
        """The plain words of each sentence."""
        idioms = self.idioms
        return tuple(_plain(sentence, idioms) for sentence in self.sentences)


def read_conversation(segments: Sequence[SpokenSegment]) -> Conversation:
    """Join segments to sentences. Flagged segments are left out."""
    sentences = tuple(sorted(_sentences_of(trusted(segments)), key=lambda sentence: sentence.start_s))
    return Conversation(sentences, find_languages([[at.word for at in sentence.words] for sentence in sentences]))


def trusted(segments: Sequence[SpokenSegment]) -> list[SpokenSegment]:
    """Return the segments with text and without flags, by start. If one ends before it starts, its length becomes 0."""
    usable = (segment for segment in segments if not segment.flags and segment.text.strip())
    return sorted(
        (replace(segment, end_s=max(segment.start_s, segment.end_s)) for segment in usable),
        key=lambda segment: (segment.start_s, segment.end_s),
    )


def find_questions(conversation: Conversation) -> list[Quote]:
    """Return the questions: sentences with a question mark, or without any mark if they start like a question.

    Leaves out those without content, such as "Right?", "Hello?" or "How can I help you?".
    """
    idioms = conversation.idioms
    return [
        Quote(round(sentence.start_s, 2), sentence.speaker, sentence.text)
        for sentence, plain in zip(conversation.sentences, conversation.plain, strict=True)
        if _is_question(sentence, idioms) and _has_content(plain, idioms)
    ]


def _has_content(plain: PlainWords, idioms: Idioms) -> bool:
    if plain.after_courtesy is not None and plain.after_courtesy < _MIN_WORDS_AFTER_COURTESY:
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
    bare = sentence.folded.rstrip(" .。")  # questions that end with a question word may have a full stop
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
    """Join a speaker's segments and split them at full stops; in texts without any, each segment is a sentence."""
    punctuated = sum(bool(_END.search(segment.text)) for segment in segments) * 3 > len(segments)
    unfinished: dict[str, Sentence] = {}
    for segment in segments:
        started = unfinished.pop(segment.speaker, None)
        if started and segment.start_s - started.end_s > _GAP_S:
            yield started
            started = None
        *complete, last = _split(segment)
        if started:
            first, *rest = (*complete, last)
            joined = replace(started, end_s=first.end_s, text=_join(started.text, first.text))
            *complete, last = (joined, *rest)
        yield from complete
        if not punctuated or _ENDED.search(last.text) or last.text.count(" ") > _MAX_SENTENCE_WORDS:
            yield last
        else:
            unfinished[segment.speaker] = last
    yield from unfinished.values()


def _join(before: str, after: str) -> str:
    """Join texts with a space, or without one in scripts that have no spaces."""
    return f"{before} {after}" if before[-1].isascii() or after[0].isascii() or " " in before else before + after


def _split(segment: SpokenSegment) -> list[Sentence]:
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
