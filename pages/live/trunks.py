"""Trunks: status, call success and capacity."""

from collections.abc import Sequence

import streamlit as st

from pbx import ui
from pbx.analytics.trunks import by_trunk
from pbx.model.snapshot import Trunk
from pbx.store.engine import reading, shared_reading
from pbx.store.snapshots import latest_snapshot
from pbx.ui.drilldown import drilldown_list, show_drilldown
from pbx.ui.drilldown_rows import SEIZURES, SeizureQuery
from pbx.ui.filters import IN_URL, select_filter
from pbx.ui.period_bar import Period, period_bar
from pbx.ui.registrations import show_registration
from pbx.ui.trunks import REGISTRATION_VIEW, VIEWS, show_load, show_quality, show_totals

TONES = {
    "registered": "good",
    "reachable": "good",
    "unregistered": "warn",
    "rejected": "bad",
    "unreachable": "bad",
    "unknown": "idle",
}


def show_now(trunks: tuple[Trunk, ...]) -> None:
    rows: dict[str, list[ui.TableCell]] = {
        f"{trunk.tech}/{trunk.name}": [
            {"text": trunk.name, "sub": trunk.tech},
            {"text": trunk.state.capitalize(), "tone": TONES[trunk.state]},
            "Registers with the provider" if trunk.registers else "Identified by IP address",
            trunk.server or "–",
            "–" if trunk.roundtrip_ms is None else f"{trunk.roundtrip_ms:.1f} ms",
            f"{trunk.channels:,}",
        ]
        for trunk in trunks
    }
    ui.table("Trunks", ["Trunk", "Status|", "Type", "Server", "Round trip>", "Channels in use>"], rows, key="trunks")


@st.fragment(run_every=ui.live_interval_s())
@ui.show_errors
def live(site: ui.Site) -> None:
    found = ui.live_snapshot(site, "trunks")
    if found.trunks:
        show_now(found.trunks)
    else:
        ui.empty(
            "This PBX has no trunks",
            "Trunks that you add in FreePBX under Connectivity appear here automatically.",
            icon="cell_tower",
        )


def trunk_names(site: ui.Site, period: Period) -> list[str]:
    """The trunks that the PBX has now, then any others that had calls in the period."""
    with reading(site.engine) as session:
        snapshot = latest_snapshot(session, site.active.id)
        seized = by_trunk(session, site.active.id, period.since, period.until)
    return list(dict.fromkeys([*(trunk.name for trunk in (snapshot.trunks if snapshot else ())), *seized]))


@st.fragment(run_every=30)
@ui.show_errors
def history(site: ui.Site, period: Period, trunk: str | None, names: Sequence[str]) -> None:
    period = period.renewed()
    show_totals(site, period, trunk)
    views = st.tabs(list(VIEWS), key="trunk_view", on_change="rerun", **IN_URL)
    for view, name in zip(views, VIEWS, strict=True):
        if view.open:
            with view:
                if name == REGISTRATION_VIEW:
                    show_registration(site, period, [trunk] if trunk else names)
                elif {"Calls": show_quality, "Load": show_load}[name](site, period, trunk, names):
                    with drilldown_list("seizures_list"):
                        st.subheader("Calls over trunks", anchor=False)
                        query = SeizureQuery(trunk, period.since, period.until)
                        show_drilldown(site, SEIZURES, query, period)


ui.head("Trunks", "Trunk status, call success and capacity")
site = ui.site()
with reading(site.engine) as reader:
    has_snapshot = latest_snapshot(reader, site.active.id) is not None
if has_snapshot:
    live(site)
st.subheader("Reports", anchor=False)
with shared_reading(site.engine):
    bar = period_bar(site, queues=False)
    names = trunk_names(site, bar)
    with st.container(width=320):
        chosen_trunk = select_filter("Trunk", names, "trunk")
    history(site, bar, chosen_trunk, names)
if not has_snapshot:
    live(site)  # last, because it ends the page
