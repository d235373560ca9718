"""Filters that several pages share. They are in the URL, so a reader can share what they see by its link."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, cast, get_args

import streamlit as st

from pbx.formatting import start_of_day
from pbx.model.call import CallDirection
from pbx.store.calls import call_queues
from pbx.store.engine import reading
from pbx.ui.active_pbx import Site
from pbx.ui.streamlit_patches import read_address_as, write_address

ALL = "All"
PERIODS = ("All time", "Today", "Yesterday", "Last 7 days", "Last 30 days", "Custom range")
IN_URL: dict[str, Any] = {"bind": "query-params"}
_CLICKED = "days_clicked"
Bounds = tuple[datetime | None, datetime | None]


def period_filter(site: Site, default: str = "All time", periods: Sequence[str] = PERIODS) -> Bounds:
    """Draw the period filter and return its bounds in UTC, from midnight to midnight in the PBX's zone.

    The end is excluded; None means no bound. Widget keys: period, days.
    """
    today = datetime.now(site.zone).date()
    if "days" not in st.query_params:
        # Must be set from the start; otherwise Streamlit doesn't write days that a click sets to the URL.
        st.session_state.setdefault("days", day_range((), today))
    chosen = st.selectbox("Period", periods, periods.index(default), key="period", filter_mode=None, **IN_URL)
    if chosen != "Custom range":
        return period_bounds(site, chosen or default)
    first, last = (datetime.combine(day, time.min, site.zone) for day in _choose_days(today))
    return first.astimezone(UTC), (last + timedelta(days=1)).astimezone(UTC)


def _choose_days(today: date) -> tuple[date, date]:
    """Return the first and the last day selected; show them, and write them to the URL, as they are understood.

    Corrections are made before the widget is drawn. In a second run, the browser's answer to the first could overwrite
    them.
    """
    is_first_click = st.session_state.pop(_CLICKED, False) and len(st.session_state.get("days", ())) < 2
    if not is_first_click:  # after a first click, wait for the second
        read_address_as("days", _iso(day_range(_days_in_url(), today)))
        selected = st.session_state.get("days", ())
        if selected and selected != day_range(selected, today):
            st.session_state["days"] = day_range(selected, today)
    # No default: Streamlit leaves defaults out of the URL, and tomorrow the default would mean other days.
    days = st.date_input("From – to", cast(Any, ()), key="days", format="YYYY-MM-DD", on_change=_note_click, **IN_URL)
    selected_range = day_range(days, today)
    if not is_first_click:
        write_address("days", _iso(selected_range))
    return selected_range


def _days_in_url() -> list[date]:
    try:
        return [date.fromisoformat(day) for day in st.query_params.get_all("days")]
    except ValueError:
        return []


def _iso(days: Sequence[date]) -> list[str]:
    return [day.isoformat() for day in days]


def day_range(days: Sequence[date], today: date) -> tuple[date, date]:
    """Return the first and the last of some days, none after today; without any, the last seven days."""
    ordered = sorted(min(day, today) for day in days) or [today - timedelta(days=6), today]
    return ordered[0], ordered[-1]


def _note_click() -> None:
    st.session_state[_CLICKED] = True


def period_bounds(site: Site, name: str) -> Bounds:
    """Return the bounds in UTC of a period in PERIODS other than Custom range; None means no bound."""
    today = start_of_day(datetime.now(UTC), site.zone)
    if name == "Yesterday":
        return start_of_day(today - timedelta(hours=1), site.zone), today
    days_back = {"Today": 0, "Last 7 days": 6, "Last 30 days": 29}.get(name)
    if days_back is None:
        return None, None
    return start_of_day(today - timedelta(days=days_back) + timedelta(hours=12), site.zone), None


def direction_filter() -> CallDirection | None:
    """Draw the direction filter; None if all directions are selected. Widget key: direction."""
    selected = select_filter("Direction", get_args(CallDirection), "direction", format_func=str.capitalize)
    return cast(CallDirection | None, selected)


def number_filter() -> str:
    """Draw the filter for part of a telephone number; "" if it is empty. Widget key: number."""
    number = st.text_input("Number", key="number", placeholder="Part of a number", live="400ms", **IN_URL)
    return (number or "").strip()


def queue_filter(site: Site, *, none: str = "") -> str | None:
    """Draw the queue filter. Widget key: queue; `none` as in `select_filter`."""
    with reading(site.engine) as session:
        queues = call_queues(session, site.active.id)
    return select_filter("Queue", queues, "queue", none=none)


def select_filter(
    label: str, options: Sequence[str], key: str, *, format_func: Any = str, none: str = ""
) -> str | None:
    """Draw a filter with one option to select: None for all, "" for calls that have none.

    `none`: the label of the option for calls that have none, "" to leave it out. An option that the URL names is
    offered even if it is not in `options`.
    """
    labels = [ALL, *options, *([none] if none else [])]
    requested = st.session_state.get(key) or st.query_params.get(key)
    if format_func is str and requested and requested not in labels:
        labels.append(requested)
    filter_mode: Literal["fuzzy"] | None = None if len(labels) < 9 else "fuzzy"
    selected = st.selectbox(label, labels, key=key, format_func=format_func, filter_mode=filter_mode, **IN_URL)
    return None if selected == ALL else "" if none and selected == none else selected
