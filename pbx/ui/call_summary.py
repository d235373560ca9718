"""The analysis of a transcript: summary, key phrases, topics, questions and figures; a moment plays its audio."""

import time
from collections.abc import Mapping, Sequence

import streamlit as st

from pbx.formatting import SPEAKERS, duration_text, position_text
from pbx.store.engine import reading
from pbx.store.models import RecordingRow, Transcript
from pbx.store.notes import topics
from pbx.store.transcripts import analysis_of, segments_of
from pbx.transcription.analysis.run import Analysis, Quote, SpokenSegment, match_topics
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import chips, facts, note, passage, plain
from pbx.ui.table import TableCell, table

NO_SPEAKERS = "n/a: the speakers in this recording can’t be distinguished"


def show_summary(site: Site, recording: RecordingRow, transcript: Transcript | None) -> None:
    """The analysis of the current transcript, or a note that says when there will be one."""
    if transcript is None:
        note("The summary is made after the recording is transcribed.")
        return
    with reading(site.engine) as session:
        row = analysis_of(session, transcript.id or 0)
        phrases = {topic.name: list(topic.phrases) for topic in topics(session)}
    if row is None:
        note("The summary is made when the transcript is complete.")
        return
    made = Analysis.from_document(row.document)
    if made.summary:
        passage(made.summary)
    else:
        note("There is too little speech to summarize.")
    _engine(row.engine, row.fallback_reason)
    facts(
        {
            "Reason": made.reason,
            "Outcome": made.outcome,
            "Sentiment": made.sentiment.capitalize(),
            "Follow-ups": "\n".join(made.follow_ups),
        }
    )
    if made.key_phrases:
        st.markdown("##### Key phrases")
        chips(made.key_phrases)
    st.markdown("##### Conversation")
    facts(_figures(made))
    found = _topics(site, transcript.id or 0, str(transcript.created_at), phrases)
    rows = {name: moments for name, moments in found.items() if moments}
    if phrases:
        st.markdown("##### Topics")
        _moments(recording, "Topics", rows) if rows else note("None of your topics was mentioned.")
    if made.questions:
        st.markdown("##### Questions")
        _moments(recording, "Questions", {"": made.questions})


def _engine(engine: str, fallback_reason: str) -> None:
    if fallback_reason:
        st.warning(f"Made on this machine because the language server could not be used. {plain(fallback_reason)}")
    else:
        note("Summary made on this machine" if engine == "local" else f"Written by {engine}")


def _figures(made: Analysis) -> dict[str, str]:
    """The figures of a conversation; n/a with the reason for those that the recording can't give."""
    has_speakers = bool(made.talk_s) and not made.talk_s.get("")
    talk = ", ".join(f"{SPEAKERS.get(name, name)} {duration_text(talk_s)}" for name, talk_s in made.talk_s.items())
    share = f"{made.talk_ratio:.0%} agent" if made.talk_ratio is not None else NO_SPEAKERS
    silence = "None"
    if made.longest_silence:
        at_s, length_s = made.longest_silence
        silence = f"{duration_text(length_s)}, at {position_text(round(at_s))}"
    response = "n/a: there was no response to the caller’s first words" if has_speakers else NO_SPEAKERS
    if made.first_response_s is not None:
        response = f"{made.first_response_s:.1f} s"
    return {
        "Talk": f"{share} ({talk})" if talk and has_speakers else share,
        "Longest silence": silence,
        "Interruptions": f"{made.interruptions:,}" if has_speakers else NO_SPEAKERS,
        "First response": response,
    }


@st.cache_data(max_entries=16, ttl=60, show_spinner=False)
def _topics(
    _at: Site, transcript_id: int, made_at: str, phrases: Mapping[str, Sequence[str]]
) -> dict[str, list[Quote]]:
    with reading(_at.engine) as session:
        rows = segments_of(session, transcript_id)
    spoken = [SpokenSegment(row.start_s, row.end_s, row.speaker, row.text, row.flags.split()) for row in rows]
    return match_topics(spoken, phrases)


def _moments(recording: RecordingRow, label: str, groups: Mapping[str, Sequence[Quote]]) -> None:
    """Moments as rows; a click on one plays the recording from there."""
    rows: dict[str, list[TableCell]] = {}
    start_s: dict[str, float] = {}
    named = any(groups)
    for name, moments in groups.items():
        for index, moment in enumerate(moments):
            key = f"{name} {index}"
            start_s[key] = moment.start_s
            who = SPEAKERS.get(moment.speaker, "")
            topic: list[TableCell] = [{"text": name, "badge": "yes"}] if named else []
            rows[key] = [position_text(round(moment.start_s)), *topic, {"text": moment.text, "sub": who}]
    columns = ["At|", "Topic|", "What was said"] if named else ["At|", "What was said"]
    picked = table(label, columns, rows, key=f"{label}_{recording.id}", pick=True)
    if picked in start_s:
        st.session_state["picked_moment"] = (recording.id, start_s[picked], str(time.monotonic_ns()))
        st.rerun()
