"""Analyses a transcript, on this machine or with a language server."""

from collections.abc import Sequence
from dataclasses import replace

from pbx.errors import AnalysisError
from pbx.settings import Settings
from pbx.transcription.analysis import measures
from pbx.transcription.analysis.findings import Analysis, Quote, SpokenSegment
from pbx.transcription.analysis.language_server import summarise
from pbx.transcription.analysis.phrases import find_key_phrases, match_topics
from pbx.transcription.analysis.sentences import find_questions, read_conversation, trusted
from pbx.transcription.analysis.summary import summarise_extract

__all__ = ["Analysis", "Quote", "SpokenSegment", "analyse", "analyse_call", "match_topics"]


def analyse(segments: Sequence[SpokenSegment], duration_s: float | None) -> Analysis:
    """Analyse a transcript on this machine without a language model. Raises nothing.

    `duration_s`: the recording's length if known; later segments are cut there. Flagged segments are left out.
    """
    conversation = read_conversation(segments)
    spoken = trusted(segments)
    talk_s = measures.talk_seconds(spoken)
    return Analysis(
        summary=summarise_extract(conversation),
        key_phrases=find_key_phrases(conversation),
        questions=find_questions(conversation),
        talk_s=talk_s,
        talk_ratio=measures.talk_ratio(talk_s),
        longest_silence=measures.longest_silence(segments, duration_s),
        interruptions=measures.count_interruptions(spoken, conversation.idioms.fillers),
        first_response_s=measures.first_response_s(spoken),
    )


def analyse_call(segments: Sequence[SpokenSegment], duration_s: float | None, settings: Settings) -> Analysis:
    """Analyse a transcript: measures always on this machine, texts by the language server if one is set.

    If the server's answer can't be used, the local summary replaces it, and `fallback_reason` says why. Raises nothing.
    """
    local = analyse(segments, duration_s)
    url = settings.analysis_url.get_secret_value()
    if not url or not local.talk_s:
        return local
    try:
        answer = summarise(segments, url=url, model=settings.analysis_model, key=settings.analysis_key)
    except AnalysisError as error:
        return replace(local, fallback_reason=error.advice)
    return replace(
        local,
        summary=answer.summary,
        reason=answer.reason,
        outcome=answer.outcome,
        sentiment=answer.sentiment,
        follow_ups=answer.follow_ups,
        engine=answer.engine,
    )
