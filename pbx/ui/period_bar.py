"""The bar that the pages of figures share: which period, which PBX, which queue. It goes along from page to page."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property

import streamlit as st

from pbx.analytics.formulas.intervals import IntervalStep
from pbx.analytics.queues import FigureFilter, visit_names
from pbx.formatting import start_of_day
from pbx.store.calls import call_queues
from pbx.store.engine import reading
from pbx.store.snapshots import latest_snapshot
from pbx.ui.active_pbx import Site
from pbx.ui.elements import note, picture_name
from pbx.ui.filters import ALL, period_bounds, period_filter, select_filter
from pbx.ui.streamlit_patches import opened_by_address

BAR_PERIODS = ("Today", "Yesterday", "Last 7 days", "Last 30 days", "Between")
HOURLY = timedelta(days=3)  # up to so long a period is drawn by the hour, a longer one by the day
_CARRIED = ("period", "days", "queue")
_CARRY, _PAGE = "bar_carried", "bar_page"


@dataclass(frozen=True)
class Period:
    """What the bar says. `since` and `until` are local midnights in UTC: `until` may be in the future, up to which
    nothing has happened yet; `now` is when the page was drawn, `queue` None when all are wanted."""

    since: datetime
    until: datetime
    queue: str | None
    now: datetime
    zone: tzinfo
    connection_id: int

    @cached_property
    def wanted(self) -> FigureFilter:
        """The visits wanted, for pbx.analytics.queues."""
        return FigureFilter(self.connection_id, self.since, self.until, self.queue)

    @cached_property
    def before(self) -> FigureFilter:
        """Those to compare with: as long, right before, and of a period that isn't over only as much of it."""
        return self.wanted.before(self.zone, self.now)

    @property
    def seen_until(self) -> datetime:
        """The period's end, or now: what lies after is not zero but not yet."""
        return min(self.until, self.now)

    def picture(self, what: str) -> str:
        """The name of a chart of this period saved as PNG."""
        return picture_name(f"{what} {self.queue or ''}", self.since, self.until, self.zone)

    def renewed(self) -> "Period":
        """The same up to now, for what draws itself anew while the page stands."""
        return replace(self, now=datetime.now(UTC))

    @property
    def step(self) -> IntervalStep:
        return "hour" if self.until - self.since <= HOURLY else "day"


def period_bar(site: Site, *, queues: bool = True, default: str = "Last 7 days") -> Period:
    """Draw the bar; keys as in pbx.ui.filters: period, days, queue. With `queues` off no queue is asked for."""
    _carry_in()
    now = datetime.now(UTC)
    with st.container(horizontal=True, key="bar", vertical_alignment="bottom"):
        since, until = period_filter(site, default, BAR_PERIODS)
        if since is None:  # of Between only one day is chosen yet
            since, until = period_bounds(site, default)
        queue = _queue(site, since, now) if queues else None
        st.text_input("PBX", site.pbx_name, key="bar_pbx", disabled=True, help="The PBX set up under Settings.")
    _carry_out()
    tomorrow = start_of_day(start_of_day(now, site.zone) + timedelta(hours=36), site.zone)
    found = Period(since or start_of_day(now, site.zone), until or tomorrow, queue, now, site.zone, site.active.id)
    note(f"Times in {site.zone_name}.")
    return found


def _queue(site: Site, since: datetime | None, now: datetime) -> str | None:
    """Any queue that was seen: in the period's visits, in calls, or by the newest snapshot."""
    with reading(site.engine) as session:
        wanted = FigureFilter(site.active.id, since or now, now + timedelta(days=1))
        snapshot = latest_snapshot(session, site.active.id)
        known = {*visit_names(session, wanted, "queue"), *call_queues(session, site.active.id)}
    known |= {queue.name for queue in snapshot.queues} if snapshot else set()
    return select_filter("Queue", sorted(known - {""}), "queue")


def _carry_in() -> None:
    """Take up what the bar of the page before said, where the address doesn't say anything."""
    came_from, st.session_state[_PAGE] = st.session_state.get(_PAGE), st.context.url
    if opened_by_address() or any(name in st.query_params for name in ("period", "queue")):
        return
    if came_from != st.context.url or not any(name in st.session_state for name in ("period", "queue")):
        for name, value in st.session_state.get(_CARRY, {}).items():
            st.session_state[name] = value
            # By hand too: what the address filled on the page before isn't written to this page's address otherwise.
            st.query_params[name] = [day.isoformat() for day in value] if name == "days" else value


def _carry_out() -> None:
    """Note what the bar says, where that isn't what it says by itself."""
    said = {name: st.session_state.get(name) for name in _CARRIED}
    usual = {"days": said["days"] if said["period"] != "Between" else None, "queue": ALL}
    st.session_state[_CARRY] = {name: value for name, value in said.items() if value not in (None, usual.get(name))}
