"""The elements of pages: titles, notes, facts, empty states, errors, tiles and charts.

Text from a PBX is never interpreted: it is escaped in HTML and in Markdown.
"""

import gc
import html
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from pbx.charts import DARK, LIGHT, Palette, fit_legend
from pbx.errors import PbxError
from pbx.settings import load_settings
from pbx.ui.links import go_to_page

MAX_NAME_CHARACTERS = 80  # characters of a file name, without its dates
UI_DIR = Path(__file__).parent
LOGO_MARK = UI_DIR / "mark.svg"
SETTINGS_PAGE = "pages/settings/freepbx.py"
# Runs when the title changes. Otherwise a new page would keep the scroll position of the previous one.
SCROLL_TO_TOP = "<script>document.querySelector('[data-testid=stMain]')?.scrollTo(0, 0)</script>"


def component(name: str, html: str, css_file: str, *js_files: str) -> ComponentRenderer:
    """Register a component of the app, with a style and scripts from this folder."""
    css, *scripts = ((UI_DIR / file).read_text(encoding="utf-8") for file in (css_file, *js_files))
    return st.components.v2.component(name, html=html, css=css, js="".join(scripts))


def palette() -> Palette:
    """The chart colours for the browser's light or dark mode."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def plain(text: str) -> str:
    """Text escaped so that Streamlit's Markdown shows it unchanged."""
    escaped = re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])", r"\\\1", " ".join(text.split()))
    # Streamlit replaces emoji, icons, links and arrows after it resolves escapes: an invisible joiner prevents that.
    return re.sub(r"(?<=:)(?=[a-z/])|(?=@)|(?<=www)(?=\\\.)|(?<=-)(?=\\>)|(?<=<)(?=\\-)", "\u2060", escaped)


def note(text: str) -> None:
    """A line of plain text in a muted colour."""
    st.html(f'<span class="muted">{html.escape(text)}</span>')


def passage(text: str) -> None:
    """A text in paragraphs, each in its own reading direction."""
    lines = "".join(f'<p dir="auto">{html.escape(line)}</p>' for line in text.splitlines() if line.strip())
    st.html(f'<div class="passage">{lines}</div>')


def chips(words: Iterable[str]) -> None:
    """Short texts as chips in a row."""
    st.html(f'<div class="chips">{"".join(f"<span>{html.escape(word)}</span>" for word in words)}</div>')


def head(title: str, about: str) -> None:
    """A page's title with one line that describes it, and the label of data that isn't real."""
    _freeze_imports(len(sys.modules))
    st.container(key="page_head").html(
        f'<div class="page-head"><h1>{html.escape(title)}</h1>{_pill()}<p>{html.escape(about)}</p></div>'
        f"{SCROLL_TO_TOP}",
        unsafe_allow_javascript=True,
    )


@st.cache_resource(show_spinner=False)
def _freeze_imports(modules: int) -> None:
    """Exclude imported modules from garbage collection; again whenever more `modules` are loaded.

    A collection took 0.2 s, and a page with a year's figures triggers one.
    """
    gc.freeze()


def data_label_pill() -> None:
    """The label of data that isn't real, for a page without a title; nothing with real data."""
    if pill := _pill():
        st.html(pill)


def _pill() -> str:
    label = load_settings().data_label
    return f'<span class="data-label-pill">{label}</span>' if label else ""


def facts(pairs: Mapping[str, str]) -> None:
    """Names with their values, aligned; empty values are left out."""
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
    """An empty state: what is missing and why, with a `link` (page, label) or an `action` (label, function)."""
    with st.container(border=True, key=f"empty_{icon}", gap="small"):
        st.markdown(f"### :material/{icon}: {title}")
        st.html(f'<span class="muted">{html.escape(text)}</span>')
        if link and st.button(link[1], type="primary", key=f"go_{icon}"):
            go_to_page(link[0])
        if action:
            st.button(action[0], type="primary", key=f"do_{icon}", on_click=action[1])


def problem(error: PbxError) -> None:
    """An error in place of a page: what is wrong and how to fix it."""
    with st.container(border=True, key="empty_problem", gap="small"):
        st.markdown("### :material/error: This page can’t be shown")
        st.error(plain(str(error)))
        if error.fix:
            st.html(f"<b>What to do</b><br>{html.escape(error.fix)}")
        st.button("Try again", icon=":material/refresh:", key="problem_again")


def show_errors(draw: Callable[..., None]) -> Callable[..., None]:
    """Make a fragment show a PbxError as a message with its fix."""

    @wraps(draw)
    def drawn(*args: Any) -> None:
        try:
            draw(*args)
        except PbxError as error:
            problem(error)

    return drawn


def tile(label: str, value: str, about: str, *, page: str, link: str, tone: str = "off") -> None:
    """A figure with a link to its page; call it in the container `tiles`."""
    with st.container(border=True, key=f"tile_{label.lower().replace(' ', '_')}"):
        colour = {"good": "green", "warn": "orange", "bad": "red"}.get(tone)
        st.metric(label, f":{colour}[{plain(value)}]" if colour else plain(value))
        st.caption(plain(about))
        st.page_link(page, label=link, icon=":material/arrow_forward:", icon_position="right")


def picture_name(what: str, since: datetime | None, until: datetime | None, zone: tzinfo) -> str:
    """The PNG name of a chart: trunk-registration-2026-11-23-to-2026-11-29, with a label if the data isn't real.

    `since` is None if the period has no start, `until` if it ends now.
    """
    now = datetime.now(UTC)
    last = (min(until or now, now) - timedelta(microseconds=1)).astimezone(zone).date()
    first = since.astimezone(zone).date() if since else None
    words = re.sub(r"[\W_]+", "-", what.lower())[:MAX_NAME_CHARACTERS].strip("-")
    days = f"until-{last}" if first is None else f"{first}-to-{last}" if first < last else f"{first}"
    return "-".join(filter(None, (words, days, load_settings().data_label.lower())))


def chart(figure: Any, *, alt: str, key: str, picture: str, on_pick: Callable[[Any], None] | None = None) -> None:
    """Show a Plotly figure of `pbx.charts`; a button in its corner saves it as PNG under the name `picture`.

    `on_pick(customdata)` is called with the customdata of a clicked point, and with None when it is deselected.
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


def select_one(label: str, options: Sequence[str], default: str, key: str, **more: Any) -> str:
    """Draw a row of buttons, one of them selected, and return that one. Only screen readers have the label.

    `more`: further arguments of st.segmented_control.
    """
    chosen: str | None = st.segmented_control(
        label, options, default=default, required=True, key=key, label_visibility="collapsed", **more
    )
    return chosen or default


def style() -> None:
    """Show the app's logo in the sidebar."""
    st.logo(str(UI_DIR / "logo.svg"), icon_image=str(LOGO_MARK), size="large")


def pending_toast() -> None:
    """Show the toast that a fragment stored before it reran the page."""
    if toast := st.session_state.pop("toast", None):
        text, icon = toast
        st.toast(plain(text), icon=icon, duration="long")
