"""Wallboard: the queues on a full screen, for everyone to see."""

from datetime import UTC, datetime, timedelta

import streamlit as st

from pbx import ui
from pbx.analytics.queues import FigureFilter, figures_by, queue_targets
from pbx.formatting import ago_text, start_of_day
from pbx.store.engine import reading
from pbx.ui.filters import IN_URL, select_filter
from pbx.ui.wallboard import board

BOARD_S = 2
OLD_S = 30  # a snapshot older than this is out of date
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
    queues = [each for each in sorted(found.queues, key=lambda each: each.name) if queue in (None, each.name)]
    if not queues:
        ui.empty("This queue doesn’t exist", "Choose another queue below.", icon="tv_off")
        return
    board(queues, figures, warn_s, bad_s)
    if (now - found.taken_at).total_seconds() > OLD_S:
        st.error(f"No data from the PBX. Last update {ago_text(found.taken_at, now)}.", icon=":material/sensors_off:")
    else:
        ui.note(f"Now {site.local(now, seconds=True)} · last update {site.local(found.taken_at, seconds=True)}")


site = ui.site()
board_area, foot = (
    st.container(key="board_place"),
    st.container(horizontal=True, vertical_alignment="bottom", key="board_foot"),
)
with foot:
    ui.data_label_pill()
    st.page_link("pages/live/queues.py", label="Back to Queues", icon=":material/arrow_back:")
    names = sorted(each.name for each in ui.snapshot(site).queues)
    wanted = select_filter("Queue", names, "queue")
    warn = st.number_input(
        "Warn after waiting (s)",
        1,
        3600,
        WARN_S,
        key="warn",
        help="The longest wait that turns a card amber",
        width=140,
        **IN_URL,
    )
    bad = st.number_input(
        "Red after (s)", 1, 3600, BAD_S, key="bad", help="The longest wait that turns a card red", width=140, **IN_URL
    )
    ui.note(
        "Service level: share of offered calls answered within their queue’s target time. Hang-ups under 5 s are not "
        "counted."
    )
with board_area:
    live(site, wanted, warn, bad)
