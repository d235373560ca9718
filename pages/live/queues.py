"""Queues: waiting callers and free agents now; below, reports of a period with charts and lists of calls."""

from dataclasses import replace
from datetime import UTC, datetime

import streamlit as st

from pbx import ui
from pbx.analytics.coverage import queue_coverage
from pbx.charts import line_alt, line_chart
from pbx.formatting import MEMBER_STATUS, ago_text, count_text, duration_text, service_level_text
from pbx.model.snapshot import IDLE, Queue, QueueMember
from pbx.store.counter_resets import resets_of
from pbx.store.engine import reading, shared_reading
from pbx.store.snapshots import latest_snapshot, queue_history, snapshot_gaps
from pbx.ui.drilldown import URL_PARAM, drilldown_chart
from pbx.ui.period_bar import Period, period_bar
from pbx.ui.queue_figures import show_figures
from pbx.ui.queue_lists import show_lists

TONES = {1: "good", 2: "busy", 3: "busy", 6: "warn", 7: "warn", 8: "busy"}
MEASURES = {
    "Callers waiting": ("calls", "Callers"),
    "Longest wait": ("longest_wait_s", "Wait"),
    "Agents free": ("agents_available", "Agents"),
}
COUNTERS = (
    "Completed, abandoned and service level are Asterisk’s own counters since its last restart or reset; its abandoned "
    "calls include timeouts. The reports below cover the selected period."
)


def chosen(queues: tuple[Queue, ...]) -> Queue:
    """The queue in the URL, selected in the table or in the period bar; otherwise the busiest."""
    selected = st.query_params.get("show") or st.query_params.get("queue")
    named = next((queue for queue in queues if queue.name == selected), None)
    return named or max(queues, key=lambda queue: (queue.calls, len(queue.members)))


def member_cell(member: QueueMember) -> ui.TableCell:
    if member.paused:
        return {"text": "Paused", "tone": "warn", "sub": member.pause_reason}
    if member.wrapping_up and member.status in IDLE:
        return {"text": "In wrap-up", "tone": "busy"}
    text = MEMBER_STATUS.get(member.status, "Unknown")
    if member.available and member.status == 0:
        return {"text": text, "tone": "good", "sub": "No device state; counted as free"}
    return {"text": text, "tone": TONES.get(member.status, "idle")}


def show_all(queues: tuple[Queue, ...], selected: str) -> None:
    rows: dict[str, list[ui.TableCell]] = {
        queue.name: [
            queue.name,
            {"text": f"{queue.calls:,}", "tone": "warn"} if queue.calls else "0",
            duration_text(queue.longest_wait_s) if queue.calls else "–",
            f"{queue.agents_available} of {len(queue.members)}",
            f"{sum(member.paused for member in queue.members)}",
            f"{queue.completed:,}",
            f"{queue.abandoned:,}",
            service_level_text(queue.service_level_perf, queue.service_level_s, queue.completed),
        ]
        for queue in queues
    }
    columns = ["Queue", "Waiting>", "Longest wait>", "Agents free>", "Paused>", "Completed>", "Abandoned>"]
    picked = ui.table("Queues", [*columns, "Service level>"], rows, key="queues", selected=selected, pick=True)
    ui.note(COUNTERS)
    if picked and picked != selected:
        st.query_params["show"] = picked
        st.rerun()


def show_members(site: ui.Site, queue: Queue) -> None:
    st.subheader(f"Agents in queue {ui.plain(queue.name)}", anchor=False)
    if not queue.members:
        ui.note("No agent is logged in to this queue.")
        return
    now = datetime.now(UTC)
    rows: dict[str, list[ui.TableCell]] = {
        member.interface: [
            {"text": member.name or member.interface, "sub": member.interface if member.name else ""},
            member_cell(member),
            f"{member.calls_taken:,}",
            ago_text(member.last_call_at, now),
        ]
        for member in queue.members
    }
    ui.table("Members", ["Agent", "Status|", "Calls taken>", "Last call>"], rows, key="members")


