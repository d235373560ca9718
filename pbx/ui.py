"""What pages are made of: the PBX at hand, tiles, tables, empty states, the sidebar. The only module with Streamlit.

Whatever comes from a PBX is shown as text: it goes into tables as data, into HTML escaped, into Markdown as code.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from pathlib import Path
from typing import Any

import streamlit as st
from sqlalchemy import Engine

from pbx.ami.snapshot import Snapshot
from pbx.charts import DARK, LIGHT, Palette
from pbx.errors import PbxError
from pbx.jobs.queue import ask_job, ensure_worker, worker_alive
from pbx.settings import Settings, load_settings
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import open_engine, reading
from pbx.store.jobs import get_job, last_job, unfinished_jobs
from pbx.store.models import Call, Job, PbxConnection
from pbx.store.samples import latest_snapshot
from pbx.wording import (
    DIRECTIONS,
    RECORDING_STATES,
    ago_text,
    count_text,
    duration_text,
    moment_text,
    sync_text,
    zone_of,
    zone_text,
)

HERE = Path(__file__).parent
MARK = HERE / "mark.svg"
SETTINGS_PAGE = "pages/settings/freepbx.py"
LIVE_S = 5  # how often a live page looks into the cache
FRESH_S = 15  # a snapshot older than this is renewed while someone looks at a live page
RETRY_S = 60  # ... and when the last attempt failed, after this

CALL_COLUMNS = ("Started|", "From", "To", "Length>", "Recording|", "Source|")

Cell = str | Mapping[str, str]  # text, or {text, sub?, tone?: good|warn|bad|busy|idle, badge?}


@dataclass(frozen=True)
class Site:
    """What a page works with: settings, cache, PBX and its zone."""

    settings: Settings
    engine: Engine
    active: ActiveConnection
    zone: tzinfo

    @property
    def interval_s(self) -> int:
        """How often the worker looks at the PBX."""
        return self.settings.freepbx_collect_interval_minutes * 60

    @property
    def zone_name(self) -> str:
        return zone_text(self.zone, datetime.now(UTC))

    def local(self, at: datetime | None, *, seconds: bool = False) -> str:
        return moment_text(at, self.zone, datetime.now(UTC), seconds=seconds)


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened(key: str, _settings: Settings) -> Engine:
    return open_engine(_settings)


def cache() -> tuple[Settings, Engine]:
    """The settings and the opened cache. Raises SettingsError, DataError."""
    settings = load_settings()
    return settings, _opened(f"{settings.database_url} {settings.pbx_data_dir.resolve()}", settings)


def find_site() -> Site | None:
    """The PBX at hand, or None when none is set up. Raises SettingsError, DataError."""
    settings, engine = cache()
    active = active_connection(engine, settings)
    if active is None:
        return None
    with reading(engine) as session:
        row = session.get(PbxConnection, active.id)
    return Site(settings, engine, active, zone_of(active.connection.timezone, row.utc_offset_s if row else None))


def site() -> Site:
    """The PBX at hand; without one the page ends with what to do next."""
    found = find_site()
    if found is None:
        empty(
            "No PBX is connected yet",
            "Enter your FreePBX under Settings: its address, an AMI user for live status, an ARI user for recordings. "
            "The connection check there tells whether everything is in place, and what to do where it is not.",
            icon="cable",
            link=(SETTINGS_PAGE, "Connect a FreePBX"),
        )
        st.stop()
    return found


def snapshot(at: Site) -> Snapshot:
    """The newest snapshot, renewed in the background while someone looks; without one the page says what to do."""
    renew(at)
    with reading(at.engine) as session:
        found = latest_snapshot(session, at.active.id)
        last = last_job(session, "collect", connection_id=at.active.id)
    if found is None:
        st.session_state["no_snapshot"] = True
        _no_snapshot(at, last)
        st.stop()
    if st.session_state.pop("no_snapshot", False):
        st.rerun()  # what stands below the live part was not drawn yet
    return found


def renew(at: Site) -> None:
    """Ask for a snapshot when the newest is old: not while one is asked for, and rarely while it fails."""
    now = datetime.now(UTC)
    with reading(at.engine) as session:
        last = last_job(session, "collect", connection_id=at.active.id)
    wait_s = RETRY_S if last and last.state == "failed" else FRESH_S
    if at.active.connection.ami_username and (last is None or now - last.asked_at > timedelta(seconds=wait_s)):
        ask_job(at.engine, at.settings, "collect", asked_by="page")


def _no_snapshot(at: Site, last: Job | None) -> None:
    if not at.active.connection.ami_username:
        text = "Live status comes through AMI, and no AMI user is set. Enter one under Settings."
    elif last and last.state == "failed":
        text = f"The PBX could not be read: {last.error}"
    else:
        text = "The first snapshot of the PBX is being taken; it appears here by itself within seconds."
    empty("No live status yet", text, icon="sensors", link=(SETTINGS_PAGE, "Check the connection"))


def freshness(at: Site, taken_at: datetime) -> None:
    """Say of when the live figures are, and why they are old when they are."""
    now = datetime.now(UTC)
    with reading(at.engine) as session:
        last = last_job(session, "collect", connection_id=at.active.id)
    note(f"As of {at.local(taken_at, seconds=True)} ({ago_text(taken_at, now)}), renewed while this page is open")
    if last and last.state == "failed" and last.asked_at > taken_at:
        st.warning(f"Newer figures could not be read. {plain(last.error)}", icon=":material/sensors_off:")


def not_ok(found: Snapshot, *parts: str) -> None:
    """Say which parts of a snapshot are missing or incomplete, and why."""
    for name in parts:
        part = found.parts.get(name)  # type: ignore[call-overload]  # the names are the snapshot's own
        if part and part.state != "ok":
            st.warning(f"{name.replace('_', ' ').capitalize()}: {plain(part.reason)}", icon=":material/lock:")


def said_clearly(draw: Callable[..., None]) -> Callable[..., None]:
    """Let a fragment that draws itself anew end in words instead of an error."""

    @wraps(draw)
    def drawn(*args: Any) -> None:
        try:
            draw(*args)
        except PbxError as error:
            problem(error)

    return drawn


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


def head(title: str, about: str) -> None:
    """A page's title with one line about what is seen."""
    st.html(f'<div class="page-head"><h1>{html.escape(title)}</h1><p>{html.escape(about)}</p></div>')


