"""Registration of trunks over a period, from snapshots: states, round trips and channels in use."""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from pbx.analytics.formulas.ratio import NOT_APPLICABLE, Ratio
from pbx.analytics.formulas.registration import Registration
from pbx.analytics.trunk_status import trunk_history, trunk_registration
from pbx.charts import band_alt, line_alt, line_chart, state_bands
from pbx.export.tables import CellValue
from pbx.formatting import count_text, duration_text
from pbx.store.engine import reading
from pbx.store.snapshots import snapshot_gaps
from pbx.ui.active_pbx import Site
from pbx.ui.coverage import COMPARABLE_PERCENT
from pbx.ui.exports import table_export
from pbx.ui.page_elements import chart, note
from pbx.ui.period_bar import Period
from pbx.ui.table import TableCell, table

MOST_POINTS, FEWEST_POINTS = 1500, 300  # per chart and per trunk, plus the changes of state


def show_registration(site: Site, period: Period, trunks: Sequence[str]) -> None:
    """Charts of each trunk's state, round trip and channels, and a table with uptime, flaps and coverage."""
    since, until = period.since, period.seen_until
    with reading(site.engine) as session:
        most = max(MOST_POINTS // max(len(trunks), 1), FEWEST_POINTS)
        points = {name: trunk_history(session, site.active.id, name, since, until, most) for name in trunks}
        gaps = snapshot_gaps(session, site.active.id, since, until, site.interval_s)
        then = period.before
        uptimes = {
            name: (
                trunk_registration(session, site.active.id, name, since, until, site.interval_s),
                trunk_registration(session, site.active.id, name, then.since, then.until, site.interval_s),
            )
            for name in trunks
        }
    if not any(points.values()):
        note("No data for this period. While the worker runs, it stores a snapshot every few minutes.")
        return
    states = {name: [(point.taken_at, point.state) for point in seen] for name, seen in points.items()}
    frame = replace(period.time_frame(gaps), span=(since, until))
    bands = state_bands(states, frame, title="Registration")
    named = trunks[0] if len(trunks) == 1 else ""
    chart(
        bands,
        alt=band_alt(states, gaps),
        key="trunk_registration",
        picture=period.picture(f"trunk registration {named}"),
    )
    _show_uptimes(site, uptimes)
    trips = {
        name: [(point.taken_at, float(point.roundtrip_ms)) for point in seen if point.roundtrip_ms is not None]
        for name, seen in points.items()
    }
    channels = {name: [(point.taken_at, float(point.channels)) for point in seen] for name, seen in points.items()}
    for title, unit, series in (("Round trip", "ms", trips), ("Channels in use", "Channels", channels)):
        with_data = {name: seen for name, seen in series.items() if seen}
        if with_data:
            drawn = line_chart(with_data, frame, title=title, unit=unit)
            chart(
                drawn,
                alt=line_alt(title, with_data, gaps),
                key=f"trunk_{title.split()[0].lower()}",
                picture=period.picture(f"trunk {title} {named}"),
            )
    if gaps:
        note(f"{count_text(len(gaps), 'gap')} in the data for this period; the chart is blank there.")


def _show_uptimes(site: Site, uptimes: dict[str, tuple[Registration, Registration]]) -> None:
    rows: dict[str, list[TableCell]] = {
        name: [
            name,
            {"text": now.uptime.percent_text(2), "sub": _seconds_text(now.uptime)},
            _earlier_cell(before),
            f"{now.flaps:,}",
            {"text": now.coverage.percent_text(), "sub": _seconds_text(now.coverage)},
        ]
        for name, (now, before) in uptimes.items()
    }
    columns = ("Trunk", "Uptime>", "Previous period>", "Registrations lost>", "Coverage>")
    table("Registration", columns, rows, key="uptimes")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        note(
            "Uptime: share of the observed time for which the trunk was registered. "
            "Coverage: share of the period that was observed."
        )
        exported: list[list[CellValue]] = [
            [name, now.registered_s, now.observed_s, now.flaps, now.period_s] for name, (now, _) in uptimes.items()
        ]
        names = ("Trunk", "Registered (s)", "Observed (s)", "Registrations lost", "Period (s)")
        table_export(site, "Registration", names, lambda: exported, key="registration")


def _earlier_cell(before: Registration) -> TableCell:
    """The uptime of the previous period, if it was observed."""
    if (before.coverage.percent or 0) >= COMPARABLE_PERCENT:
        return {"text": before.uptime.percent_text(2), "sub": _seconds_text(before.uptime)}
    return {"text": NOT_APPLICABLE, "sub": f"{before.coverage.percent_text()} observed"}


def _seconds_text(ratio: Ratio) -> str:
    return f"{duration_text(ratio.numerator)} of {duration_text(ratio.denominator)}"
