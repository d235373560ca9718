"""Data import: imports the PBX's own records (queue_log, CDR, CEL) from files and from its database."""

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
from pbx.store.import_cursors import list_cursors, stored_span
from pbx.store.import_source import (
    HistorySource,
    ImportSchedule,
    forget_history_source,
    history_source,
    save_history_source,
)
from pbx.store.job_queue import request_job
from pbx.store.job_rows import ended_jobs, get_job, unfinished_jobs
from pbx.store.listening_spans import listening_since
from pbx.store.models import ImportCursorRow, Job

COMMANDS = """\
.venv/bin/python -m pbx import queue-log /var/log/asterisk/queue_log*
.venv/bin/python -m pbx import cdr /var/log/asterisk/cdr-csv/Master.csv"""
EXAMPLE = "mysql://user:password@pbx.example.com/asteriskcdrdb"
EVERY: dict[ImportSchedule, str] = {"": "Manually", "hour": "Every hour", "night": "Every night at 02:00 (PBX time)"}
KINDS = {"queue_log": "queue_log", "cdr": "CDR", "cel": "CEL"}
REQUESTED_BY = {"page": "from this page", "schedule": "automatically", "command line": "from the command line"}
SOURCE_COLUMNS = "Source", "Rows>", "Queue calls>", "Missed rings>", "Agent events>", "Calls>", "Legs>", "Unreadable>"
ERROR_COLUMNS = ("Line|", "Beginning of the line, and the error")
JOB_ROWS, CURSOR_ROWS = 10, 12
WATCHED = "watched_imports"


@st.fragment(run_every=10)
@ui.show_errors
def cache_contents(site: ui.Site) -> None:
    """The time range in the cache, and whether live events add to it."""
    with reading(site.engine) as session:
        since = listening_since(session, site.active.id)
        spans = {
            "Stored queue calls": stored_span(session, site.active.id, "visits"),
            "Stored calls": stored_span(session, site.active.id, "calls"),
        }
    listening = "Not received now, so new calls appear only after an import"
    if listener_alive(site.settings):
        listening = f"Received without interruption since {site.local(since)}" if since else "Connecting"
    ranges = {
        name: f"Since {site.local(span[0])}, latest {ago_text(span[1], datetime.now(UTC))}" if span else "None yet"
        for name, span in spans.items()
    }
    ui.facts(ranges | {"Live events": listening})


def files_form(site: ui.Site) -> None:
    """The form to upload and import files."""
    st.subheader("From files", anchor=False)
    with st.form("upload", clear_on_submit=True, border=True):
        files = st.file_uploader(
            "queue_log and Master.csv files, plain, rotated or gzip",
            accept_multiple_files=True,
            help="File types are detected automatically; data already imported is skipped.",
        )
        submitted = st.form_submit_button("Import files", type="primary", icon=":material/upload_file:")
        ui.note(
            "On the PBX: /var/log/asterisk/queue_log and /var/log/asterisk/cdr-csv/Master.csv. For larger files, run:"
        )
        st.code(COMMANDS, language=None, wrap_lines=True)
    if submitted and not files:
        st.warning("Choose at least one file.", icon=":material/upload_file:")
    elif submitted:
        paths = save_uploads(site.settings, [(file.name, file) for file in files])
        try:
            queue_import(site, {"files": [str(path) for path in paths]}, f"{count_text(len(paths), 'file')} queued.")
        except PbxError:
            delete_uploads(site.settings, paths)
            raise


def queue_import(site: ui.Site, options: dict[str, Any], text: str) -> None:
    """Queue an import, and show a toast that begins with `text`."""
    job = request_job(site.engine, site.settings, "import", requested_by="page", options=options)
    st.session_state.setdefault(WATCHED, set()).add(job.id)
    st.toast(f"{text} The import runs in the background; you can continue working.", icon=":material/schedule:")


def database_form(site: ui.Site, source: HistorySource) -> None:
    """The form for the address of the PBX’s database and its schedule."""
    st.subheader("From the PBX’s database", anchor=False)
    with st.form("database", border=True):
        address = SecretStr(
            st.text_input(
                "Database address",
                type="password",
                key=f"history_address_{st.session_state.get('history_saves', 0)}",  # a new, empty field after each save
                placeholder="Saved; leave empty to keep it" if source.saved else EXAMPLE,
                autocomplete="off",
                help=f"Such as {EXAMPLE}. Percent-encode special characters in the password: @ as %40, / as %2F. "
                "The user only needs the SELECT privilege.",
            ).strip()
        )
        every = st.selectbox(
            "Schedule", list(EVERY), index=list(EVERY).index(source.every), format_func=EVERY.__getitem__
        )
        with st.container(horizontal=True):
            save = st.form_submit_button("Save", type="primary", icon=":material/save:")
            test = st.form_submit_button("Test", icon=":material/network_check:")
        ui.note(
            "Imports the tables cdr, cel and queue_log (or queuelog), if they exist, without writing or locking. The "
            "address is stored encrypted and never shown again."
        )
    try:
        if save:
            save_source(site, address, every)
        elif test:
            test_source(site, address if address.get_secret_value() else source.address)
    except PbxError as error:
        st.error(ui.plain(error.advice))