def facts(pairs: Mapping[str, str]) -> None:
    """Names with their values, aligned."""
    items = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in pairs.items() if value
    )
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
            st.switch_page(link[0])
        if action:
            st.button(action[0], type="primary", key=f"do_{icon}", on_click=action[1])


def problem(error: PbxError) -> None:
    """An error as a page of its own: what is wrong and what to do next."""
    with st.container(border=True, key="empty_problem", gap="small"):
        st.markdown("### :material/error: This page can’t be shown")
        st.error(plain(str(error)))
        if error.mend:
            st.html(f"<b>What to do</b><br>{html.escape(error.mend)}")
        st.button("Try again", icon=":material/refresh:", key="problem_again")


def tile(label: str, value: str, about: str, *, page: str, link: str, tone: str = "off") -> None:
    """A figure that leads to its page; call it within `tiles`."""
    with st.container(border=True, key=f"tile_{label.lower().replace(' ', '_')}"):
        colour = {"good": "green", "warn": "orange", "bad": "red"}.get(tone)
        st.metric(label, f":{colour}[{plain(value)}]" if colour else plain(value))
        st.caption(plain(about))
        st.page_link(page, label=link, icon=":material/arrow_forward:", icon_position="right")


_table = st.components.v2.component(
    "pbx_table",
    html='<div class="table"></div>',
    css=(HERE / "table.css").read_text(),
    js=(HERE / "table.js").read_text(),
)


def table(
    label: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Cell]],
    *,
    key: str,
    selected: str | None = None,
    pick: bool = False,
) -> str | None:
    """A table of text cells, one row per id; returns the id of a row just picked.

    A column's name may end in `>` for numbers (right-aligned) or `|` for short values that never wrap.
    """

    result = _table(
        key=key,
        data={
            "label": label,
            "columns": [
                {"title": name.rstrip(">|"), "align": {">": "right", "|": "tight"}.get(name[-1:], "")}
                for name in columns
            ],
            "rows": [{"id": row, "cells": list(cells)} for row, cells in rows.items()],
            "selected": selected,
            "pick": pick,
        },
        on_pick_change=lambda: None,
    )
    return result.pick if isinstance(result.pick, str) else None


