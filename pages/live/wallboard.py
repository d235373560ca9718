"""The wallboard: queues on a screen of their own, for all to see."""

from datetime import UTC, datetime, timedelta

import streamlit as st

from pbx import ui
from pbx.analytics.queues import FigureFilter, figures_by, queue_targets
from pbx.formatting import ago_text, start_of_day
from pbx.store.engine import reading
from pbx.ui.filters import IN_URL, select_filter
from pbx.ui.wallboard import board

BOARD_S = 2
OLD_S = 30  # a snapshot older than this is not what happens now
WARN_S, BAD_S = 30, 60


@st.fragment(run_every=BOARD_S)
@ui.show_errors
def live(site: ui.Site, queue: str | None, warn_s: float, bad_s: float) -> None:
    found = ui.snapshot(site)
    now = datetime.now(UTC)
    with reading(site.engine) as session:
        targets = queue_targets(session, site.active.id)
        today = FigureFilter(site.active.id, start_of_day(now, site.zone), now + timedelta(seconds=1))
        figures = figures_by(session, today, "queue", targets)
    shown = [each for each in sorted(found.queues, key=lambda each: each.name) if queue in (None, each.name)]
    if not shown:
        ui.empty("No such queue", "Choose another one below.", icon="tv_off")
        return
    board(shown, figures, warn_s, bad_s)
    if (now - found.taken_at).total_seconds() > OLD_S:
        st.error(
            f"Seen {ago_text(found.taken_at, now)}: the PBX or the worker is silent.", icon=":material/sensors_off:"
        )
    else:
        ui.note(f"{site.local(now, seconds=True)}, as of {site.local(found.taken_at, seconds=True)}")


site = ui.site()
place, foot = (
    st.container(key="board_place"),
    st.container(horizontal=True, vertical_alignment="bottom", key="board_foot"),
)
with foot:
    ui.demo_pill()
    st.page_link("pages/live/queues.py", label="Back to Queues", icon=":material/arrow_back:")
    known = sorted(each.name for each in ui.snapshot(site).queues)
    wanted = select_filter("Queue", known, "queue")
    warn = st.number_input("Amber from (s)", 1, 3600, WARN_S, key="warn", help="Longest wait", width=140, **IN_URL)
    bad = st.number_input("Red from (s)", 1, 3600, BAD_S, key="bad", help="Longest wait", width=140, **IN_URL)
    ui.note("In time: answered within each queue’s T, of those offered but short abandons.")
with place:
    live(site, wanted, warn, bad)
