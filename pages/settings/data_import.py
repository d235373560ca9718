"""History: what the PBX wrote down itself, read into the cache from files and from its database."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st
from pydantic import SecretStr

from pbx import ui
from pbx.errors import PbxError
from pbx.formatting import NOTHING, ago_text, count_text, date_text, duration_text, size_text
from pbx.imports.databases import source_label, source_url
from pbx.imports.preview import TablePreview, preview_history
from pbx.imports.uploads import delete_uploads, save_uploads
from pbx.live.listener import listener_alive
from pbx.store.engine import reading, writing
from pbx.store.import_cursors import known_span, list_cursors
from pbx.store.import_source import (
    Every,
    HistorySource,
    forget_history_source,
    history_source,
    save_history_source,
)
from pbx.store.job_queue import request_job
from pbx.store.job_rows import ended_jobs, get_job, unfinished_jobs
from pbx.store.listening import listening_since
from pbx.store.models import ImportCursorRow, Job

COMMANDS = """\
.venv/bin/python -m pbx import queue-log /var/log/asterisk/queue_log*
.venv/bin/python -m pbx import cdr /var/log/asterisk/cdr-csv/Master.csv"""
EXAMPLE = "mysql://user:password@pbx.example.com/asteriskcdrdb"
EVERY: dict[Every, str] = {"": "By hand only", "hour": "Every hour", "night": "Every night, at 2 o’clock of the PBX"}
KINDS = {"queue_log": "queue_log", "cdr": "CDR", "cel": "CEL"}
ASKED = {"page": "on this page", "schedule": "by itself", "command line": "on the command line"}
SOURCE_COLUMNS = (
    "Source", "Rows>", "Queue calls>", "Rings in vain>", "Agents’ changes>", "Calls>", "Legs>", "Unreadable>"
)  # fmt: skip
FAULT_COLUMNS = ("Line|", "How it begins, and what is wrong")
JOB_ROWS, MARK_ROWS = 10, 12
WATCHED = "watched_imports"


@st.fragment(run_every=10)
@ui.show_errors
def known(at: ui.Site) -> None:
    """What is in the cache, and whether it grows by itself."""
    with reading(at.engine) as session:
        since = listening_since(session, at.active.id)
        spans = {
            "Queue calls": known_span(session, at.active.id, "visits"),
            "Calls": known_span(session, at.active.id, "calls"),
        }
    listening = "Nobody listens now, so what happens is known only once it is imported"
    if listener_alive(at.settings):
        listening = f"Since {at.local(since)}, without a break" if since else "Being taken up"
    said = {name: f"{at.local(span[0])} to {at.local(span[1])}" if span else "None yet" for name, span in spans.items()}
    ui.facts(said | {"Live events": listening})


def files_form(at: ui.Site) -> None:
    st.subheader("From files", anchor=False)
    with st.form("upload", clear_on_submit=True, border=True):
        files = st.file_uploader(
            "queue_log and Master.csv, plain, rotated or gzip, several at once",
            accept_multiple_files=True,
            help="Which is which is seen by what stands in them. What was read before is recognised, and left out.",
        )
        pressed = st.form_submit_button("Import the files", type="primary", icon=":material/upload_file:")
        ui.note("On a PBX: /var/log/asterisk/queue_log and /var/log/asterisk/cdr-csv/Master.csv. Larger than 250 MB:")
        st.code(COMMANDS, language=None, wrap_lines=True)
    if pressed and not files:
        st.warning("Choose a file first.", icon=":material/upload_file:")
    elif pressed:
        paths = save_uploads(at.settings, [(file.name, file) for file in files])
        try:
            ask(at, {"files": [str(path) for path in paths]}, f"{count_text(len(paths), 'file')} queued.")
        except PbxError:
            delete_uploads(at.settings, paths)
            raise


def ask(at: ui.Site, options: dict[str, Any], said: str) -> None:
    job = request_job(at.engine, at.settings, "import", requested_by="page", options=options)
    st.session_state.setdefault(WATCHED, set()).add(job.id)
    st.toast(f"{said} The worker reads in the background; you can go on.", icon=":material/schedule:")


def database_form(at: ui.Site, source: HistorySource) -> None:
    st.subheader("From the PBX’s database", anchor=False)
    with st.form("database", border=True):
        address = SecretStr(
            st.text_input(
                "Its address",
                type="password",
                key=f"history_address_{st.session_state.get('history_saves', 0)}",  # what was typed is gone once saved
                placeholder="Saved; leave empty to keep it" if source.saved else EXAMPLE,
                autocomplete="off",
                help=f"Such as {EXAMPLE}. Special characters of the password are percent-encoded: @ is %40, / is %2F. "
                "The user needs SELECT and nothing else.",
            ).strip()
        )
        every = st.selectbox(
            "It is read", list(EVERY), index=list(EVERY).index(source.every), format_func=EVERY.__getitem__
        )
        with st.container(horizontal=True):
            save = st.form_submit_button("Save", type="primary", icon=":material/save:")
            test = st.form_submit_button("Test", icon=":material/network_check:")
        ui.note(
            "Read from it: the tables cdr, cel and queue_log or queuelog, whichever are there. Nothing is written to "
            "it, and nothing locked. The address is kept encrypted and never shown again."
        )
    try:
        if save:
            save_source(at, address, every)
        elif test:
            test_source(at, address if address.get_secret_value() else source.address)
    except PbxError as error:
        st.error(ui.plain(error.advice))


def save_source(at: ui.Site, address: SecretStr, every: Every) -> None:
    entered = address.get_secret_value()
    if entered:
        source_url(entered)
    with writing(at.engine) as session:
        save_history_source(session, at.settings, at.active.id, address=address if entered else None, every=every)
    st.session_state["history_saves"] = st.session_state.get("history_saves", 0) + 1
    st.session_state["toast"] = ("Saved.", ":material/check_circle:")
    st.rerun()


def test_source(at: ui.Site, address: SecretStr) -> None:
    if not address.get_secret_value():
        st.warning("Enter the address first.", icon=":material/database:")
        return
    with st.spinner("Asking the database"):
        looks = preview_history(at.engine, at.active, address.get_secret_value())
    rows = " and ".join(look_text(ui.plain(table), look) for table, look in looks.items())
    st.success(f"The database answers. An import would read {rows}.", icon=":material/check_circle:")


def look_text(table: str, look: TablePreview) -> str:
    """What an import would read of a table: 2 rows of cdr (newest call: 2 Mar 2026 12:00)."""
    about = "" if look.about is None else f"about {count_text(look.about, 'row')} by the database’s own estimate"
    newest = "" if look.newest is None else f"newest call: {date_text(look.newest, '%-d %b %Y %H:%M')}"
    if look.new is not None:
        return f"{count_text(look.new, 'row')} of {table}{newest and f' ({newest})'}"
    said = "; ".join(filter(None, (about or "too many rows to count here", newest)))
    return f"what is new in {table} ({said})"


def source_line(at: ui.Site, source: HistorySource) -> None:
    """Which database is in use, and what can be done with it."""
    if not source:
        return
    try:
        label = source_label(source_url(source.address.get_secret_value()))
    except PbxError as error:
        st.error(ui.plain(error.advice))
        return
    whose = "" if source.saved else ", of the environment (PBX_IMPORT_URL)"
    with st.container(horizontal=True, vertical_alignment="center", key="history_source"):
        st.markdown(ui.plain(f"In use: {label}{whose}"))
        if st.button("Import now", icon=":material/database:"):
            ask(at, {}, "The database is queued.")
        if source.saved and st.button("Forget", icon=":material/delete:", type="tertiary"):
            with writing(at.engine) as session:
                forget_history_source(session, at.active.id)
            st.session_state["toast"] = ("The database’s address is forgotten.", ":material/delete:")
            st.rerun()


@st.fragment(run_every=2)
@ui.show_errors
def imports(at: ui.Site) -> None:
    """What is under way, and what became of the last ones."""
    with reading(at.engine) as session:
        under_way = [
            job for job in unfinished_jobs(session) if (job.kind, job.connection_id) == ("import", at.active.id)
        ]
        ended = ended_jobs(session, "import", at.active.id, JOB_ROWS)
        watched = [get_job(session, job_id) for job_id in st.session_state.get(WATCHED, ())]
    st.subheader("Imports", anchor=False)
    for job in under_way:
        progress(job)
    if not ended and not under_way:
        ui.note("None yet.")
    if ended:
        rows = {job.id: job_cells(at, job) for job in ended}
        columns = ["When|", "What", "Rows>", "Queue calls>", "Calls>", "Unreadable>", "Outcome"]
        picked = ui.table("Imports", columns, rows, key="imports", pick=True, selected=st.session_state.get("import"))
        if picked:
            st.session_state["import"] = picked
            st.rerun(scope="fragment")
        chosen = next((job for job in ended if job.id == st.session_state.get("import")), None)
        if chosen is not None:
            details(chosen)
    tell_ends([job for job in watched if job is not None and job.ended_at is not None])


def progress(job: Job) -> None:
    what = ui.plain(what_of(job))
    if job.state == "queued":
        st.progress(0.0, f"Queued: {what}")
    elif not job.total:
        st.progress(0.0, f"Reading {what}")
    else:
        share = min(job.done / job.total, 1.0)
        of = f"{size_text(job.done)} of {size_text(job.total)}" if files_of(job) else f"{share:.0%}"
        st.progress(share, f"Reading {what}: {of}")


def files_of(job: Job) -> list[str]:
    return [str(path).replace("\\", "/").rpartition("/")[2] for path in job.options.get("files", [])]


def what_of(job: Job) -> str:
    names = files_of(job)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "the PBX’s database"


def job_cells(at: ui.Site, job: Job) -> list[ui.TableCell]:
    found = job.result
    took_s = (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else None
    sub = f"{ASKED.get(job.requested_by, job.requested_by)}, in {duration_text(took_s)}"
    counts: list[ui.TableCell] = [
        f"{found[name]:,}" if name in found else NOTHING for name in ("rows", "visits", "calls")
    ]
    bad: ui.TableCell = {"text": f"{found.get('bad', 0):,}", "tone": "warn"} if found.get("bad") else NOTHING
    what = what_of(job)
    return [
        {"text": at.local(job.ended_at), "sub": sub},
        what[:1].upper() + what[1:] if not files_of(job) else what,
        *counts,
        bad,
        outcome(job),
    ]


def outcome(job: Job) -> ui.TableCell:
    failures = [source["failure"] for source in job.result.get("sources", []) if source.get("failure")]
    if job.state == "failed":
        return {"text": "Failed", "tone": "bad", "sub": job.error}
    if failures:
        return {"text": "In part", "tone": "warn", "sub": " ".join(failures)}
    if not job.result.get("rows"):
        return {"text": "Nothing new", "tone": "idle"}
    return {"text": "Done", "tone": "good"}


def details(job: Job) -> None:
    """What each source of an import held, and its lines that could not be read."""
    sources: list[dict[str, Any]] = job.result.get("sources", [])
    if not sources:
        return
    rows = {str(number): source_cells(source) for number, source in enumerate(sources)}
    columns = [
        "Source",
        "Rows>",
        "Queue calls>",
        "Rings in vain>",
        "Agents’ changes>",
        "Calls>",
        "Legs>",
        "Unreadable>",
    ]
    ui.table("What was read", columns, rows, key="import_sources")
    for number, source in enumerate(sources):
        faults = source.get("faults") or []
        if source.get("bad") and faults:
            with st.expander(f"{count_text(source['bad'], 'line')} of {ui.plain(source['source'])} could not be read"):
                shown = {f"{place}": fault_cells(fault) for place, fault in enumerate(faults)}
                ui.table("Unreadable lines", FAULT_COLUMNS, shown, key=f"faults_{number}")
                first = f"The first {len(faults)} of this source. " if source["bad"] > len(faults) else ""
                ui.note(f"{first}All other lines were read.")


def source_cells(source: dict[str, Any]) -> list[ui.TableCell]:
    unknown = ", ".join(f"{name} ({count:,})" for name, count in sorted(source.get("unknown", {}).items()))
    about = source.get("failure") or (f"Events that tell nothing here: {unknown}" if unknown else "")
    kind = KINDS.get(source["kind"], "")
    named: ui.TableCell = {"text": source["source"], "sub": ". ".join(filter(None, (kind, about)))}
    names = ("rows", "visits", "rings", "changes", "calls", "legs", "bad")
    return [named, *(f"{source[name]:,}" if name in source else NOTHING for name in names)]


def fault_cells(fault: list[Any]) -> list[ui.TableCell]:
    why, _, text = str(fault[1]).partition(": ")
    return [f"{fault[0]:,}", {"text": text or why, "sub": why if text else ""}]


def tell_ends(ended: list[Job]) -> None:
    """Toast the outcome, then draw the page anew."""
    for job in ended:
        st.session_state[WATCHED].discard(job.id)
        done = f"{count_text(job.result.get('rows', 0), 'row')} read: {what_of(job)}."
        said = done if job.state == "done" else f"The import failed. {job.error}"
        icon = ":material/check_circle:" if job.state == "done" else ":material/error:"
        st.session_state["toast"] = (said, icon)
        st.session_state["import"] = job.id
    if ended:
        st.rerun()


def marks(at: ui.Site) -> None:
    with reading(at.engine) as session:
        found = list_cursors(session, at.active.id, MARK_ROWS)
    if not found:
        return
    st.subheader("Read so far", anchor=False)
    rows = {str(mark.id): mark_cells(at, mark) for mark in found}
    ui.table("Read so far", ["Source", "Rows>", "Unreadable>", "Up to|", "Last read|"], rows, key="marks")
    ui.note("The next import of a source goes on behind this, even when a file has been renamed or packed meanwhile.")


def mark_cells(at: ui.Site, mark: ImportCursorRow) -> list[ui.TableCell]:
    upto = f"byte {mark.position:,}"
    if not mark.source[:1].isdecimal():  # a database: its own clock
        upto = date_text(datetime.fromtimestamp(mark.position, UTC), "%-d %b %Y %H:%M")
    return [
        {"text": mark.label, "sub": KINDS.get(mark.kind, mark.kind)},
        f"{mark.rows:,}",
        f"{mark.bad_rows:,}" if mark.bad_rows else NOTHING,
        upto,
        ago_text(mark.read_at, datetime.now(UTC)),
    ]


ui.head("Data import", "What the PBX wrote down itself, brought into the cache")
site = ui.site()
with reading(site.engine) as opened:
    in_use = history_source(opened, site.settings, site.active.id)
known(site)
if site.settings.demo:  # what really happened is never mixed with made-up calls
    ui.note("The demo brings its own past. To import a real one, connect your FreePBX first.")
    st.stop()
left, right = st.columns(2, gap="large")
with left:
    files_form(site)
with right:
    database_form(site, in_use)
    source_line(site, in_use)
imports(site)
marks(site)