def call_cells(at: Site, call: Call) -> list[Cell]:
    """A call as a row below CALL_COLUMNS."""
    state, tone = RECORDING_STATES.get(call.state, (call.state, "idle"))
    queue = f"Queue {call.queue}" if call.queue != call.to_number else "Queue"
    via = [queue if call.queue else "", f"Agent {call.agent}" if call.agent else ""]
    return [
        {"text": at.local(call.started_at), "sub": DIRECTIONS.get(call.direction, call.direction)},
        call.from_number or "Unknown",
        {"text": call.to_number or "Unknown", "sub": ", ".join(filter(None, via))},
        duration_text(call.duration_s),
        {"text": state, "tone": tone},
        {"text": "FreePBX" if call.source == "freepbx" else call.source, "badge": "yes"},
    ]


def chart(figure: Any, *, alt: str, key: str) -> None:
    """A Plotly figure of charts.py."""
    st.plotly_chart(figure, theme=None, key=key, alt=alt, config={"displayModeBar": False, "responsive": True})


SPANS = {"15 min": 0.25, "1 h": 1, "6 h": 6, "24 h": 24, "7 d": 24 * 7, "30 d": 24 * 30}


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
    st.html(HERE / "ui.css")


def sidebar() -> None:
    """The PBX at hand, the Sync button with its progress, the last sync, the worker."""
    found = find_site()
    if found is None:
        st.sidebar.page_link(SETTINGS_PAGE, label="Connect a FreePBX", icon=":material/cable:")
        return
    ensure_worker(found.settings)
    with st.sidebar:
        _sync_panel(found)


@st.fragment(run_every=2)
@said_clearly
def _sync_panel(at: Site) -> None:
    with reading(at.engine) as session:
        job = next((j for j in unfinished_jobs(session) if (j.kind, j.connection_id) == ("sync", at.active.id)), None)
        last = last_job(session, "sync", connection_id=at.active.id)
        watched = get_job(session, st.session_state.get("watched_sync", ""))
    st.html(f'<span class="host">{html.escape(at.active.connection.host)}</span>')
    if st.button("Sync FreePBX", icon=":material/sync:", type="primary", width="stretch"):
        said = "A sync is already under way." if job else "Sync queued. It runs in the background; you can go on."
        job = ask_job(at.engine, at.settings, "sync", asked_by="page")
        st.session_state["watched_sync"] = job.id
        st.toast(said, icon=":material/schedule:")
    if job:
        _progress(job)
    elif last:
        _last_sync(last)
    alive = worker_alive(at.settings)
    st.caption(
        ":green[:material/check_circle:] Worker running" if alive else ":orange[:material/warning:] No worker runs"
    )
    if watched and watched.state in ("done", "failed"):
        del st.session_state["watched_sync"]
        _tell_end(watched)


def _progress(job: Job) -> None:
    if job.state == "queued":
        st.progress(0.0, "Sync queued")
    elif not job.total:
        st.progress(0.0, "Listing recordings")
    else:
        st.progress(min(job.done / job.total, 1.0), f"{job.done:,} of {count_text(job.total, 'recording')}")


def _last_sync(job: Job) -> None:
    when = ago_text(job.ended_at, datetime.now(UTC))
    if job.state == "failed":
        st.caption(f":red[:material/error:] Sync failed {when}")
        st.caption(plain(job.error))
    else:
        st.caption(f"Last sync {when}, {plain(sync_text(job.result))}")


def _tell_end(job: Job) -> None:
    """Toast the outcome, then show the new rows on the page behind."""
    if job.state == "done":
        st.session_state["toast"] = (f"Sync done: {sync_text(job.result)}.", ":material/check_circle:")
    else:
        st.session_state["toast"] = (f"Sync failed. {job.error}", ":material/error:")
    st.rerun()


def pending_toast() -> None:
    """Show what a fragment left to say before it had the page drawn anew."""
    if toast := st.session_state.pop("toast", None):
        text, icon = toast
        st.toast(plain(text), icon=icon, duration="long")