def save_source(site: ui.Site, address: SecretStr, every: ImportSchedule) -> None:
    """Save the database and its schedule; an empty address keeps the saved one. Raises SettingsError."""
    entered = address.get_secret_value()
    if entered:
        source_url(entered)
    with writing(site.engine) as session:
        save_history_source(session, site.settings, site.active.id, address=address if entered else None, every=every)
    st.session_state["history_saves"] = st.session_state.get("history_saves", 0) + 1
    st.session_state["toast"] = ("Saved.", ":material/check_circle:")
    st.rerun()


def test_source(site: ui.Site, address: SecretStr) -> None:
    """Connect to the database, and show what an import would read."""
    if not address.get_secret_value():
        st.warning("Enter a database address.", icon=":material/database:")
        return
    with st.spinner("Connecting to the database"):
        looks = preview_history(site.engine, site.active, address.get_secret_value())
    rows = " and ".join(look_text(ui.plain(table), look) for table, look in looks.items())
    st.success(f"Connected. An import would read {rows}.", icon=":material/check_circle:")


def look_text(table: str, look: TablePreview) -> str:
    """What an import would read from a table: 2 rows of cdr (newest call: 2 Mar 2026 12:00)."""
    about = "" if look.about is None else f"about {count_text(look.about, 'row')}, estimated by the database"
    newest = "" if look.newest is None else f"newest call: {date_text(look.newest, '%-d %b %Y %H:%M')}"
    if look.new is not None:
        return f"{count_text(look.new, 'row')} of {table}{newest and f' ({newest})'}"
    details = "; ".join(filter(None, (about or "too many rows to count", newest)))
    return f"the new rows of {table} ({details})"


def source_line(site: ui.Site, source: HistorySource) -> None:
    """The database in use, with the buttons to import from it and to delete its address."""
    if not source:
        return
    try:
        label = source_label(source_url(source.address.get_secret_value()))
    except PbxError as error:
        st.error(ui.plain(error.advice))
        return
    whose = "" if source.saved else " (set in the environment, PBX_IMPORT_URL)"
    with st.container(horizontal=True, vertical_alignment="center", key="history_source"):
        st.markdown(ui.plain(f"In use: {label}{whose}"))
        if st.button("Import now", icon=":material/database:"):
            queue_import(site, {}, "Import from the database queued.")
        if source.saved and st.button("Delete address", icon=":material/delete:", type="tertiary"):
            with writing(site.engine) as session:
                forget_history_source(session, site.active.id)
            st.session_state["toast"] = ("Database address deleted.", ":material/delete:")
            st.rerun()


@st.fragment(run_every=2)
@ui.show_errors
def imports(site: ui.Site) -> None:
    """Running and past imports, with the details of the selected one."""
    with reading(site.engine) as session:
        under_way = [
            job for job in unfinished_jobs(session) if (job.kind, job.connection_id) == ("import", site.active.id)
        ]
        ended = ended_jobs(session, "import", site.active.id, JOB_ROWS)
        watched = [get_job(session, job_id) for job_id in st.session_state.get(WATCHED, ())]
    st.subheader("Imports", anchor=False)
    for job in under_way:
        progress(job)
    if not ended and not under_way:
        ui.note("No imports yet.")
    if ended:
        rows = {job.id: job_cells(site, job) for job in ended}
        columns = ["Ended|", "Source", "Rows>", "Queue calls>", "Calls>", "Unreadable>", "Outcome"]
        picked = ui.table("Imports", columns, rows, key="imports", pick=True, selected=st.session_state.get("import"))
        if picked:
            st.session_state["import"] = picked
            st.rerun(scope="fragment")
        chosen = next((job for job in ended if job.id == st.session_state.get("import")), None)
        if chosen is not None:
            details(chosen)
    report_ended([job for job in watched if job is not None and job.ended_at is not None])


def progress(job: Job) -> None:
    """The progress of a queued or running import."""
    what = ui.plain(sources_text(job))
    if job.state == "queued":
        st.progress(0.0, f"Queued: {what}")
    elif not job.total:
        st.progress(0.0, f"Importing {what}")
    else:
        share = min(job.done / job.total, 1.0)
        of = f"{size_text(job.done)} of {size_text(job.total)}" if files_of(job) else f"{share:.0%}"
        st.progress(share, f"Importing {what}: {of}")


def files_of(job: Job) -> list[str]:
    """The names of the files that an import reads."""
    return [str(path).replace("\\", "/").rpartition("/")[2] for path in job.options.get("files", [])]


def sources_text(job: Job) -> str:
    """What an import reads: the names of its files, or the database."""
    names = files_of(job)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "the PBX’s database"


