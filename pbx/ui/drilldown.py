"""What is behind a figure: what was clicked on, kept in the address, and the list below the charts that shows it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import streamlit as st

from pbx.ui.active_pbx import DATA_IMPORT_PAGE
from pbx.ui.elements import chart, empty
from pbx.ui.period_bar import Period

BEHIND = "behind"  # the part of the address that tells what was clicked on
PAGE_ROWS = 12
MOST_EXPORTED = 100_000
EXPORT_STEP = 1000
_SHOWN = "behind_shown"  # set by a click whose calls are to be seen
_DRAWN, _HELD = "charts_drawn", "chart_held"  # how often each chart was drawn anew, and which holds a choice


def choose_drilldown(asked: str | None) -> None:
    """Keep in the address which calls to list: a query as the points of charts carry it, None for all."""
    if asked:
        st.query_params[BEHIND] = asked
    else:
        st.query_params.pop(BEHIND, None)


def drilldown_chart(figure: Any, *, alt: str, key: str, picture: str, also: Mapping[str, str] | None = None) -> None:
    """A chart whose points' customdata begins with such a query: a click lists the calls behind the point.

    `picture`: its name when saved. `also`: what is asked for besides, whatever the point.
    One chart at a time holds a choice: the one before is drawn anew, under another key, without it.
    """
    drawn = st.session_state.setdefault(_DRAWN, {})

    def pick(customdata: Any) -> None:
        held = st.session_state.get(_HELD)
        if held and held != key:
            drawn[held] = drawn.get(held, 0) + 1
        st.session_state[_HELD] = key if customdata else None
        asked = customdata[0] if customdata else ""
        choose_drilldown(f"{asked}&{urlencode(also)}" if asked and also else asked)
        st.session_state[_SHOWN] = bool(asked)

    chart(figure, alt=alt, key=f"{key}_{drawn.get(key, 0)}", picture=picture, on_pick=pick)


def show_all() -> None:
    """List all calls again, and let no chart hold a choice."""
    drawn = st.session_state.setdefault(_DRAWN, {})
    if held := st.session_state.pop(_HELD, None):
        drawn[held] = drawn.get(held, 0) + 1
    choose_drilldown(None)


def offer_all() -> None:
    """A button that lists all calls again: the whole page is drawn anew, as a chart above lets go of its choice."""
    if st.button("Show all", icon=":material/close:", key="behind_clear"):
        show_all()
        st.rerun()


def follow(within: Mapping[str, str] | None = None, **asked: str) -> None:
    """Show the calls of a table's row just picked, of a queue, an agent, a did: of those of `within` where given."""
    show_all()
    choose_drilldown(urlencode({**(within or {}), **asked}))
    st.session_state[_SHOWN] = True
    st.rerun()


def was_clicked() -> bool:
    """Whether the calls behind something just clicked on are to be seen: told once."""
    return bool(st.session_state.pop(_SHOWN, False))


@contextmanager
def drilldown_list(key: str) -> Iterator[None]:
    """A place for the list, which a click on a chart leads to."""
    shown = was_clicked()
    with st.container(key=key):
        yield
    if shown:
        scroll_to(key)


def scroll_to(key: str) -> None:
    """Bring a keyed container into view."""
    # The moment makes each one new, or the browser would not run it again.
    moment = datetime.now(UTC).timestamp()
    st.html(
        f"<script>/* {moment} */document.querySelector('.st-key-{key}')"
        "?.scrollIntoView({behavior: 'smooth'})</script>",
        unsafe_allow_javascript=True,
    )


def drilldown_from_url() -> dict[str, str]:
    """What the address asks for; `span_param` and the like read it, and what they can't understand asks for nothing."""
    return dict(parse_qsl(st.query_params.get(BEHIND, ""), keep_blank_values=True))


def span_param(asked: Mapping[str, str], since: datetime, until: datetime) -> tuple[datetime, datetime] | None:
    """The time asked for, as far as it lies in the period."""
    first, last = _moment(asked.get("from")), _moment(asked.get("until"))
    if first is None or last is None or max(first, since) >= min(last, until):
        return None
    return max(first, since), min(last, until)


def int_param(asked: Mapping[str, str], name: str, below: int) -> int | None:
    """A whole number asked for, if it is one, and in its bounds."""
    text = asked.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 12 and int(text) < below else None


def number_param(asked: Mapping[str, str], name: str) -> float | None:
    text = asked.get(name, "")
    return float(text) if text.replace(".", "", 1).isdecimal() and len(text) < 12 else None


def span_text(span: tuple[datetime, datetime], period: Period) -> str:
    """Say a time behind a point: a day, or hours of one."""
    first, last = (moment.astimezone(period.zone) for moment in span)
    day = f"{first:%a} {first.day} {first:%b}"
    return f"{day} {first:%H:%M}–{last:%H:%M}" if (span[1] - span[0]).total_seconds() < 23 * 3600 else day


def no_history(title: str, icon: str, *, what: str, source: str) -> None:
    """Nothing is known of a period: how history arrives. `source`: the import's name on the command line."""
    empty(
        title,
        f"Choose another period, or bring {what} here: python -m pbx import {source} reads what the PBX wrote down so "
        "far, and python -m pbx watch keeps what happens from now on.",
        icon=icon,
        link=(DATA_IMPORT_PAGE, "Import data"),
    )


def _moment(text: str | None) -> datetime | None:
    seconds = int_param({"at": text or ""}, "at", 2**33)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
