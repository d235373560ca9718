"""The bar of filters that the report pages share (period, queue, PBX); its values carry over from page to page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property

import streamlit as st

from pbx.analytics.formulas.intervals import IntervalStep
from pbx.analytics.queues import FigureFilter, visit_names
from pbx.charts import TimeFrame
from pbx.charts.layout import UnobservedSpan
from pbx.formatting import start_of_day
from pbx.store.calls import call_queues
from pbx.store.engine import reading
from pbx.store.snapshots import latest_snapshot
from pbx.ui.active_pbx import Site
from pbx.ui.filters import ALL, period_bounds, period_filter, select_filter
from pbx.ui.page_elements import note, palette, picture_name
from pbx.ui.streamlit_patches import opened_by_address

BAR_PERIODS = ("Today", "Yesterday", "Last 7 days", "Last 30 days", "Custom range")
MAX_HOURLY_PERIOD = timedelta(days=3)  # charts show periods up to this length by hour, longer ones by day
_CARRIED = ("period", "days", "queue")
_CARRY, _PAGE = "bar_carried", "bar_page"


@dataclass(frozen=True)
class Period:
    """The values of the bar.

    `since` and `until` are local midnights in UTC, and `until` may be in the future. `now` is when the page was drawn,
    `queue` is None for all queues.
    """

    since: datetime
    until: datetime
    queue: str | None
    now: datetime
    zone: tzinfo
    connection_id: int

    @cached_property
    def wanted(self) -> FigureFilter:
        """The filter for pbx.analytics.queues."""
        return FigureFilter(self.connection_id, self.since, self.until, self.queue)

    @cached_property
    def before(self) -> FigureFilter:
        """The previous period of the same length; if this one isn't over, cut at the same point."""
        return self.wanted.before(self.zone, self.now)

    @property
    def seen_until(self) -> datetime:
        """The end of the period, or now if it is in the future."""
        return min(self.until, self.now)

    def time_frame(self, gaps: Sequence[UnobservedSpan]) -> TimeFrame:
        """The frame of this period's charts, in the colours of the reader's browser."""
        return TimeFrame((self.since, self.until), gaps, self.zone, palette(), self.now)

    def picture(self, what: str) -> str:
        """The file name of a chart of this period saved as PNG."""
        return picture_name(f"{what} {self.queue or ''}", self.since, self.until, self.zone)

    def renewed(self) -> "Period":
        """The same period with the current time, for fragments that redraw on a timer."""
        return replace(self, now=datetime.now(UTC))

    @property
    def step(self) -> IntervalStep:
        """The interval of charts of this period."""
        return "hour" if self.until - self.since <= MAX_HOURLY_PERIOD else "day"


def period_bar(site: Site, *, queues: bool = True, default: str = "Last 7 days") -> Period:
    """Draw the bar; keys as in pbx.ui.filters: period, days, queue. Without `queues` it has no filter for them."""
    _carry_in()
    now = datetime.now(UTC)
    with st.container(horizontal=True, key="bar", vertical_alignment="bottom"):
        since, until = period_filter(site, default, BAR_PERIODS)
        if since is None:  # Custom range, with only one day chosen so far
            since, until = period_bounds(site, default)
        queue = _queue(site, since, now) if queues else None
        st.text_input("PBX", site.pbx_name, key="bar_pbx", disabled=True, help="Change the PBX under Settings.")
    _carry_out()
    tomorrow = start_of_day(start_of_day(now, site.zone) + timedelta(hours=36), site.zone)
    found = Period(since or start_of_day(now, site.zone), until or tomorrow, queue, now, site.zone, site.active.id)
    note(f"Times in {site.zone_name}.")
    return found


def _queue(site: Site, since: datetime | None, now: datetime) -> str | None:
    """A filter with all known queues: those of the period's calls, of all calls, and of the newest snapshot."""
    with reading(site.engine) as session:
        wanted = FigureFilter(site.active.id, since or now, now + timedelta(days=1))
        snapshot = latest_snapshot(session, site.active.id)
        names = {*visit_names(session, wanted, "queue"), *call_queues(session, site.active.id)}
    names |= {queue.name for queue in snapshot.queues} if snapshot else set()
    return select_filter("Queue", sorted(names - {""}), "queue")


def _carry_in() -> None:
    """Take over the values from the previous page's bar, unless the URL has values of its own."""
    came_from, st.session_state[_PAGE] = st.session_state.get(_PAGE), st.context.url
    if opened_by_address() or any(name in st.query_params for name in ("period", "queue")):
        return
    if came_from != st.context.url or not any(name in st.session_state for name in ("period", "queue")):
        for name, value in st.session_state.get(_CARRY, {}).items():
            st.session_state[name] = value
            # Streamlit doesn't write values that came from the previous page's URL to this page's URL.
            st.query_params[name] = [day.isoformat() for day in value] if name == "days" else value


def _carry_out() -> None:
    """Store the values of the bar that differ from the defaults, for the next page."""
    values = {name: st.session_state.get(name) for name in _CARRIED}
    defaults = {"days": values["days"] if values["period"] != "Custom range" else None, "queue": ALL}
    st.session_state[_CARRY] = {
        name: value for name, value in values.items() if value not in (None, defaults.get(name))
    }
