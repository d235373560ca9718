"""Measures of a conversation: talk time, silence, interruptions, first response. Based on the times of segments."""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from pbx.speech.words import find_words
from pbx.transcription.analysis.findings import AGENT, CALLER, SpokenSegment

SecondsSpan = tuple[float, float]  # start and end in seconds

OVERLAP_S = 0.5  # shorter overlaps are normal when the speaker changes
TURN_GAP_S = 2.0  # after a shorter pause, a speaker is still in the same turn
# With these flags the words are doubtful, but somebody spoke, so it isn't silence.
_VOICED_FLAGS = frozenset({"repetition", "compression", "improbable"})


def talk_seconds(segments: Sequence[SpokenSegment]) -> dict[str, float]:
    """Return the seconds that each speaker spoke: the time their segments cover, with overlaps counted once."""
    return {
        speaker: round(sum(end_s - start_s for start_s, end_s in _union(_spans(segments, speaker))), 3)
        for speaker in sorted({segment.speaker for segment in segments})
    }


def talk_ratio(talk_s: dict[str, float]) -> float | None:
    """Return the agent's share of the talk time, agent ÷ (agent + caller), 0 to 1.

    None if the speakers are unknown, for all or part of the talk time.
    """
    known_s = talk_s.get(AGENT, 0.0) + talk_s.get(CALLER, 0.0)
    return talk_s.get(AGENT, 0.0) / known_s if known_s > 0 and not talk_s.get("") else None


def longest_silence(segments: Sequence[SpokenSegment], duration_s: float | None) -> tuple[float, float] | None:
    """Return the start and the length of the longest time without speech, in seconds; None if there is none.

    Only time between the first word and the last counts, as ringing before and an open line after are not part of the
    conversation. Hold music counts as silence, since nobody speaks. Doubtful words (flags that mean a voice) end it.
    """
    limit_s = duration_s if duration_s is not None else float("inf")
    spoken = [segment for segment in segments if set(segment.flags) <= _VOICED_FLAGS]
    speech_spans = _union((segment.start_s, min(segment.end_s, limit_s)) for segment in spoken)
    gaps = [
        (next_start_s - end_s, end_s)
        for (_, end_s), (next_start_s, _) in pairwise(speech_spans)
        if next_start_s > end_s
    ]
    length_s, start_s = max(gaps, key=lambda gap: gap[0], default=(0.0, 0.0))
    return (round(start_s, 3), round(length_s, 3)) if length_s else None


def count_interruptions(segments: Sequence[SpokenSegment], fillers: Collection[str] = ()) -> int:
    """Count how often one speaker began while the other spoke, and both continued together for over 0.5 s.

    Overlap is defined as in Heldner and Edlund, "Pauses, gaps and overlaps in conversations" (Journal of Phonetics 38,
    2010), without back-channel signals (Yngve, "On getting a word in edgewise", 1970), which are segments of only
    `fillers`. 0 if speakers are unknown, as in mono recordings.
    """
    spoken = [segment for segment in segments if not _is_back_channel(segment.text, fillers)]
    callers, agents = (_union(_spans(spoken, speaker), OVERLAP_S) for speaker in (CALLER, AGENT))
    return _count_cut_ins(callers, agents) + _count_cut_ins(agents, callers, ties=False)


def first_response_s(segments: Sequence[SpokenSegment]) -> float | None:
    """Return how many seconds passed until the agent first answered the caller.

    This is the time from the end of the caller's first turn (segments up to 2 s apart, until the agent starts) to the
    start of the agent; 0 if the agent starts earlier. None without a caller, or without an agent after the caller.
    """
    callers = _spans(segments, CALLER)
    turns = _union(callers, TURN_GAP_S)
    if not turns:
        return None
    turn_start_s, turn_end_s = turns[0]
    answered_s = min((start_s for start_s, _ in _spans(segments, AGENT) if start_s > turn_start_s), default=None)
    if answered_s is None:
        return None
    spoken_until_s = max(end_s for start_s, end_s in callers if start_s <= turn_end_s and start_s < answered_s)
    return round(max(answered_s - spoken_until_s, 0.0), 3)


def _count_cut_ins(cutting: Sequence[SecondsSpan], speaking: Sequence[SecondsSpan], *, ties: bool = True) -> int:
    """Count the spans of one speaker that start during a span of the other and overlap it longer than OVERLAP_S."""
    count = index = 0
    for start_s, end_s in cutting:
        while index < len(speaking) and speaking[index][1] <= start_s:
            index += 1
        if index < len(speaking):
            other_start_s, other_end_s = speaking[index]
            begins_later = other_start_s < start_s or (ties and other_start_s == start_s)
            count += begins_later and min(end_s, other_end_s) - start_s > OVERLAP_S
    return count


def _is_back_channel(text: str, fillers: Collection[str]) -> bool:
    return len(text) < 40 and all(at.word in fillers for at in find_words(text))


def _spans(segments: Iterable[SpokenSegment], speaker: str) -> list[SecondsSpan]:
    return [(segment.start_s, segment.end_s) for segment in segments if segment.speaker == speaker]


def _union(spans: Iterable[SecondsSpan], gap_s: float = 0.0) -> list[SecondsSpan]:
    """Merge spans that overlap, touch, or are at most `gap_s` apart."""
    merged: list[SecondsSpan] = []
    for start_s, end_s in sorted(spans):
        if merged and start_s <= merged[-1][1] + gap_s:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((start_s, end_s))
    return merged
