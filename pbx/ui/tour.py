"""Three things to try in the demo, one click each."""

import time

import streamlit as st
from sqlmodel import col, select

from pbx.demo.company import SUPPORT
from pbx.demo.recordings import READY
from pbx.store.engine import reading
from pbx.store.models import RecordingRow, Transcript
from pbx.ui.active_pbx import Site
from pbx.ui.links import CALL_PAGE, go_to_page

FEATURED_SCRIPT = "angry-caller"
_TRANSCRIPTS = "pages/calls/transcripts.py"
_QUEUES = "pages/live/queues.py"


def demo_tour(site: Site) -> None:
    """Draw the buttons of the tour; outside the demo, nothing."""
    if not site.settings.demo:
        return
    featured = _featured_recording(site)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="demo_tour"):
        st.markdown("**Start here**", width="content")
        if featured and st.button(
            "Play a call and read along", icon=":material/hearing:", type="tertiary", key="tour_call"
        ):
            call_id, recording_id = featured
            st.session_state["picked_moment"] = (recording_id, 0.0, str(time.monotonic_ns()))
            go_to_page(CALL_PAGE, {"call": str(call_id)})
        if st.button("Search transcripts for “invoice”", icon=":material/search:", type="tertiary", key="tour_search"):
            go_to_page(_TRANSCRIPTS, {"q": "invoice"})
        if st.button("See yesterday in the Support queue", icon=":material/groups:", type="tertiary", key="tour_queue"):
            go_to_page(_QUEUES, {"period": "Yesterday", "queue": SUPPORT})


def _featured_recording(site: Site) -> tuple[int, int] | None:
    """Return the ids of a call and its recording: of the featured script, otherwise the newest with a transcript."""
    columns = select(RecordingRow.call_id, RecordingRow.id, Transcript.model)
    ready = columns.join(Transcript, col(Transcript.recording_id) == RecordingRow.id)
    ready = ready.where(Transcript.engine == READY, col(Transcript.current).is_(True))
    with reading(site.engine) as session:
        found = session.exec(ready.order_by(col(RecordingRow.started_at).desc())).all()
    featured = next((row for row in found if row[2] == FEATURED_SCRIPT), found[0] if found else None)
    return (featured[0], featured[1] or 0) if featured else None
