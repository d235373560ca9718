"""Figures of a conversation: who spoke how much, who waited, who cut in. From the times of segments, not of sounds."""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from pbx.speech.words import find_words
from pbx.transcription.analysis.findings import AGENT, CALLER, SpokenSegment

SecondsSpan = tuple[float, float]  # from, to, in seconds

OVERLAP_S = 0.5  # shorter overlaps are how turns normally change hands
TURN_GAP_S = 2.0  # a speaker who goes on within this is still in the same turn
# Under these there was a voice, though its words are in doubt: no silence.
_VOICED_FLAGS = frozenset({"repetition", "compression", "improbable"})


def talk_seconds(segments: Sequence[SpokenSegment]) -> dict[str, float]:
    """Return how long each speaker spoke, in seconds: what their segments cover together, overlaps counted once."""
    return {
        speaker: round(sum(end_s - start_s for start_s, end_s in _union(_spans(segments, speaker))), 3)
        for speaker in sorted({segment.speaker for segment in segments})
    }


def talk_ratio(talk_s: dict[str, float]) -> float | None:
    """Return the agent's share of what agent and caller spoke, agent / (agent + caller), 0 to 1.

    None where the speakers are not known, or for some of the talk only.
    """
    known_s = talk_s.get(AGENT, 0.0) + talk_s.get(CALLER, 0.0)
    return talk_s.get(AGENT, 0.0) / known_s if known_s > 0 and not talk_s.get("") else None


def longest_silence(segments: Sequence[SpokenSegment], duration_s: float | None) -> tuple[float, float] | None:
    """Return where the longest stretch starts in which nobody speaks, and its length, seconds.

    Looked for between the first word and the last: ringing before and a forgotten receiver after are no part of the
    conversation. Hold music counts as silence, as nobody speaks. Doubtful words (flags that mean a voice) end it. None
    when there is none.
    """
    limit_s = duration_s if duration_s is not None else float("inf")
    spoken = [segment for segment in segments if set(segment.flags) <= _VOICED_FLAGS]
    stretches = _union((segment.start_s, min(segment.end_s, limit_s)) for segment in spoken)
    gaps = [
        (next_start_s - end_s, end_s) for (_, end_s), (next_start_s, _) in pairwise(stretches) if next_start_s > end_s
    ]
    length_s, start_s = max(gaps, key=lambda gap: gap[0], default=(0.0, 0.0))
    return (round(start_s, 3), round(length_s, 3)) if length_s else None


def count_interruptions(segments: Sequence[SpokenSegment], fillers: Collection[str] = ()) -> int:
    """Count how often one speaker began while the other spoke, and both went on together for over 0.5 s.

    Overlap as in Heldner and Edlund, "Pauses, gaps and overlaps in conversations" (Journal of Phonetics 38, 2010), less
    the listener's signals that Yngve called back channel ("On getting a word in edgewise", 1970): segments of
    `fillers` only. 0 where speakers are not known, as one channel can't tell.
    """
    spoken = [segment for segment in segments if not _is_signal(segment.text, fillers)]
    callers, agents = (_union(_spans(spoken, speaker), OVERLAP_S) for speaker in (CALLER, AGENT))
    return _cut_ins(callers, agents) + _cut_ins(agents, callers, ties=False)


def first_response_s(segments: Sequence[SpokenSegment]) -> float | None:
    """Return how long the caller waited for the first answer, in seconds.

    From the end of the caller's first turn (segments up to 2 s apart, until the agent begins) to the agent's beginning;
    0 when that is before the caller's end. None without a caller, or without an agent after them.
    """
    callers = _spans(segments, CALLER)
    turns = _union(callers, TURN_GAP_S)
    if not turns:
        return None
    begun_s, ended_s = turns[0]
    answered_s = min((start_s for start_s, _ in _spans(segments, AGENT) if start_s > begun_s), default=None)
    if answered_s is None:
        return None
    said_s = max(end_s for start_s, end_s in callers if start_s <= ended_s and start_s < answered_s)
    return round(max(answered_s - said_s, 0.0), 3)


def _cut_ins(cutting: Sequence[SecondsSpan], speaking: Sequence[SecondsSpan], *, ties: bool = True) -> int:
    """How many of the one begin within one of the other and overlap it for longer than OVERLAP_S."""
    count = index = 0
    for start_s, end_s in cutting:
        while index < len(speaking) and speaking[index][1] <= start_s:
            index += 1
        if index < len(speaking):
            other_start_s, other_end_s = speaking[index]
            begins_later = other_start_s < start_s or (ties and other_start_s == start_s)
            count += begins_later and min(end_s, other_end_s) - start_s > OVERLAP_S
    return count


def _is_signal(text: str, fillers: Collection[str]) -> bool:
    return len(text) < 40 and all(at.word in fillers for at in find_words(text))


def _spans(segments: Iterable[SpokenSegment], speaker: str) -> list[SecondsSpan]:
    return [(segment.start_s, segment.end_s) for segment in segments if segment.speaker == speaker]


def _union(stretches: Iterable[SecondsSpan], gap_s: float = 0.0) -> list[SecondsSpan]:
    """Merge stretches that touch, or lie no further apart than `gap_s`."""
    merged: list[SecondsSpan] = []
    for start_s, end_s in sorted(stretches):
        if merged and start_s <= merged[-1][1] + gap_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((start_s, end_s))
    return merged
