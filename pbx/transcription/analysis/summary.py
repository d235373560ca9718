"""The few sentences of a conversation that tell most of it: why somebody called, and what came of it."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pbx.speech.idioms import Idioms
from pbx.speech.words import all_stop_words, fold
from pbx.transcription.analysis.findings import AGENT, CALLER
from pbx.transcription.analysis.phrases import content_stems
from pbx.transcription.analysis.sentences import Conversation, PlainWords, Sentence

MOST_CANDIDATES = 240  # the graph grows by their square
_STRETCHES = 24  # of which each puts up its own candidates, so that none of a long call is passed over
_MOST_LETTERS = 240
_FULL_WORDS = 8  # content words; a sentence of more says no more for it
_DAMPING = 0.85
_TOO_ALIKE = 0.5  # cosine
_MUCH_MORE = 4  # content words around a courtesy that make it worth telling
_COMMA = re.compile(r"[,،，、]\s*(?=\S)")
_FULL_STOPS = ("。", "！", "？")
_LABELS = {CALLER: "Caller: ", AGENT: "Agent: "}


class _Candidate:
    """A sentence that says something, with what the choice goes by."""

    def __init__(self, sentence: Sentence, stems: Sequence[str], place: float, idioms: Idioms) -> None:
        self.sentence = sentence
        self.stems = Counter(stems)
        self.place = place  # in the call, 0 to 1
        self.gives_reason = bool(idioms.reasons.search(sentence.folded))
        self.gives_outcome = bool(idioms.outcomes.search(sentence.folded))
        said = min(len(self.stems), _FULL_WORDS) / _FULL_WORDS
        self.weight = (
            said + 0.3 * (self.gives_reason or self.gives_outcome) + 0.1 * any(map(str.isdigit, sentence.text))
        )
        if sentence.text.endswith(("?", "？", "؟")):
            self.weight *= 0.6  # the answer tells more


def summarise_extract(conversation: Conversation) -> str:
    """Return two to four sentences of the conversation, by time, a line per turn, with who said it where known.

    Left out are greetings, thanks, hold phrases and fillers. Of the rest it takes the one that best gives the reason
    for calling (the caller's, early), the one that best gives the outcome (the agent's, late), then the most central
    ones: LexRank (Erkan and Radev, JAIR 22, 2004: PageRank over the cosine of tf-idf vectors), weighed with how much is
    said. Only a call with nothing but courtesies gives "".
    """
    candidates = _put_up(_candidates(conversation))
    if not candidates:
        return ""
    vectors = _vectors(candidates)
    alike = vectors @ vectors.T
    scores = np.array([candidate.weight for candidate in candidates]) * (0.5 + _centrality(alike))
    wanted = 2 if len(candidates) < 7 else 3 if len(candidates) < 16 else 4
    chosen: list[int] = []
    for preference in (_reason_scores, _outcome_scores):
        best = scores * preference(candidates)
        _choose(best, alike, chosen, len(chosen) + 1)
    _choose(scores, alike, chosen, wanted)
    return _tell([candidates[index].sentence for index in sorted(chosen)], conversation.idioms)


def weigh_sentences(conversation: Conversation) -> list[float]:
    """Return how much each sentence says, 0 (a courtesy) to about 1.4."""
    weights = {id(candidate.sentence): candidate.weight for candidate in _candidates(conversation)}
    return [weights.get(id(sentence), 0.0) for sentence in conversation.sentences]


def _candidates(conversation: Conversation) -> list[_Candidate]:
    idioms = conversation.idioms
    stops = all_stop_words(conversation.languages)
    last = max(len(conversation.sentences) - 1, 1)
    greeting = _greeting(conversation)
    return [
        _Candidate(sentence, stems, index / last, idioms)
        for index, (sentence, plain) in enumerate(zip(conversation.sentences, conversation.plain, strict=True))
        if sentence is not greeting and (stems := _said(plain, stops))
    ]


def _greeting(conversation: Conversation) -> Sentence | None:
    """The sentence that a call begins with, if it greets: the rest of it are names, of people and companies."""
    first = next(iter(conversation.sentences), None)
    return first if first and first.speaker != CALLER and conversation.idioms.openings.search(first.folded) else None


def _said(plain: PlainWords, stops: frozenset[str]) -> list[str]:
    """The content of a sentence beside its courtesies; nothing when it is hardly more than one."""
    stems = content_stems(plain.words, stops)
    telling = [stem for stem in stems if not stem.isdigit()]
    return stems if len(telling) >= (_MUCH_MORE if plain.after_courtesy is not None else 1) else []


def _put_up(candidates: list[_Candidate]) -> list[_Candidate]:
    """The best of each stretch of the call, when there are too many; in order of time."""
    if len(candidates) <= MOST_CANDIDATES:
        return candidates
    size = math.ceil(len(candidates) / _STRETCHES)
    stretches = [candidates[start : start + size] for start in range(0, len(candidates), size)]
    best = [
        sorted(stretch, key=lambda c: c.weight, reverse=True)[: MOST_CANDIDATES // _STRETCHES] for stretch in stretches
    ]
    return sorted((c for stretch in best for c in stretch), key=lambda c: c.place)


def _vectors(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """A tf-idf vector of length 1 per candidate; idf as ln(1 + n / n_t), which leaves no word at zero."""
    sentences_with = Counter(stem for candidate in candidates for stem in candidate.stems)
    column = {stem: index for index, stem in enumerate(sentences_with)}
    vectors = np.zeros((len(candidates), len(column)))
    for row, candidate in enumerate(candidates):
        for stem, times in candidate.stems.items():
            vectors[row, column[stem]] = times * math.log1p(len(candidates) / sentences_with[stem])
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _centrality(alike: NDArray[np.float64]) -> NDArray[np.float64]:
    """Continuous LexRank of each sentence, scaled so that the most central has 1."""
    steps = alike / alike.sum(axis=1, keepdims=True)
    rank = np.full(len(alike), 1 / len(alike))
    for _ in range(50):
        rank = (1 - _DAMPING) / len(alike) + _DAMPING * (rank @ steps)
    scaled: NDArray[np.float64] = rank / rank.max()
    return scaled


def _reason_scores(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """How well each gives the reason: the caller's, where speakers are known, and early."""
    known = any(candidate.sentence.speaker == CALLER for candidate in candidates)
    return np.array(
        [
            (1 + c.gives_reason * _trust(c)) * (1.2 - c.place)
            if c.place <= 0.6 and (not known or c.sentence.speaker == CALLER)
            else 0.0
            for c in candidates
        ]
    )


