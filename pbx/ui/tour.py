"""Three things to try in the demo, each a click away."""

import time

import streamlit as st
from sqlmodel import col, select

from pbx.demo.company import SUPPORT
from pbx.demo.recordings import READY
from pbx.store.engine import reading
from pbx.store.models import Recording, Transcript
from pbx.ui.active_pbx import Site
from pbx.ui.links import CALL_PAGE, go_to_page

SHOWN_FIRST = "angry-caller"
_TRANSCRIPTS = "pages/calls/transcripts.py"
_QUEUES = "pages/live/queues.py"


def demo_tour(site: Site) -> None:
    """Where to begin; nothing with real data."""
    if not site.settings.demo:
        return
    found = _call_to_hear(site)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="demo_tour"):
        st.markdown("**Begin here**", width="content")
        if found and st.button("Hear a call, read along", icon=":material/hearing:", type="tertiary", key="tour_call"):
            call_id, recording_id = found
            st.session_state["picked_moment"] = (recording_id, 0.0, str(time.monotonic_ns()))
            go_to_page(CALL_PAGE, {"call": str(call_id)})
        if st.button("Find “invoice” in what was said", icon=":material/search:", type="tertiary", key="tour_search"):
            go_to_page(_TRANSCRIPTS, {"q": "invoice"})
        if st.button("See a queue’s day", icon=":material/groups:", type="tertiary", key="tour_queue"):
            go_to_page(_QUEUES, {"period": "Yesterday", "queue": SUPPORT})


def _call_to_hear(site: Site) -> tuple[int, int] | None:
    """Call and recording of a script that is worth hearing, else of the newest there is."""
    columns = select(Recording.call_id, Recording.id, Transcript.model)
    ready = columns.join(Transcript, col(Transcript.recording_id) == Recording.id)
    ready = ready.where(Transcript.engine == READY, col(Transcript.current).is_(True))
    with reading(site.engine) as session:
        found = session.exec(ready.order_by(col(Recording.started_at).desc())).all()
    chosen = next((one for one in found if one[2] == SHOWN_FIRST), found[0] if found else None)
    return (chosen[0], chosen[1] or 0) if chosen else None