def show_callers(queue: Queue) -> None:
    st.subheader("Callers waiting", anchor=False)
    if not queue.callers:
        ui.note("No callers are waiting.")
        return
    rows: dict[str, list[ui.TableCell]] = {
        caller.uniqueid or str(caller.position): [
            str(caller.position),
            {"text": caller.caller_name or caller.caller_id or "Unknown", "sub": caller.caller_id},
            duration_text(caller.wait_s),
        ]
        for caller in queue.callers
    }
    ui.table("Callers waiting", ["#>", "Caller", "Waiting>"], rows, key="callers")


@st.fragment(run_every=ui.live_interval_s())
@ui.show_errors
def live(site: ui.Site) -> None:
    found = ui.live_snapshot(site, "queues")
    if not found.queues:
        ui.empty(
            "This PBX has no queues",
            "Queues that you add in FreePBX under Applications appear here automatically.",
            icon="groups",
        )
        return
    queue = chosen(found.queues)
    show_all(found.queues, queue.name)
    left, right = st.columns(2, gap="medium")
    with left:
        show_members(site, queue)
    with right:
        show_callers(queue)


@st.fragment(run_every=30)
@ui.show_errors
def history(site: ui.Site, period: Period, listed: str | None) -> None:
    """Charts of a queue's snapshots in the period. `listed`: the selection that the list of calls above shows."""
    if listed != st.query_params.get(URL_PARAM):
        st.rerun()  # a click on one of these charts has just selected other calls
    found = ui.snapshot(site)
    if not found.queues:
        return
    queue = chosen(found.queues).name
    since, until = period.since, max(period.renewed().seen_until, period.since)
    st.subheader(f"Queue {ui.plain(queue)} over time: callers and agents", anchor=False)
    with reading(site.engine) as session:
        points = queue_history(session, site.active.id, queue, since, until)
        gaps = snapshot_gaps(session, site.active.id, since, until, site.interval_s)
        resets = [(reset.at, reset.description) for reset in resets_of(session, site.active.id, since, until, queue)]
    if not points:
        ui.note("No data for this period. While the worker runs, it stores a snapshot every few minutes.")
        return
    frame = replace(period.time_frame(gaps), span=(since, until))
    for name, (field, unit) in MEASURES.items():
        series = {name: [(point.taken_at, getattr(point, field)) for point in points]}
        timed = field.endswith("_s")
        drilldown_chart(
            line_chart(series, frame, title=name, unit=unit, durations=timed, resets=resets, clickable=True),
            alt=line_alt(f"Queue {queue}", series, gaps, durations=timed),
            key=f"queue_{field}",
            picture=ui.picture_name(f"{name} in queue {queue}", since, until, site.zone),
            also={"queue": queue, "present": ""},
        )
    missing = f" {count_text(len(gaps), 'gap')} in the data." if gaps else ""
    ui.note(f"Click a point to list the calls that were waiting or in progress then.{missing}")


ui.head("Queues", "Callers waiting and agents free now, and reports of any period")
site = ui.site()
with reading(site.engine) as reader:
    has_snapshot = latest_snapshot(reader, site.active.id) is not None
    has_history = queue_coverage(reader, site.active.id, datetime.now(UTC), datetime.now(UTC)).begins_at is not None
if has_snapshot or not has_history:
    st.page_link(
        "pages/live/wallboard.py",
        label="Wallboard",
        icon=":material/tv:",
        help="The queues in large type, for a screen on the wall.",
    )
    live(site)
else:
    ui.request_fresh_snapshot(site)
    ui.note("No live status yet. The reports below show the imported data.")
st.subheader("Reports", anchor=False)
with shared_reading(site.engine):
    chosen_period = period_bar(site)
    if show_figures(site, chosen_period):
        show_lists(site, chosen_period)
    if has_snapshot:
        history(site, chosen_period, st.query_params.get(URL_PARAM))