def _outcome_scores(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """How well each gives the outcome: the agent's, where speakers are known, and late."""
    known = any(candidate.sentence.speaker == AGENT for candidate in candidates)
    return np.array(
        [
            (1 + c.gives_outcome * _trust(c)) * (0.2 + c.place)
            if c.place >= 0.4 and (not known or c.sentence.speaker == AGENT)
            else 0.0
            for c in candidates
        ]
    )


def _trust(candidate: _Candidate) -> float:
    """How much a turn of phrase counts: little where there is hardly more than it."""
    return min(len(candidate.stems) + 1, 3) * 2 / 3


def _choose(scores: NDArray[np.float64], alike: NDArray[np.float64], chosen: list[int], until: int) -> None:
    """Add the best that are not too much like what is chosen, until there are so many."""
    for index in map(int, np.argsort(-scores, kind="stable")):
        if len(chosen) >= until or scores[index] <= 0:
            return
        if index not in chosen and all(alike[index, other] < _TOO_ALIKE for other in chosen):
            chosen.append(index)


def _tell(sentences: Sequence[Sentence], idioms: Idioms) -> str:
    lines: list[str] = []
    before: str | None = None
    for sentence in sentences:
        text = _shortened(_without_opening(sentence.text, idioms))
        if sentence.speaker and sentence.speaker == before:
            lines[-1] += text if lines[-1].endswith(_FULL_STOPS) else f" {text}"
        else:
            lines.append(_LABELS.get(sentence.speaker, "") + text)
        before = sentence.speaker
    return "\n".join(lines)


def _without_opening(text: str, idioms: Idioms) -> str:
    """Without the "Um," or "Good morning," before what is meant."""
    while (comma := _COMMA.search(text)) and not idioms.openings.sub("", fold(text[: comma.start()])).strip():
        text = text[comma.end() :]
    return text[0].upper() + text[1:]


def _shortened(text: str) -> str:
    if len(text) <= _MOST_LETTERS:
        return text
    return text[:_MOST_LETTERS].rsplit(" ", 1)[0].rstrip(" ,;:") + " …"
