"""Filters that several pages offer, each kept in the address so that what is seen can be sent to a colleague."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, cast, get_args

import streamlit as st

from pbx.formatting import start_of_day
from pbx.model.folding import CallDirection
from pbx.store.calls import call_queues
from pbx.store.engine import reading
from pbx.ui.active_pbx import Site
from pbx.ui.streamlit_patches import read_address_as, write_address

ALL = "All"
PERIODS = ("All time", "Today", "Yesterday", "Last 7 days", "Last 30 days", "Between")
IN_URL: dict[str, Any] = {"bind": "query-params"}
_CLICKED = "days_clicked"
Bounds = tuple[datetime | None, datetime | None]


def period_filter(site: Site, default: str = "All time", periods: Sequence[str] = PERIODS) -> Bounds:
    """The bounds of the chosen period in UTC: from the first moment of a local day to that of the day after the last.

    Keys: period, days.
    """
    today = datetime.now(site.zone).date()
    if "days" not in st.query_params:
        # Known from the start, or days that a click sets would not be written to the address.
        st.session_state.setdefault("days", day_range((), today))
    chosen = st.selectbox("Period", periods, periods.index(default), key="period", filter_mode=None, **IN_URL)
    if chosen != "Between":
        return period_bounds(site, chosen or default)
    first, last = (datetime.combine(day, time.min, site.zone) for day in _choose_days(today))
    return first.astimezone(UTC), (last + timedelta(days=1)).astimezone(UTC)


def _choose_days(today: date) -> tuple[date, date]:
    """The first and the last day chosen, shown and kept in the address as they are understood.

    What is put right is put right before it is drawn: a second run might be overtaken by the browser's answer to the
    first.
    """
    half = st.session_state.pop(_CLICKED, False) and len(st.session_state.get("days", ())) < 2
    if not half:  # otherwise the second click is to come
        read_address_as("days", _iso(day_range(_days_of_address(), today)))
        held = st.session_state.get("days", ())
        if held and held != day_range(held, today):
            st.session_state["days"] = day_range(held, today)
    # None by default: what is the default isn't kept in the address, and tomorrow the last seven days are others.
    days = st.date_input("From – to", cast(Any, ()), key="days", format="DD.MM.YYYY", on_change=_note_click, **IN_URL)
    whole = day_range(days, today)
    if not half:
        write_address("days", _iso(whole))
    return whole


def _days_of_address() -> list[date]:
    try:
        return [date.fromisoformat(day) for day in st.query_params.get_all("days")]
    except ValueError:
        return []


def _iso(days: Sequence[date]) -> list[str]:
    return [day.isoformat() for day in days]


def day_range(days: Sequence[date], today: date) -> tuple[date, date]:
    """What days stand for: the first and the last of them, none after today; without any, the last seven."""
    known = sorted(min(day, today) for day in days) or [today - timedelta(days=6), today]
    return known[0], known[-1]


def _note_click() -> None:
    st.session_state[_CLICKED] = True


def period_bounds(site: Site, name: str) -> Bounds:
    """The bounds in UTC of a period of PERIODS, except for Between."""
    today = start_of_day(datetime.now(UTC), site.zone)
    if name == "Yesterday":
        return start_of_day(today - timedelta(hours=1), site.zone), today
    days_back = {"Today": 0, "Last 7 days": 6, "Last 30 days": 29}.get(name)
    if days_back is None:
        return None, None
    return start_of_day(today - timedelta(days=days_back) + timedelta(hours=12), site.zone), None


def direction_filter() -> CallDirection | None:
    """Key: direction."""
    chosen = select_filter("Direction", get_args(CallDirection), "direction", said=str.capitalize)
    return cast(CallDirection | None, chosen)


def number_filter() -> str:
    """Key: number."""
    number = st.text_input("Number", key="number", placeholder="Part of a number", live="400ms", **IN_URL)
    return (number or "").strip()


def queue_filter(site: Site, *, none: str = "") -> str | None:
    """Key: queue. `none` as in `select_filter`."""
    with reading(site.engine) as session:
        queues = call_queues(session, site.active.id)
    return select_filter("Queue", queues, "queue", none=none)


def select_filter(label: str, options: Sequence[str], key: str, *, said: Any = str, none: str = "") -> str | None:
    """A choice among options, all of them (None), or with the words of `none` what has none of them ("").

    What the address asks for stays, even if it is not among them.
    """
    known = [ALL, *options, *([none] if none else [])]
    asked = st.session_state.get(key) or st.query_params.get(key)
    if said is str and asked and asked not in known:
        known.append(asked)
    typed: Literal["fuzzy"] | None = None if len(known) < 9 else "fuzzy"
    chosen = st.selectbox(label, known, key=key, format_func=said, filter_mode=typed, **IN_URL)
    return None if chosen == ALL else "" if none and chosen == none else chosen
