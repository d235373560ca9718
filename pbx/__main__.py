"""The command line: `python -m pbx check|collect|sync|import|transcribe|query|watch|worker|status|demo`.

Standard output contains only the result; progress, logs and errors go to standard error.
Exit status: 0 success, 1 something failed, 2 wrong usage or settings, 130 stopped by Ctrl-C.
Each command imports what it needs when it runs, so that `--help` is fast.
"""

import io
import logging
import os
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from pbx.cli.demo import STATUS_TEXT as DEMO_STATUS_TEXT
from pbx.cli.demo import demo
from pbx.cli.imports import import_app
from pbx.cli.query import answer_query, query
from pbx.cli.terminal import (
    Json,
    WithParent,
    console,
    open_cache,
    parse_time,
    print_json,
    print_line,
    report_errors,
    stop_at_signals,
)
from pbx.operating_system import end_with_parent

if TYPE_CHECKING:
    from pbx.asterisk.doctor import CheckStep
    from pbx.store.models import Job, JobKind

app = typer.Typer(
    help="PBX Notebook: call recordings, live status and history of your FreePBX.\n\n"
    "Exit status: 0 success, 1 something failed, 2 wrong usage or settings, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, including passwords
)
app.add_typer(import_app)
app.command()(demo)
app.command()(query)
app.command("query-process", hidden=True)(answer_query)
STATE_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", "dim")}


@app.command()
def check(as_json: Json = False) -> None:
    """Check the connection to the PBX step by step, and show how to fix what fails."""
    from pbx.asterisk.doctor import check_connection

    with report_errors(as_json):
        with open_cache() as (engine, settings):
            from pbx.store.job_queue import required_connection

            connection = required_connection(engine, settings).connection
        steps = []
        for step in check_connection(connection):
            steps.append(step)
            if not as_json:
                _print_step(step)
    failed = sum(step.state == "failed" for step in steps)
    if as_json:
        print_json({"ok": not failed, "host": connection.host, "steps": [step.model_dump() for step in steps]})
    else:
        print_line(
            Text(f"{failed} of {len(steps)} steps failed." if failed else f"The connection to {connection.host} works.")
        )
    raise typer.Exit(1 if failed else 0)


OUTPUT_HELP = (
    "Write the snapshot to this file (default: freepbx.json in the data directory). A file outside the data directory "
    "is readable by all users."
)


@app.command()
def collect(
    output: Annotated[Path | None, typer.Option(help=OUTPUT_HELP)] = None,
    as_json: Json = False,
) -> None:
    """Take a snapshot of extensions, trunks, queues and calls: store it in the database and write it to a JSON file.

    Suitable for cron.
    """
    result = _run_job("collect", {"output": str(output)} if output else {}, as_json)
    for name, part in result["incomplete_parts"].items():
        print_line(Text(f"{name}: {part['state']}. {part['reason']}", "yellow"), to_stderr=True)
    if as_json:
        print_json(result)
    else:
        counts = ", ".join(f"{result[name]} {name.replace('_', ' ')}" for name in SNAPSHOT_COUNTS)
        print_line(Text(f"{counts} → {result['output']}"))
    failed = any(part["state"] in ("denied", "failed") for part in result["incomplete_parts"].values())
    raise typer.Exit(1 if failed else 0)


SNAPSHOT_COUNTS = ("extensions", "trunks", "queues", "active_calls")
SINCE_HELP = "Download only recordings from this time on: 2026-01-31, or 2026-01-31T08:00 (in the PBX's time zone)."


