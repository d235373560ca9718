"""Today: the phone system at a glance, what needs attention, and links to each page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from pbx import ui
from pbx.alerts.delivery import alert_title
from pbx.alerts.rules import DOWN_STATES, STALE_INTERVALS
from pbx.charts import TimeFrame, line_alt, line_chart
from pbx.formatting import ago_text, count_text, date_text, duration_text, start_of_day, sync_text
from pbx.model.snapshot import QueueMember, Snapshot, Trunk
from pbx.store.alerts import current_alerts
from pbx.store.calls import CallFilter, count_calls, find_calls
from pbx.store.engine import reading
from pbx.store.job_rows import last_job
from pbx.store.snapshots import latest_snapshot, queue_history, snapshot_gaps
from pbx.ui.links import CALL_PAGE as INTERACTIONS
from pbx.ui.links import go_to_page

QUEUES = "pages/live/queues.py"
TRUNKS = "pages/live/trunks.py"
ALERTS = "pages/settings/alerts.py"
ALERT_PAGES = {  # by kind of alert: the page that shows more, its label, and its URL parameter for the subject
    "longest_wait": (QUEUES, "Queues", "queue"),
    "service_level": (QUEUES, "Queues", "queue"),
    "no_agent": (QUEUES, "Queues", "queue"),
    "trunk_down": (TRUNKS, "Trunks", "trunk"),
    "sync_failing": (ui.SETTINGS_PAGE, "FreePBX integration", ""),
}
SHOWN_ALERTS = 4
CHART_QUEUES = 6  # the busiest; one per colour
LATEST = 5


def sync_tile(site: ui.Site) -> None:
    now = datetime.now(UTC)
    with reading(site.engine) as session:
        last = last_job(session, "sync", "done", connection_id=site.active.id)
        latest = last_job(session, "sync", connection_id=site.active.id)
    about, tone = (sync_text(last.result) if last else "Click Sync FreePBX in the sidebar"), "off"
    if latest and latest.state == "failed":
        about, tone = f"Failed {ago_text(latest.ended_at, now)}", "bad"
    value = ago_text(last.ended_at, now) if last else "Never"
    ui.tile("Last sync", value, about, page=INTERACTIONS, link="Interactions", tone=tone)


def calls_tile(site: ui.Site) -> None:
    now = datetime.now(UTC)
    with reading(site.engine) as session:
        new = count_calls(session, CallFilter(connection_id=site.active.id, since=start_of_day(now, site.zone)))
        week = count_calls(session, CallFilter(connection_id=site.active.id, since=start_of_day(now, site.zone, 6)))
    about = f"{week:,} in the last 7 days"
    ui.tile("Calls today", f"{new:,}", about, page=INTERACTIONS, link="Interactions")


def wait_tile(found: Snapshot | None) -> None:
    queues = found.queues if found else ()
    worst = max(queues, key=lambda queue: queue.longest_wait_s, default=None)
    waiting = sum(queue.calls for queue in queues)
    if worst is None:
        value, about, tone = "–", "No queue data yet", "off"
    elif not waiting:
        value, about, tone = "–", f"No callers waiting in {count_text(len(queues), 'queue')}", "good"
    else:
        value, tone = duration_text(worst.longest_wait_s), "warn"
        about = f"In {worst.name}; {count_text(waiting, 'caller')} waiting in total"
    ui.tile("Longest wait now", value, about, page=QUEUES, link="Queues", tone=tone)


def agents_tile(found: Snapshot | None) -> None:
    members: dict[str, list[QueueMember]] = {}
    for member in (member for queue in (found.queues if found else ()) for member in queue.members):
        members.setdefault(member.interface, []).append(member)
    free = sum(any(one.available for one in of_agent) for of_agent in members.values())
    paused = sum(all(one.paused for one in of_agent) for of_agent in members.values())
    value = f"{free} of {len(members)}" if members else "–"
    busy = len(members) - free - paused
    about = f"{paused} paused, {busy} busy or away" if members else "No agent data yet"
    tone = "bad" if members and not free else "off"
    ui.tile("Agents free", value, about, page=QUEUES, link="Queues", tone=tone)


def trunks_tile(found: Snapshot | None) -> None:
    trunks = found.trunks if found else ()
    down = down_trunks(found)
    value = f"{len(down)} of {len(trunks)}" if trunks else "–"
    names = ", ".join(trunk.name for trunk in down[:3]) + (f" and {len(down) - 3} more" if len(down) > 3 else "")
    about = names or ("All trunks are up" if trunks else "No trunk data yet")
    tone = "bad" if down else "good" if trunks else "off"
    ui.tile("Trunks down", value, about, page=TRUNKS, link="Trunks", tone=tone)


def down_trunks(found: Snapshot | None) -> list[Trunk]:
    return [trunk for trunk in (found.trunks if found else ()) if trunk.state in DOWN_STATES]


def attention(site: ui.Site, found: Snapshot | None) -> dict[str, list[ui.TableCell]]:
    """Rows of what needs attention: the area, then the problem and its reason."""
    rows: list[tuple[str, str, str, str]] = []
    now = datetime.now(UTC)
    if found is None:
        reason = "No AMI user is set" if not site.active.connection.ami_username else "Waiting for the first snapshot"
        rows.append(("warn", "Live status", reason, "The status of queues and trunks comes through AMI"))
    elif (now - found.taken_at).total_seconds() > STALE_INTERVALS * site.interval_s:
        rows.append(("bad", "Live status", "No data from the PBX", f"Last update {ago_text(found.taken_at, now)}"))
    for trunk in down_trunks(found):
        rows.append(("bad", "Trunk", f"{trunk.name} is {trunk.state}", trunk.server))
    for queue in found.queues if found else ():
        if queue.calls and not queue.agents_available:
            waiting = count_text(queue.calls, "caller")
            rows.append(
                ("bad", "Queue", f"{queue.name}: {waiting} waiting, no agent free", duration_text(queue.longest_wait_s))
            )
    for name, part in (found.parts if found else {}).items():
        if part.state != "ok":
            rows.append(("warn", "Status", f"{name.replace('_', ' ').capitalize()} not available", part.reason))
    with reading(site.engine) as session:
        for kind, label in (("sync", "Sync"), ("collect", "Live status")):
            last = last_job(session, kind, connection_id=site.active.id)  # type: ignore[arg-type]
            if last and last.state == "failed":
                rows.append(("bad", label, f"Failed {ago_text(last.ended_at, now)}", last.error))
    return {
        str(i): [{"text": kind, "tone": tone}, {"text": what, "sub": why}]
        for i, (tone, kind, what, why) in enumerate(rows)
    }


def show_attention(rows: dict[str, list[ui.TableCell]]) -> None:
    st.subheader("Needs attention", anchor=False)
    if rows:
        ui.table("Needs attention", ["Area|", "Problem"], rows, key="attention")
    else:
        with st.container(border=True):
            st.markdown(
                ":green[:material/check_circle:] All clear. Trunks are up and no caller is waiting without an agent."
            )


def show_waiting(site: ui.Site, found: Snapshot | None) -> None:
    st.subheader("Callers waiting, last 24 hours", anchor=False)
    until = datetime.now(UTC)
    since = until - timedelta(hours=24)
    queues = sorted(found.queues if found else (), key=lambda queue: -(queue.completed + queue.abandoned + queue.calls))
    with reading(site.engine) as session:
        series = {
            name: [(p.taken_at, float(p.calls)) for p in queue_history(session, site.active.id, name, since, until)]
            for name in sorted(queue.name for queue in queues[:CHART_QUEUES])
        }
        gaps = snapshot_gaps(session, site.active.id, since, until, site.interval_s)
    if not any(series.values()):
        ui.note("No data yet. While the worker runs, it stores a snapshot every few minutes.")
        return
    began = min(points[0][0] for points in series.values() if points)
    since = max(since, min(began, until - timedelta(minutes=15)))  # a chart of new data fills its width
    frame = TimeFrame((since, until), gaps, site.zone, ui.palette(), until)
    figure = line_chart(series, frame, title="", unit="Callers")
    ui.chart(
        figure,
        alt=line_alt("Callers waiting", series, gaps),
        key="callers_waiting",
        picture=ui.picture_name("callers waiting", since, until, site.zone),
    )


def show_latest(site: ui.Site) -> None:
    st.subheader("Latest calls", anchor=False)
    with reading(site.engine) as session:
        calls = find_calls(session, CallFilter(connection_id=site.active.id), offset=0, limit=LATEST)
    if not calls:
        ui.note("No calls yet. Click Sync FreePBX in the sidebar to download the PBX’s recordings.")
        return
    rows = {str(call.id): ui.call_cells(site, call) for call in calls}
    picked = ui.table("Latest calls", ui.CALL_COLUMNS, rows, key="latest", pick=True)
    if picked:
        go_to_page(INTERACTIONS, {"call": picked})


@st.fragment(run_every=ui.live_interval_s())
@ui.show_errors
def alerts(site: ui.Site) -> None:
    """The alerts that are active now; nothing if there are none."""
    with reading(site.engine) as session:
        found = current_alerts(session, site.active.id)
    if not found:
        return
    now = datetime.now(UTC)
    with st.container(border=True, key="alerts"):
        for alert, rule in found[:SHOWN_ALERTS]:
            duration = duration_text((now - alert.started_at).total_seconds())
            title, since = alert_title(rule.kind, alert.subject), f"since {site.local(alert.started_at)} ({duration})"
            page, label, name = ALERT_PAGES.get(rule.kind, (ALERTS, "Alerts", ""))
            params = {name: alert.subject} if name and alert.subject else None
            with st.container(horizontal=True, vertical_alignment="center"):
                with st.container():  # this one shrinks, so that the link stays beside it
                    headline = f"**{ui.plain(title)}** :gray[{ui.plain(since)}]"
                    details = f":small[At the start: {ui.plain(alert.description)}]"
                    st.markdown(f":red[:material/notifications_active:] {headline}  \n{details}")
                arrow: dict[str, Any] = {"icon": ":material/arrow_forward:", "icon_position": "right"}
                st.page_link(page, label=label, query_params=params, **arrow)
        if len(found) > SHOWN_ALERTS:
            st.page_link(ALERTS, label=f"and {len(found) - SHOWN_ALERTS:,} more")


@st.fragment(run_every=ui.LIVE_INTERVAL_S)
@ui.show_errors
def tiles(site: ui.Site) -> None:
    ui.request_fresh_snapshot(site)
    with reading(site.engine) as session:
        found = latest_snapshot(session, site.active.id)
    with st.container(horizontal=True, key="tiles"):
        sync_tile(site)
        calls_tile(site)
        wait_tile(found)
        agents_tile(found)
        trunks_tile(found)


@st.fragment(run_every=30)
@ui.show_errors
def below(site: ui.Site) -> None:
    with reading(site.engine) as session:
        found = latest_snapshot(session, site.active.id)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        show_waiting(site, found)
    with right:
        show_attention(attention(site, found))
    show_latest(site)


now_at = datetime.now(UTC)
site = ui.find_site()
about = (
    f"{date_text(now_at.astimezone(site.zone), '%A, %-d %B %Y')}, times in {site.zone_name}"
    if site
    else "Your phone system at a glance"
)
ui.head("Today", about)
site = ui.site()
ui.tour(site.settings, site.engine)
alerts(site)
tiles(site)
below(site)
