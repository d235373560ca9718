"""The sidebar: the active PBX, the Sync button with its progress, the last sync, and the worker's status."""

import html
from datetime import UTC, datetime

import streamlit as st

from pbx.formatting import ago_text, count_text, sync_text
from pbx.settings import load_settings
from pbx.store.engine import reading
from pbx.store.job_queue import ensure_worker, request_job, worker_alive
from pbx.store.job_rows import get_job, last_job, unfinished_jobs
from pbx.store.models import Job
from pbx.ui.active_pbx import SETTINGS_PAGE, Site, data_label_banner, data_source_changed, find_site, follow_data_source
from pbx.ui.page_elements import plain, show_errors


def draw_sidebar() -> None:
    """Draw the active PBX, the Sync button with its progress, the last sync, and the worker's status."""
    follow_data_source(load_settings())
    found = find_site()
    if found is None:
        st.sidebar.page_link(SETTINGS_PAGE, label="Connect your FreePBX", icon=":material/cable:")
        return
    with st.sidebar:
        if found.settings.data_label:
            data_label_banner(found.settings)
        else:
            ensure_worker(found.settings)
        _sync_panel(found)


@st.fragment(run_every=2)
@show_errors
def _sync_panel(site: Site) -> None:
    if data_source_changed(site.settings):
        st.rerun()
    with reading(site.engine) as session:
        job = next((j for j in unfinished_jobs(session) if (j.kind, j.connection_id) == ("sync", site.active.id)), None)
        last = last_job(session, "sync", connection_id=site.active.id)
        watched = get_job(session, st.session_state.get("watched_sync", ""))
    if not site.settings.data_label:
        st.html(f'<span class="host">{html.escape(site.active.connection.host)}</span>')
    if st.button("Sync FreePBX", icon=":material/sync:", type="primary", width="stretch"):
        text = "A sync is already running." if job else "Sync queued. It runs in the background; you can keep working."
        job = request_job(site.engine, site.settings, "sync", requested_by="page")
        st.session_state["watched_sync"] = job.id
        st.toast(text, icon=":material/schedule:")
    if job:
        _progress(job)
    elif last:
        _last_sync(last)
    if worker_alive(site.settings):
        st.caption(":green[:material/check_circle:] Background worker running")
    elif site.settings.data_label:  # its own process starts it
        st.caption(":gray[:material/pending:] Background worker starting")
    else:
        st.caption(":orange[:material/warning:] Background worker not running")
    if watched and watched.state in ("done", "failed"):
        del st.session_state["watched_sync"]
        _show_result(watched)


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
        st.caption(f"Last sync {when}: {plain(sync_text(job.result))}")


def _show_result(job: Job) -> None:
    """Show the result as a toast, and rerun the page to show the new calls."""
    if job.state == "done":
        st.session_state["toast"] = (f"Sync done: {sync_text(job.result)}.", ":material/check_circle:")
    else:
        st.session_state["toast"] = (f"Sync failed. {job.error}", ":material/error:")
    st.rerun()