@app.command()
def sync(
    since: Annotated[str, typer.Option(help=SINCE_HELP, metavar="TIME")] = "",
    until: Annotated[
        str, typer.Option(help="Download only recordings up to this time, or to the end of this day.", metavar="TIME")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Download at most this many recordings.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be downloaded, without downloading.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Number of parallel downloads.")] = 4,
    as_json: Json = False,
) -> None:
    """Download new recordings from the PBX."""
    with report_errors(as_json):
        options: dict[str, Any] = {
            "since": parse_time(since, "--since"),
            "until": parse_time(until, "--until", end_of_day=True),
            "limit": limit,
            "dry_run": dry_run,
            "parallel": parallel,
        }
    result = _run_job("sync", options, as_json)
    if as_json:
        print_json(result)
    else:
        for item in result["failed"]:
            print_line(Text(f"✗ {item['name']}: {item['reason']}", "red"), to_stderr=True)
        counts = {name: len(value) if name == "failed" else value for name, value in result.items()}
        print_line(Text(("Dry run: " if dry_run else "") + ", ".join(f"{name} {n}" for name, n in counts.items())))
    raise typer.Exit(1 if result["failed"] else 0)


@app.command()
def transcribe(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of recordings.")] = None,
    all_new: Annotated[
        bool, typer.Option("--all-new", help="Transcribe all recordings that were never queued.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Transcribe failed recordings again.")] = False,
    model: Annotated[str, typer.Option(help="Name or path of the model (default: WHISPER_MODEL).")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Transcribe at most this many, newest first.")] = None,
    as_json: Json = False,
) -> None:
    """Transcribe recordings now: those named, new or failed ones, or (without any of these) the queue."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from pbx.formatting import duration_text

    columns = (TextColumn("transcribe"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console(to_stderr=True), transient=True, disable=not sys.stderr.isatty())
    with report_errors(as_json), open_cache() as (engine, settings), bar:
        from pbx.transcription.inline import RecordingSelection, transcribe_inline

        task = bar.add_task("loading the model", total=None)

        def show(done_s: float, total_s: float) -> None:
            text = f"{duration_text(done_s)} of {duration_text(total_s)} of audio"
            bar.update(task, completed=done_s, total=total_s, description=text)

        wanted = RecordingSelection(names or [], all_new, failed, model, limit)
        result = transcribe_inline(engine, settings, wanted, show)
    if as_json:
        print_json(result)
    else:
        for item in result["failed"]:
            print_line(Text(f"✗ {item['name']}: {item['reason']}", "red"), to_stderr=True)
        audio = f"{duration_text(result['audio_s'])} of audio in {duration_text(result['took_s'])}"
        counts = f"requested {result['requested']}, completed {result['completed']}, failed {len(result['failed'])}"
        print_line(Text(f"{counts}: {audio}"))
    raise typer.Exit(1 if result["failed"] else 0)


@app.command()
def worker(
    once: Annotated[
        bool, typer.Option("--once", help="Run all due and requested jobs once, then exit (for cron).")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only errors.")] = False,
    as_json: Json = False,
    only: Annotated[bool, typer.Option("--only", hidden=True, help="End when a worker runs already.")] = False,
    with_parent: WithParent = False,
) -> None:
    """Run the background worker until stopped: sync, collect, live events, transcription, alerts and requested jobs."""
    failed: list[str] = []

    def on_end(job: "Job") -> None:
        if as_json:
            print_json(job.model_dump(mode="json"))
        if job.state == "failed":
            failed.append(job.id)

    stop, signals = stop_at_signals()
    _start_log(logging.ERROR if quiet else logging.INFO)
    with report_errors(as_json):
        from pbx.jobs.worker import run_worker
        from pbx.settings import load_folder_settings

        if with_parent:
            end_with_parent(stop)
        run_worker(load_folder_settings(), stop, only=only, once=once, ended=on_end)
    if signal.SIGINT in signals:
        raise typer.Exit(130)
    raise typer.Exit(1 if failed and once else 0)


@app.command()
def watch(
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only warnings and errors.")] = False, as_json: Json = False
) -> None:
    """Store live events of the PBX until stopped. The worker does this too, so you need it only without a worker."""
    stop, signals = stop_at_signals()
    _start_log(logging.WARNING if quiet else logging.INFO)
    with report_errors(as_json), open_cache() as (engine, settings):
        from pbx.live.listener import listen_inline
        from pbx.store.job_queue import required_connection

        required_connection(engine, settings)
        listen_inline(settings, engine, stop)
    raise typer.Exit(130 if signal.SIGINT in signals else 0)


@app.command(hidden=True)
def transcriber(
    once: Annotated[bool, typer.Option("--once", help="Exit when nothing is queued.")] = False,
    with_parent: WithParent = False,
) -> None:
    """Transcribe the queued recordings. The worker starts this command."""
    stop, _ = stop_at_signals()
    _start_log(logging.INFO)
    with report_errors(as_json=False):
        from pbx.settings import load_folder_settings
        from pbx.transcription.transcriber_process import run_transcriber

        if with_parent:
            end_with_parent(stop)
        run_transcriber(load_folder_settings(), stop, once=once)


def _start_log(level: int) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("pbx").setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # retries aren't worth a line; the outcome is logged


@app.command()
def status(as_json: Json = False) -> None:
    """Show what is stored, the last jobs, the running processes, and the progress of imports."""
    with report_errors(as_json), open_cache() as (engine, settings):
        from pbx.jobs.status import cache_facts

        facts = cache_facts(engine, settings)
    if as_json:
        print_json(facts)
        return
    jobs = facts["jobs"]
    lines = {
        "Data": f"{facts['data_dir']}, {facts['database']['size_bytes'] / 1e6:.1f} MB database",
        "Version": f"{facts['version']}, database {facts['database']['revision']}",
        "PBX": _pbx_line(facts),
        "Worker": "running" if facts["worker_alive"] else "not running (python -m pbx worker)",
        "Live events": _listening_line(facts["listening"]),
        **{f"Last {kind}": _job_line(job) for kind, job in facts["last"].items()},
        "Recordings": ", ".join(f"{n} {state}" for state, n in facts["recordings"].items()) or "none",
        "Transcripts": _transcription_line(facts["transcriptions"]),
        "Queued jobs": ", ".join(f"{job['kind']} {job['state']}" for job in jobs) or "none",
    }
    for number, imported in enumerate(facts["imports"]):
        lines[" " * number or "Imported"] = _import_line(imported)
    for name, text in lines.items():
        print_line(Text.assemble((f"{name:<13}", "bold"), text))


def _listening_line(listening: dict[str, Any]) -> str:
    if not listening["alive"]:
        return "not received (start the worker, or python -m pbx watch)"
    since = listening["since"]
    return f"received since {datetime.fromisoformat(since).astimezone():%Y-%m-%d %H:%M}" if since else "connecting"


def _import_line(imported: dict[str, Any]) -> str:
    from pbx.formatting import count_text

    position = (
        f"up to {imported['until'].replace('T', ' ')}" if imported["until"] else f"up to byte {imported['bytes']:,}"
    )
    unreadable = f", {imported['unreadable']:,} unreadable" if imported["unreadable"] else ""
    last_import = f"{datetime.fromisoformat(imported['last_import']).astimezone():%Y-%m-%d %H:%M}"
    rows = count_text(imported["rows"], "row")
    return f"{imported['source']} ({imported['kind']}): {rows}{unreadable}, {position}, imported {last_import}"


def _pbx_line(facts: dict[str, Any]) -> str:
    if facts["data_label"]:
        return DEMO_STATUS_TEXT
    return str(facts["pbx"]["host"]) if facts["pbx"] else "not set up yet"


def _transcription_line(counts: dict[str, Any] | None) -> str:
    if counts is None:
        return "none"
    states = [f"{counts[name]} {name}" for name in ("new", "queued", "transcribing", "completed", "failed")]
    blocked = "paused" if counts["paused"] else counts["blocked_reason"]
    return " · ".join(filter(None, (", ".join(states), blocked)))


def _job_line(job: dict[str, Any] | None) -> str:
    if job is None:
        return "never"
    counts = ", ".join(f"{name} {n}" for name, n in job["result"].items() if isinstance(n, int))
    ended_at = datetime.fromisoformat(job["ended_at"]).astimezone()
    return " · ".join(part for part in (job["state"], f"{ended_at:%Y-%m-%d %H:%M}", job["error"] or counts) if part)


def _run_job(kind: "JobKind", options: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """Run a job in this process, with a progress bar if standard error is a terminal. Return its result."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with report_errors(as_json), open_cache() as (engine, settings):
        from pbx.jobs.worker import run_inline

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console(to_stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        with bar:
            task = bar.add_task(kind, total=None)

            def show(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total)

            result = run_inline(engine, settings, kind, options, show)
    return result


def _print_step(step: "CheckStep") -> None:
    mark, style = STATE_MARKS[step.state]
    print_line(Text.assemble((f"{mark} {step.name}", style), f"  {step.finding}"))
    for line in step.fix:
        print_line(Text("    " + line.replace("\n", "\n    ")))


def main() -> None:
    """Run a command and exit with its status."""
    os.umask(0o077)  # files are readable by this user only
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a job stores how it ended, as with Ctrl-C
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that isn't UTF-8 must not cause a failure
    try:
        app()
    except SystemExit as end:
        if threading.active_count() > 1:  # a download that can't be stopped must not block the exit
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise


if __name__ == "__main__":
    main()
