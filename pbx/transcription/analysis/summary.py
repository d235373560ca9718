"""Summarises a conversation by its most important sentences: why somebody called, and the outcome."""

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

MAX_CANDIDATES = 240  # the size of the graph grows with the square of this
_PARTS = 24  # of a long call; each provides its own candidates, so that none is ignored
_MAX_CHARACTERS = 240  # of a sentence in the summary
_MAX_WEIGHTED_WORDS = 8  # content words; more don't increase a sentence's weight
_DAMPING = 0.85
_MAX_SIMILARITY = 0.5  # cosine of two sentences in the summary
_MIN_WORDS_WITH_COURTESY = 4  # content words that a sentence with a courtesy needs
_COMMA = re.compile(r"[,،，、]\s*(?=\S)")
_FULL_STOPS = ("。", "！", "？")
_LABELS = {CALLER: "Caller: ", AGENT: "Agent: "}


class _Candidate:
    """A sentence with content, and the values that the selection uses."""

    def __init__(self, sentence: Sentence, stems: Sequence[str], position: float, idioms: Idioms) -> None:
        self.sentence = sentence
        self.stems = Counter(stems)
        self.position = position  # in the call, 0 to 1
        self.gives_reason = bool(idioms.reasons.search(sentence.folded))
        self.gives_outcome = bool(idioms.outcomes.search(sentence.folded))
        amount = min(len(self.stems), _MAX_WEIGHTED_WORDS) / _MAX_WEIGHTED_WORDS
        self.weight = (
            amount + 0.3 * (self.gives_reason or self.gives_outcome) + 0.1 * any(map(str.isdigit, sentence.text))
        )
        if sentence.text.endswith(("?", "？", "؟")):
            self.weight *= 0.6  # the answer is more important


def summarise_extract(conversation: Conversation) -> str:
    """Return two to four sentences of the conversation by time, one line per turn, with the speaker if known.

    Greetings, thanks, hold phrases and fillers are left out. The selection contains the sentence that best states the
    reason for calling (by the caller, early), the one that best states the outcome (by the agent, late), and the most
    central ones by LexRank (Erkan and Radev, JAIR 22, 2004: PageRank over the cosine of tf-idf vectors), weighted by
    their content. A call with nothing but courtesies has the summary "".
    """
    candidates = _best_of_each_part(_candidates(conversation))
    if not candidates:
        return ""
    vectors = _vectors(candidates)
    similarity = vectors @ vectors.T
    scores = np.array([candidate.weight for candidate in candidates]) * (0.5 + _centrality(similarity))
    count = 2 if len(candidates) < 7 else 3 if len(candidates) < 16 else 4
    chosen: list[int] = []
    for preference in (_reason_scores, _outcome_scores):
        best = scores * preference(candidates)
        _choose(best, similarity, chosen, len(chosen) + 1)
    _choose(scores, similarity, chosen, count)
    return _summary_text([candidates[index].sentence for index in sorted(chosen)], conversation.idioms)


def weigh_sentences(conversation: Conversation) -> list[float]:
    """Return the weight of each sentence's content, from 0 (a courtesy) to about 1.4."""
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
        if sentence is not greeting and (stems := _content(plain, stops))
    ]


def _greeting(conversation: Conversation) -> Sentence | None:
    """Return the first sentence if it is a greeting; the rest of it are names of people and companies."""
    first = next(iter(conversation.sentences), None)
    return first if first and first.speaker != CALLER and conversation.idioms.openings.search(first.folded) else None


def _content(plain: PlainWords, stops: frozenset[str]) -> list[str]:
    """Return the stems of a sentence's content words; an empty list if it is little more than a courtesy."""
    stems = content_stems(plain.words, stops)
    words = [stem for stem in stems if not stem.isdigit()]
    return stems if len(words) >= (_MIN_WORDS_WITH_COURTESY if plain.after_courtesy is not None else 1) else []


def _best_of_each_part(candidates: list[_Candidate]) -> list[_Candidate]:
    """Reduce too many candidates to the best of each part of the call, by time."""
    if len(candidates) <= MAX_CANDIDATES:
        return candidates
    size = math.ceil(len(candidates) / _PARTS)
    parts = [candidates[start : start + size] for start in range(0, len(candidates), size)]
    best = [sorted(part, key=lambda c: c.weight, reverse=True)[: MAX_CANDIDATES // _PARTS] for part in parts]
    return sorted((c for part in best for c in part), key=lambda c: c.position)


def _vectors(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """Return a tf-idf vector of length 1 per candidate; idf is ln(1 + n / n_t), which is never zero."""
    sentences_with = Counter(stem for candidate in candidates for stem in candidate.stems)
    column = {stem: index for index, stem in enumerate(sentences_with)}
    vectors = np.zeros((len(candidates), len(column)))
    for row, candidate in enumerate(candidates):
        for stem, times in candidate.stems.items():
            vectors[row, column[stem]] = times * math.log1p(len(candidates) / sentences_with[stem])
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _centrality(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the continuous LexRank of each sentence, scaled so that the most central one has 1."""
    steps = similarity / similarity.sum(axis=1, keepdims=True)
    rank = np.full(len(similarity), 1 / len(similarity))
    for _ in range(50):
        rank = (1 - _DAMPING) / len(similarity) + _DAMPING * (rank @ steps)
    scaled: NDArray[np.float64] = rank / rank.max()
    return scaled


def _reason_scores(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """Return how well each states the reason: early, and by the caller if speakers are known."""
    speakers_known = any(candidate.sentence.speaker == CALLER for candidate in candidates)
    return np.array(
        [
            (1 + c.gives_reason * _trust(c)) * (1.2 - c.position)
            if c.position <= 0.6 and (not speakers_known or c.sentence.speaker == CALLER)
            else 0.0
            for c in candidates
        ]
    )


def _outcome_scores(candidates: Sequence[_Candidate]) -> NDArray[np.float64]:
    """Return how well each states the outcome: late, and by the agent if speakers are known."""
    speakers_known = any(candidate.sentence.speaker == AGENT for candidate in candidates)
    return np.array(
        [
            (1 + c.gives_outcome * _trust(c)) * (0.2 + c.position)
            if c.position >= 0.4 and (not speakers_known or c.sentence.speaker == AGENT)
            else 0.0
            for c in candidates
        ]
    )


def _trust(candidate: _Candidate) -> float:
    """Return how much an idiom for a reason or outcome counts: little in a sentence with few other words."""
    return min(len(candidate.stems) + 1, 3) * 2 / 3


def _choose(scores: NDArray[np.float64], similarity: NDArray[np.float64], chosen: list[int], until: int) -> None:
    """Add the best sentences that are not too similar to those chosen, until `until` are chosen."""
    for index in map(int, np.argsort(-scores, kind="stable")):
        if len(chosen) >= until or scores[index] <= 0:
            return
        if index not in chosen and all(similarity[index, other] < _MAX_SIMILARITY for other in chosen):
            chosen.append(index)


def _summary_text(sentences: Sequence[Sentence], idioms: Idioms) -> str:
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
    """Remove an "Um," or "Good morning," from the start of a text."""
    while (comma := _COMMA.search(text)) and not idioms.openings.sub("", fold(text[: comma.start()])).strip():
        text = text[comma.end() :]
    return text[0].upper() + text[1:]


def _shortened(text: str) -> str:
    if len(text) <= _MAX_CHARACTERS:
        return text
    return text[:_MAX_CHARACTERS].rsplit(" ", 1)[0].rstrip(" ,;:") + " …"
