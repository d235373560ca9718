"""Three things to try in the demo, each a click away."""

import streamlit as st
from sqlmodel import col, select

from pbx.demo.cast import SUPPORT
from pbx.demo.kept import READY
from pbx.store.engine import reading
from pbx.store.models import Recording, Transcript
from pbx.ui.sites import Site

SHOWN_FIRST = "angry-caller"
_INTERACTIONS, _TRANSCRIPTS, _QUEUES = (
    "pages/calls/interactions.py",
    "pages/calls/transcripts.py",
    "pages/live/queues.py",
)


def demo_tour(at: Site) -> None:
    """Where to begin; nothing with real data."""
    if not at.settings.demo:
        return
    call_id = _call_to_hear(at)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="demo_tour"):
        st.markdown("**Begin here**", width="content")
        if call_id is not None:
            query = {"call": str(call_id)}
            st.page_link(_INTERACTIONS, label="Hear a call, read along", icon=":material/hearing:", query_params=query)
        st.page_link(
            _TRANSCRIPTS,
            label="Find who spoke of an invoice",
            icon=":material/manage_search:",
            query_params={"q": "invoice"},
        )
        day = {"period": "Yesterday", "queue": SUPPORT}
        st.page_link(_QUEUES, label="See a queue’s day", icon=":material/groups:", query_params=day)


def _call_to_hear(at: Site) -> int | None:
    """The call of a script that is worth hearing, else the newest that has one."""
    query = select(Recording.call_id, Transcript.model).join(Transcript, col(Transcript.recording_id) == Recording.id)
    ready = query.where(Transcript.engine == READY, col(Transcript.current).is_(True))
    with reading(at.engine) as session:
        found = session.exec(ready.order_by(col(Recording.started_at).desc())).all()
    return next((call_id for call_id, name in found if name == SHOWN_FIRST), found[0][0] if found else None)
