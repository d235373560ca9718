"""The PBX at hand, what is known of it now, and how old that is."""

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
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import open_engine, reading
from pbx.store.job_queue import request_job
from pbx.store.job_rows import last_job
from pbx.store.models import Job, PbxConnection
from pbx.store.snapshots import latest_snapshot, latest_taken_at
from pbx.ui.demo import no_pbx
from pbx.ui.elements import SETTINGS_PAGE as SETTINGS_PAGE
from pbx.ui.elements import empty, note, plain
from pbx.ui.gate import stop_without_gate

DATA_IMPORT_PAGE = "pages/settings/data_import.py"
LIVE_S = 5  # how often a live page looks into the cache
LISTENING_S = 1  # ... while someone listens to the PBX: then the cache is about a second behind it
FRESH_S = 15  # a snapshot older than this is renewed while someone looks at a live page
RETRY_S = 60  # ... and when the last attempt failed, after this


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
    def pbx_name(self) -> str:
        """What the PBX is called on pages."""
        return "Demo PBX" if self.settings.demo else self.active.connection.host

    def source_name(self, source: str) -> str:
        """Where a call is from, for people."""
        if self.settings.demo:
            return "Demo"
        return "FreePBX" if source == "freepbx" else source

    @cached_property
    def extension_names(self) -> dict[str, str]:
        """Whose an extension is, as the queues name their members."""
        with reading(self.engine) as session:
            return extension_names(session, self.active.id)

    def agent_text(self, agent: str) -> str:
        """An agent of a call, whom the call knows by his extension: with his name where a queue tells it."""
        name = self.extension_names.get(agent)
        return f"{name} ({agent})" if name else agent

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
    stop_without_gate()
    settings = load_settings()
    return settings, _opened(f"{settings.database_url} {settings.pbx_data_dir.resolve()} {settings.demo}", settings)


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
        no_pbx(cache()[0])
        st.stop()
    return found


def snapshot(site: Site) -> Snapshot:
    """The newest snapshot, renewed in the background while someone looks; without one the page says what to do."""
    renew(site)
    with reading(site.engine) as session:
        found = latest_snapshot(session, site.active.id)
        last = last_job(session, "collect", connection_id=site.active.id)
    if found is None:
        st.session_state["no_snapshot"] = True
        _no_snapshot(site, last)
        st.stop()
    if st.session_state.pop("no_snapshot", False):
        st.rerun()  # what stands below the live part was not drawn yet
    return found


def live_s() -> int:
    """How often a live page looks into the cache, in seconds."""
    try:
        return LISTENING_S if listener_alive(load_settings()) else LIVE_S
    except PbxError:  # the page says so
        return LIVE_S


def renew(site: Site) -> None:
    """Ask for a snapshot when the newest is old: not while one is asked for, and rarely while it fails.

    Whoever listens to the PBX keeps it fresh; only when that one has lost the PBX too is it asked for.
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
        text = "The first snapshot of the PBX is being taken; it appears here by itself within seconds."
    empty("No live status yet", text, icon="sensors", link=(SETTINGS_PAGE, "Check the connection"))


def freshness(site: Site, taken_at: datetime) -> None:
    """Say of when the live figures are, and why they are old when they are."""
    now = datetime.now(UTC)
    with reading(site.engine) as session:
        last = last_job(session, "collect", connection_id=site.active.id)
    note(f"As of {site.local(taken_at, seconds=True)} ({ago_text(taken_at, now)}), renewed while this page is open")
    if last and last.state == "failed" and last.requested_at > taken_at:
        st.warning(f"Newer figures could not be read. {plain(last.error)}", icon=":material/sensors_off:")


def not_ok(found: Snapshot, *parts: str) -> None:
    """Say which parts of a snapshot are missing or incomplete, and why."""
    for name in parts:
        part = found.parts.get(name)  # type: ignore[call-overload]  # the names are the snapshot's own
        if part and part.state != "ok":
            st.warning(f"{name.replace('_', ' ').capitalize()}: {plain(part.reason)}", icon=":material/lock:")
