"""Trunks: which lines stand, since when, and how many calls they carry."""

import streamlit as st

from pbx import ui
from pbx.ami.snapshot import Trunk
from pbx.charts import band_alt, line_alt, line_chart, state_bands
from pbx.store.engine import reading
from pbx.store.samples import snapshot_gaps, trunk_history
from pbx.wording import count_text

TONES = {
    "registered": "good",
    "reachable": "good",
    "unregistered": "warn",
    "rejected": "bad",
    "unreachable": "bad",
    "unknown": "idle",
}


def show_now(trunks: tuple[Trunk, ...]) -> None:
    rows: dict[str, list[ui.Cell]] = {
        f"{trunk.tech}/{trunk.name}": [
            {"text": trunk.name, "sub": trunk.tech},
            {"text": trunk.state.capitalize(), "tone": TONES[trunk.state]},
            "Registers with the provider" if trunk.registers else "Peered by address",
            trunk.server or "–",
            "–" if trunk.roundtrip_ms is None else f"{trunk.roundtrip_ms:.1f} ms",
            f"{trunk.channels:,}",
        ]
        for trunk in trunks
    }
    ui.table("Trunks", ["Trunk", "State|", "Kind", "Server", "Round trip>", "Channels in use>"], rows, key="trunks")


@st.fragment(run_every=ui.live_s())
@ui.said_clearly
def live(at: ui.Site) -> None:
    found = ui.snapshot(at)
    ui.freshness(at, found.taken_at)
    ui.not_ok(found, "trunks")
    if found.trunks:
        show_now(found.trunks)
    else:
        ui.empty(
            "This PBX has no trunks",
            "Trunks made in FreePBX under Connectivity appear here by themselves.",
            icon="cell_tower",
        )


@st.fragment(run_every=30)
@ui.said_clearly
def history(at: ui.Site) -> None:
    trunks = ui.snapshot(at).trunks
    if not trunks:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("History", anchor=False, width="content")
        since, until = ui.span("history")
    with reading(at.engine) as session:
        points = {trunk.name: trunk_history(session, at.active.id, trunk.name, since, until) for trunk in trunks}
        gaps = snapshot_gaps(session, at.active.id, since, until, at.interval_s)
    if not any(points.values()):
        ui.note("Nothing was observed in this period. A snapshot is kept every few minutes while the worker runs.")
        return
    states = {name: [(point.taken_at, point.state) for point in seen] for name, seen in points.items()}
    channels = {name: [(point.taken_at, float(point.channels)) for point in seen] for name, seen in points.items()}
    ui.chart(
        state_bands(states, gaps, title="Registration", span=(since, until), zone=at.zone, palette=ui.palette()),
        alt=band_alt(states, gaps),
        key="chart_states",
    )
    ui.chart(
        line_chart(
            channels,
            gaps,
            title="Channels in use",
            unit="Channels",
            span=(since, until),
            zone=at.zone,
            palette=ui.palette(),
        ),
        alt=line_alt("Channels in use", channels, gaps),
        key="chart_channels",
    )
    ui.note(f"{count_text(len(gaps), 'gap')} in this period: nothing was observed there, so nothing is drawn.")


ui.head("Trunks", "Which lines stand, since when, and how much they carry")
site = ui.site()
live(site)
history(site)
