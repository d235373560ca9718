"""What a page says around its data: titles, facts, empty states, errors, tiles, charts.

Whatever comes from a PBX is shown as text: it goes into HTML escaped, into Markdown as code.
"""

import gc
import html
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from pathlib import Path
from typing import Any

import streamlit as st

from pbx.charts import DARK, LIGHT, Palette, fit_legend
from pbx.errors import PbxError
from pbx.settings import load_settings
from pbx.ui.links import go_to_page

MOST_NAME = 80  # characters of a file's name, without its dates
HERE = Path(__file__).parent
MARK = HERE / "mark.svg"
SETTINGS_PAGE = "pages/settings/freepbx.py"
# Run when the title changes: a page that is drawn at once stays scrolled as far as the one before was.
FROM_THE_TOP = "<script>document.querySelector('[data-testid=stMain]')?.scrollTo(0, 0)</script>"
DEMO_PILL = '<span class="demo-pill">Demo</span>'
SPANS = {"15 min": 0.25, "1 h": 1, "6 h": 6, "24 h": 24, "7 d": 24 * 7, "30 d": 24 * 30}


def palette() -> Palette:
    """The chart colours of the mode the browser shows."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def plain(text: str) -> str:
    """Text as Streamlit's Markdown shows it unchanged: every character that could mean something is escaped."""
    escaped = re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])", r"\\\1", " ".join(text.split()))
    # Emoji, icons, links and arrows are looked for once escapes are resolved: an unseen joiner keeps them text.
    return re.sub(r"(?<=:)(?=[a-z/])|(?=@)|(?<=www)(?=\\\.)|(?<=-)(?=\\>)|(?<=<)(?=\\-)", "\u2060", escaped)


def note(text: str) -> None:
    """A quiet line of plain text."""
    st.html(f'<span class="muted">{html.escape(text)}</span>')


def passage(text: str) -> None:
    """Text as it was written, line by line, in the direction it is read."""
    lines = "".join(f'<p dir="auto">{html.escape(line)}</p>' for line in text.splitlines() if line.strip())
    st.html(f'<div class="passage">{lines}</div>')


def chips(words: Iterable[str]) -> None:
    """Short words, one after the other."""
    st.html(f'<div class="chips">{"".join(f"<span>{html.escape(word)}</span>" for word in words)}</div>')


def head(title: str, about: str) -> None:
    """A page's title with one line about what is seen; in the demo it says so."""
    _set_aside(len(sys.modules))
    pill = DEMO_PILL if load_settings().demo else ""
    st.container(key="page_head").html(
        f'<div class="page-head"><h1>{html.escape(title)}</h1>{pill}<p>{html.escape(about)}</p></div>{FROM_THE_TOP}',
        unsafe_allow_javascript=True,
    )


@st.cache_resource(show_spinner=False)
def _set_aside(modules: int) -> None:
    """Keep Python from looking for garbage in what is imported, whenever there is more of it.

    A look took 0.2 s, and a page of a year's figures makes it look.
    """
    gc.freeze()


def demo_pill() -> None:
    """A word that this is the demo, where a page has no title; nothing with real data."""
    if load_settings().demo:
        st.html(DEMO_PILL)


def facts(pairs: Mapping[str, str]) -> None:
    """Names with their values, aligned."""
    items = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs.items() if value
    )
    if items:
        st.html(f'<dl class="facts">{items}</dl>')


def empty(
    title: str,
    text: str,
    *,
    icon: str,
    link: tuple[str, str] | None = None,
    action: tuple[str, Callable[[], None]] | None = None,
) -> None:
    """A place with nothing to show: why, and the way on: a page with its label, or a label with what it does."""
    with st.container(border=True, key=f"empty_{icon}", gap="small"):
        st.markdown(f"### :material/{icon}: {title}")
        st.html(f'<span class="muted">{html.escape(text)}</span>')
        if link and st.button(link[1], type="primary", key=f"go_{icon}"):
            go_to_page(link[0])
        if action:
            st.button(action[0], type="primary", key=f"do_{icon}", on_click=action[1])


def problem(error: PbxError) -> None:
    """An error as a page of its own: what is wrong and what to do next."""
    with st.container(border=True, key="empty_problem", gap="small"):
        st.markdown("### :material/error: This page can’t be shown")
        st.error(plain(str(error)))
        if error.fix:
            st.html(f"<b>What to do</b><br>{html.escape(error.fix)}")
        st.button("Try again", icon=":material/refresh:", key="problem_again")


def show_errors(draw: Callable[..., None]) -> Callable[..., None]:
    """Let a fragment that draws itself anew end in words instead of an error."""

    @wraps(draw)
    def drawn(*args: Any) -> None:
        try:
            draw(*args)
        except PbxError as error:
            problem(error)

    return drawn


def tile(label: str, value: str, about: str, *, page: str, link: str, tone: str = "off") -> None:
    """A figure that leads to its page; call it within `tiles`."""
    with st.container(border=True, key=f"tile_{label.lower().replace(' ', '_')}"):
        colour = {"good": "green", "warn": "orange", "bad": "red"}.get(tone)
        st.metric(label, f":{colour}[{plain(value)}]" if colour else plain(value))
        st.caption(plain(about))
        st.page_link(page, label=link, icon=":material/arrow_forward:", icon_position="right")


def picture_name(what: str, since: datetime | None, until: datetime | None, zone: tzinfo) -> str:
    """The name of a chart saved as PNG: trunk-registration-2026-11-23-to-2026-11-29, and that it is the demo's.

    `since` is None where the period has no beginning, `until` where it reaches up to now.
    """
    now = datetime.now(UTC)
    last = (min(until or now, now) - timedelta(microseconds=1)).astimezone(zone).date()
    first = since.astimezone(zone).date() if since else None
    words = re.sub(r"[\W_]+", "-", what.lower())[:MOST_NAME].strip("-")
    days = f"until-{last}" if first is None else f"{first}-to-{last}" if first < last else f"{first}"
    return f"{words}-{days}{'-demo' if load_settings().demo else ''}"


def chart(figure: Any, *, alt: str, key: str, picture: str, on_pick: Callable[[Any], None] | None = None) -> None:
    """A Plotly figure of `pbx.charts`, to be saved as PNG by the button in its corner, under the name `picture`.

    `on_pick(customdata)` is called with the customdata of a point clicked on, and with None when the choice is undone.
    """

    fit_legend(figure)

    def pick() -> None:
        points = st.session_state[key].selection.points
        if on_pick is not None:
            on_pick(points[0].get("customdata") if points else None)

    st.plotly_chart(
        figure,
        theme=None,
        key=key,
        alt=alt,
        on_select=pick if on_pick else "ignore",
        selection_mode="points",
        config={
            "displaylogo": False,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {"format": "png", "filename": picture, "scale": 2},
            "responsive": True,
        },
    )


def span(key: str) -> tuple[datetime, datetime]:
    """The period of history to show, chosen by the reader and kept in the address; in UTC, up to now."""
    chosen = st.segmented_control(
        "History",
        list(SPANS),
        default="24 h",
        required=True,
        key=key,
        bind="query-params",
        label_visibility="collapsed",
    )
    now = datetime.now(UTC)
    return now - timedelta(hours=SPANS[chosen or "24 h"]), now


def style() -> None:
    st.logo(str(HERE / "logo.svg"), icon_image=str(MARK), size="large")


def pending_toast() -> None:
    """Show what a fragment left to say before it had the page drawn anew."""
    if toast := st.session_state.pop("toast", None):
        text, icon = toast
        st.toast(plain(text), icon=icon, duration="long")