def job_cells(site: ui.Site, job: Job) -> list[ui.TableCell]:
    """A row of the table of imports."""
    result = job.result
    took_s = (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else None
    sub = f"{REQUESTED_BY.get(job.requested_by, job.requested_by)}, in {duration_text(took_s)}"
    counts: list[ui.TableCell] = [
        f"{result[name]:,}" if name in result else NOTHING for name in ("rows", "visits", "calls")
    ]
    count = result.get("unreadable", 0)
    unreadable: ui.TableCell = {"text": f"{count:,}", "tone": "warn"} if count else NOTHING
    what = sources_text(job)
    return [
        {"text": site.local(job.ended_at), "sub": sub},
        what[:1].upper() + what[1:] if not files_of(job) else what,
        *counts,
        unreadable,
        outcome(job),
    ]


def outcome(job: Job) -> ui.TableCell:
    """How an import ended."""
    failures = [source["failure"] for source in job.result.get("sources", []) if source.get("failure")]
    if job.state == "failed":
        return {"text": "Failed", "tone": "bad", "sub": job.error}
    if failures:
        return {"text": "Partly imported", "tone": "warn", "sub": " ".join(failures)}
    if not job.result.get("rows"):
        return {"text": "Nothing new", "tone": "idle"}
    return {"text": "Done", "tone": "good"}


def details(job: Job) -> None:
    """What an import read from each source, and the lines that could not be read."""
    sources: list[dict[str, Any]] = job.result.get("sources", [])
    if not sources:
        return
    rows = {str(number): source_cells(source) for number, source in enumerate(sources)}
    ui.table("Sources", SOURCE_COLUMNS, rows, key="import_sources")
    for number, source in enumerate(sources):
        count, errors = source.get("unreadable", 0), source.get("errors", [])
        if count and errors:
            with st.expander(f"{count_text(count, 'line')} of {ui.plain(source['source'])} could not be read"):
                error_rows = {str(row): error_cells(error) for row, error in enumerate(errors)}
                ui.table("Unreadable lines", ERROR_COLUMNS, error_rows, key=f"errors_{number}")
                first = f"These are the first {len(errors)} of this source. " if count > len(errors) else ""
                ui.note(f"{first}All other lines were imported.")


def source_cells(source: dict[str, Any]) -> list[ui.TableCell]:
    """A row of the table of sources."""
    unknown = ", ".join(f"{name} ({count:,})" for name, count in sorted(source.get("unknown", {}).items()))
    about = source.get("failure") or (f"Skipped events of unknown types: {unknown}" if unknown else "")
    kind = KINDS.get(source["kind"], "")
    named: ui.TableCell = {"text": source["source"], "sub": ". ".join(filter(None, (kind, about)))}
    names = ("rows", "visits", "rings", "agent_events", "calls", "legs", "unreadable")
    return [named, *(f"{source[name]:,}" if name in source else NOTHING for name in names)]


def error_cells(error: list[Any]) -> list[ui.TableCell]:
    """A row of the table of unreadable lines."""
    why, _, text = str(error[1]).partition(": ")
    return [f"{error[0]:,}", {"text": text or why, "sub": why if text else ""}]


def report_ended(ended: list[Job]) -> None:
    """Show the outcome of imports that ended since the last run, and redraw the page."""
    for job in ended:
        st.session_state[WATCHED].discard(job.id)
        done = f"Imported {count_text(job.result.get('rows', 0), 'row')} from {sources_text(job)}."
        text = done if job.state == "done" else f"The import failed. {job.error}"
        icon = ":material/check_circle:" if job.state == "done" else ":material/error:"
        st.session_state["toast"] = (text, icon)
        st.session_state["import"] = job.id
    if ended:
        st.rerun()


def show_cursors(site: ui.Site) -> None:
    """How far each source has been imported."""
    with reading(site.engine) as session:
        cursors = list_cursors(session, site.active.id, CURSOR_ROWS)
    if not cursors:
        return
    st.subheader("Import progress", anchor=False)
    rows = {str(cursor.id): cursor_cells(site, cursor) for cursor in cursors}
    ui.table(
        "Import progress",
        ["Source", "Rows>", "Unreadable>", "Imported up to|", "Last import|"],
        rows,
        key="import_progress",
    )
    ui.note("The next import of a source continues from here, even if a file has been renamed or compressed since.")


def cursor_cells(site: ui.Site, cursor: ImportCursorRow) -> list[ui.TableCell]:
    """A row of the table of import progress."""
    position = f"byte {cursor.position:,}"
    if not cursor.source[:1].isdecimal():  # a database, by its own clock
        position = date_text(datetime.fromtimestamp(cursor.position, UTC), "%-d %b %Y %H:%M")
    return [
        {"text": cursor.label, "sub": KINDS.get(cursor.kind, cursor.kind)},
        f"{cursor.rows:,}",
        f"{cursor.unreadable:,}" if cursor.unreadable else NOTHING,
        position,
        ago_text(cursor.read_at, datetime.now(UTC)),
    ]


ui.head("Data import", "Import past calls and queue events from the PBX’s own records")
site = ui.site()
with reading(site.engine) as opened:
    in_use = history_source(opened, site.settings, site.active.id)
cache_contents(site)
if site.settings.data_label:  # real calls are never mixed with others
    ui.no_import_note()
    st.stop()
left, right = st.columns(2, gap="large")
with left:
    files_form(site)
with right:
    database_form(site, in_use)
    source_line(site, in_use)
imports(site)
show_cursors(site)
