"""The active PBX, its newest snapshot, and how old the snapshot is."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property

import streamlit as st
from sqlalchemy import Engine

from pbx.errors import PbxError
from pbx.formatting import ago_text, moment_text, zone_of, zone_text
from pbx.live.listener import listener_alive
from pbx.model.snapshot import Snapshot
from pbx.settings import Settings, load_settings
from pbx.store.agent_names import extension_names
from pbx.store.engine import open_engine, reading
from pbx.store.job_queue import request_job
from pbx.store.job_rows import last_job
from pbx.store.models import Job, PbxConnection
from pbx.store.pbx_connections import ActiveConnection, active_connection
from pbx.store.snapshots import latest_snapshot, latest_taken_at
from pbx.ui.access_gate import stop_without_gate
from pbx.ui.demo import data_label_banner as data_label_banner
from pbx.ui.demo import data_source_changed as data_source_changed
from pbx.ui.demo import fixed_connection_page as fixed_connection_page
from pbx.ui.demo import follow_data_source as follow_data_source
from pbx.ui.demo import no_import_note as no_import_note
from pbx.ui.demo import no_pbx_hint as no_pbx_hint
from pbx.ui.demo import no_pbx_page
from pbx.ui.demo import tour as tour
from pbx.ui.page_elements import SETTINGS_PAGE as SETTINGS_PAGE
from pbx.ui.page_elements import empty, note, plain

DATA_IMPORT_PAGE = "pages/settings/data_import.py"
LIVE_INTERVAL_S = 5  # how often a live page reads the cache
LISTENING_INTERVAL_S = 1  # ... while the listener runs, whose data is about a second old
FRESH_S = 15  # a snapshot older than this is renewed while a live page is open
RETRY_S = 60  # ... or older than this, if the last attempt failed


@dataclass(frozen=True)
class Site:
    """What a page works with: the settings, the database, the active PBX and its time zone."""

    settings: Settings
    engine: Engine
    active: ActiveConnection
    zone: tzinfo

    @property
    def interval_s(self) -> int:
        """How often the worker takes a snapshot, in seconds."""
        return self.settings.freepbx_collect_interval_minutes * 60

    @property
    def pbx_name(self) -> str:
        """The name of the PBX on pages."""
        label = self.settings.data_label
        return f"{label} PBX" if label else self.active.connection.host

    def source_name(self, source: str) -> str:
        """The name of a call's source on pages."""
        return self.settings.data_label or ("FreePBX" if source == "freepbx" else source)

    @cached_property
    def extension_names(self) -> dict[str, str]:
        """The agent's name of each extension, from the members of queues."""
        with reading(self.engine) as session:
            return extension_names(session, self.active.id)

    def agent_text(self, agent: str) -> str:
        """The extension of a call's agent, with the agent's name if a queue has it."""
        name = self.extension_names.get(agent)
        return f"{name} ({agent})" if name else agent

    @property
    def zone_name(self) -> str:
        """The name of the PBX's time zone."""
        return zone_text(self.zone, datetime.now(UTC))

    def local(self, at: datetime | None, *, seconds: bool = False) -> str:
        """A moment in the PBX's time zone, without the date if it is today."""
        return moment_text(at, self.zone, datetime.now(UTC), seconds=seconds)


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened(key: str, _settings: Settings) -> Engine:
    return open_engine(_settings)


def cache() -> tuple[Settings, Engine]:
    """The settings and the opened database. Raises SettingsError, DataError."""
    stop_without_gate()
    settings = load_settings()
    return settings, _opened(f"{settings.database_url} {settings.pbx_data_dir.resolve()} {settings.demo_id}", settings)


def find_site() -> Site | None:
    """The active PBX, or None if none is set up. Raises SettingsError, DataError."""
    settings, engine = cache()
    active = active_connection(engine, settings)
    if active is None:
        return None
    with reading(engine) as session:
        row = session.get(PbxConnection, active.id)
    return Site(settings, engine, active, zone_of(active.connection.timezone, row.utc_offset_s if row else None))


def site() -> Site:
    """The active PBX; without one the page shows how to connect one and ends."""
    found = find_site()
    if found is None:
        no_pbx_page(cache()[0])
        st.stop()
    return found


def snapshot(site: Site) -> Snapshot:
    """The newest snapshot, renewed in the background; without one the page shows what to do and ends."""
    request_fresh_snapshot(site)
    with reading(site.engine) as session:
        found = latest_snapshot(session, site.active.id)
        last = last_job(session, "collect", connection_id=site.active.id)
    if found is None:
        st.session_state["no_snapshot"] = True
        _no_snapshot(site, last)
        st.stop()
    if st.session_state.pop("no_snapshot", False):
        st.rerun()  # the part below the live part isn't drawn yet
    return found


def live_interval_s() -> int:
    """How often a live page reads the cache, in seconds."""
    try:
        return LISTENING_INTERVAL_S if listener_alive(load_settings()) else LIVE_INTERVAL_S
    except PbxError:  # the page shows the error
        return LIVE_INTERVAL_S


def request_fresh_snapshot(site: Site) -> None:
    """Request a snapshot if the newest is old: not while one is requested, and rarely after a failure.

    A running listener keeps the snapshot fresh; one is requested only if the listener has lost the PBX.
    """
    now = datetime.now(UTC)
    with reading(site.engine) as session:
        taken_at = latest_taken_at(session, site.active.id)
        if taken_at and now - taken_at < timedelta(seconds=FRESH_S) and listener_alive(site.settings):
            return
        last = last_job(session, "collect", connection_id=site.active.id)
    wait_s = RETRY_S if last and last.state == "failed" else FRESH_S
    if site.active.connection.ami_username and (last is None or now - last.requested_at > timedelta(seconds=wait_s)):
        request_job(site.engine, site.settings, "collect", requested_by="page")


def _no_snapshot(site: Site, last: Job | None) -> None:
    if not site.active.connection.ami_username:
        text = "Live status comes through AMI, and no AMI user is set. Enter one under Settings."
    elif last and last.state == "failed":
        text = f"The PBX could not be read: {last.error}"
    else:
        text = "The first snapshot of the PBX is being taken. It appears here automatically within seconds."
    empty("No live status yet", text, icon="sensors", link=(SETTINGS_PAGE, "Check the connection"))


def live_snapshot(site: Site, *parts: str) -> Snapshot:
    """The newest snapshot as `snapshot` returns it, with a line on its age and warnings about these parts of it."""
    found = snapshot(site)
    _show_age(site, found.taken_at)
    _warn_about_parts(found, parts)
    return found


def _show_age(site: Site, taken_at: datetime) -> None:
    """Note the age of the live figures, with a warning if newer ones could not be read."""
    now = datetime.now(UTC)
    with reading(site.engine) as session:
        last = last_job(session, "collect", connection_id=site.active.id)
    note(f"Last update {site.local(taken_at, seconds=True)} ({ago_text(taken_at, now)}). Updates automatically.")
    if last and last.state == "failed" and last.requested_at > taken_at:
        st.warning(f"Newer figures could not be read. {plain(last.error)}", icon=":material/sensors_off:")


def _warn_about_parts(found: Snapshot, parts: tuple[str, ...]) -> None:
    """Warn about parts of a snapshot that are missing or incomplete, with the reason."""
    for name in parts:
        part = found.parts.get(name)  # type: ignore[call-overload]  # the names are the snapshot's own
        if part and part.state != "ok":
            st.warning(f"{name.replace('_', ' ').capitalize()}: {plain(part.reason)}", icon=":material/lock:")
