"""The command line: `python -m pbx check|collect|sync|import|transcribe|watch|worker|status|demo`.

Standard output carries the result and nothing else; progress, logs and errors go to standard error.
Exit status: 0 all well, 1 something failed, 2 wrong use or settings, 130 stopped by Ctrl-C.
What a command needs is imported when it runs, so that `--help` is quick.
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

from pbx.cli.demo import demo
from pbx.cli.imports import import_app
from pbx.cli.terminal import (
    Json,
    console,
    open_cache,
    parse_time,
    print_json,
    print_line,
    report_errors,
    stop_at_signals,
)
from pbx.machine import end_with_parent

if TYPE_CHECKING:
    from pbx.asterisk.doctor import CheckStep
    from pbx.store.models import Job, JobKind

app = typer.Typer(
    help="PBX Notebook: a FreePBX's recordings and status in a cache of your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, passwords among them
)
app.add_typer(import_app)
app.command()(demo)
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red"), "skipped": ("-", "dim")}


@app.command()
def check(as_json: Json = False) -> None:
    """Check the connection to the PBX step by step, and say how to fix what fails."""
    from pbx.asterisk.doctor import check_connection

    with report_errors(as_json):
        with open_cache() as (engine, settings):
            from pbx.store.job_queue import needed_connection

            connection = needed_connection(engine, settings).connection
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
            Text(f"{failed} of {len(steps)} steps failed." if failed else f"All is well with {connection.host}.")
        )
    raise typer.Exit(1 if failed else 0)


OUTPUT_HELP = (
    "Where to write the snapshot (default: data/freepbx.json). Outside the data directory, all users can read it."
)


@app.command()
def collect(
    output: Annotated[Path | None, typer.Option(help=OUTPUT_HELP)] = None,
    as_json: Json = False,
) -> None:
    """Take a snapshot of extensions, trunks, queues and calls into the cache, and write it as JSON. Fit for cron."""
    result = _do("collect", {"output": str(output)} if output else {}, as_json)
    for name, part in result["incomplete_parts"].items():
        print_line(Text(f"{name}: {part['state']}. {part['reason']}", "yellow"), to_stderr=True)
    if as_json:
        print_json(result)
    else:
        counts = ", ".join(f"{result[name]} {name.replace('_', ' ')}" for name in COUNTED)
        print_line(Text(f"{counts} → {result['output']}"))
    failed = any(part["state"] in ("denied", "failed") for part in result["incomplete_parts"].values())
    raise typer.Exit(1 if failed else 0)


COUNTED = ("extensions", "trunks", "queues", "active_calls")
SINCE_HELP = "Only recordings from this time on: 2026-01-31, or 2026-01-31T08:00 (in the PBX's time zone)."


@app.command()
def sync(
    since: Annotated[str, typer.Option(help=SINCE_HELP, metavar="TIME")] = "",
    until: Annotated[str, typer.Option(help="Only recordings up to this time or day.", metavar="TIME")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Download at most this many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; download nothing.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Downloads at once.")] = 4,
    as_json: Json = False,
) -> None:
    """Bring the PBX's new recordings into the cache."""
    with report_errors(as_json):
        options: dict[str, Any] = {
            "since": parse_time(since, "--since"),
            "until": parse_time(until, "--until", whole_day=True),
            "limit": limit,
            "dry_run": dry_run,
            "parallel": parallel,
        }
    result = _do("sync", options, as_json)
    if as_json:
        print_json(result)
    else:
        for item in result["failed"]:
            print_line(Text(f"✗ {item['name']}: {item['reason']}", "red"), to_stderr=True)
        counts = {name: len(value) if name == "failed" else value for name, value in result.items()}
        print_line(Text(("Would do: " if dry_run else "") + ", ".join(f"{name} {n}" for name, n in counts.items())))
    raise typer.Exit(1 if result["failed"] else 0)


@app.command()
def transcribe(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Recordings, by name.")] = None,
    all_new: Annotated[bool, typer.Option("--all-new", help="All that nobody asked for yet.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Those that failed, once more.")] = False,
    model: Annotated[str, typer.Option(help="A model's name or path (WHISPER_MODEL).")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, newest first.")] = None,
    as_json: Json = False,
) -> None:
    """Transcribe recordings here and now: named ones, new ones, failed ones, or else what is queued."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from pbx.formatting import duration_text

    columns = (TextColumn("transcribe"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console(to_stderr=True), transient=True, disable=not sys.stderr.isatty())
    with report_errors(as_json), open_cache() as (engine, settings), bar:
        from pbx.transcription.inline import Wanted, transcribe_inline

        task = bar.add_task("loading the model", total=None)

        def show(done_s: float, total_s: float) -> None:
            said = f"{duration_text(done_s)} of {duration_text(total_s)} of sound"
            bar.update(task, completed=done_s, total=total_s, description=said)

        wanted = Wanted(names or [], all_new, failed, model, limit)
        result = transcribe_inline(engine, settings, wanted, show)
    if as_json:
        print_json(result)
    else:
        for item in result["failed"]:
            print_line(Text(f"✗ {item['name']}: {item['reason']}", "red"), to_stderr=True)
        sound = f"{duration_text(result['audio_s'])} of sound in {duration_text(result['took_s'])}"
        counts = f"asked {result['asked']}, completed {result['completed']}, failed {len(result['failed'])}"
        print_line(Text(f"{counts}: {sound}"))
    raise typer.Exit(1 if result["failed"] else 0)


@app.command()
def worker(
    once: Annotated[bool, typer.Option("--once", help="Do what is due and asked for, then end (for cron).")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log errors only.")] = False,
    as_json: Json = False,
    only: Annotated[bool, typer.Option("--only", hidden=True, help="End when a worker runs already.")] = False,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End when standard input does.")] = False,
) -> None:
    """Sync and collect at their intervals, transcribe, and do the jobs the pages ask for, until it is stopped."""
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
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings and errors only.")] = False, as_json: Json = False
) -> None:
    """Listen to the PBX and store what happens as it happens, until it is stopped. The worker does so too."""
    stop, signals = stop_at_signals()
    _start_log(logging.WARNING if quiet else logging.INFO)
    with report_errors(as_json), open_cache() as (engine, settings):
        from pbx.live.listener import listen_inline
        from pbx.store.job_queue import needed_connection

        needed_connection(engine, settings)
        listen_inline(settings, engine, stop)
    raise typer.Exit(130 if signal.SIGINT in signals else 0)


@app.command(hidden=True)
def transcriber(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is queued.")] = False,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End when standard input does.")] = False,
) -> None:
    """Work the queue of recordings off: the worker starts this."""
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
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # that it asks once more is no news; how it ends is told


@app.command()
def status(as_json: Json = False) -> None:
    """Tell what is in the cache, how the last jobs went, who is at work and listens, and how far history was read."""
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
        "Worker": "at work" if facts["worker_alive"] else "not running (python -m pbx worker)",
        "Listening": _listening_line(facts["listening"]),
        **{f"Last {kind}": _job_line(job) for kind, job in facts["last"].items()},
        "Recordings": ", ".join(f"{n} {state}" for state, n in facts["recordings"].items()) or "none",
        "Transcripts": _speech_line(facts["transcriptions"]),
        "Jobs to do": ", ".join(f"{job['kind']} {job['state']}" for job in jobs) or "none",
    }
    for place, mark in enumerate(facts["imports"]):
        lines[" " * place or "History"] = _mark_line(mark)
    for name, text in lines.items():
        print_line(Text.assemble((f"{name:<13}", "bold"), text))


def _listening_line(listening: dict[str, Any]) -> str:
    if not listening["alive"]:
        return "nobody (the worker does, or python -m pbx watch)"
    since = listening["since"]
    return f"since {datetime.fromisoformat(since).astimezone():%Y-%m-%d %H:%M}" if since else "being taken up"


def _mark_line(mark: dict[str, Any]) -> str:
    from pbx.formatting import count_text

    upto = f"up to {mark['until'].replace('T', ' ')}" if mark["until"] else f"up to byte {mark['bytes']:,}"
    bad = f", {mark['bad']:,} unreadable" if mark["bad"] else ""
    read_at = datetime.fromisoformat(mark["read_at"]).astimezone()
    rows = count_text(mark["rows"], "row")
    return f"{mark['source']} ({mark['kind']}): {rows}{bad}, {upto}, read {read_at:%Y-%m-%d %H:%M}"


def _pbx_line(facts: dict[str, Any]) -> str:
    if facts["made_up"]:
        return "the demo PBX: made-up calls (python -m pbx demo --remove)"
    return str(facts["pbx"]["host"]) if facts["pbx"] else "none is set up yet"


def _speech_line(speech: dict[str, Any] | None) -> str:
    if speech is None:
        return "none"
    counts = [f"{speech[name]} {name}" for name in ("new", "queued", "transcribing", "completed", "failed")]
    held_up = "paused" if speech["paused"] else speech["blocked_reason"]
    return " · ".join(filter(None, (", ".join(counts), held_up)))


def _job_line(job: dict[str, Any] | None) -> str:
    if job is None:
        return "never"
    counts = ", ".join(f"{name} {n}" for name, n in job["result"].items() if isinstance(n, int))
    ended_at = datetime.fromisoformat(job["ended_at"]).astimezone()
    return " · ".join(part for part in (job["state"], f"{ended_at:%Y-%m-%d %H:%M}", job["error"] or counts) if part)


def _do(kind: "JobKind", options: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """Do a job here, with a progress bar when standard error is a terminal."""
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
    mark, style = MARKS[step.state]
    print_line(Text.assemble((f"{mark} {step.name}", style), f"  {step.finding}"))
    for line in step.fix:
        print_line(Text("    " + line.replace("\n", "\n    ")))


def main() -> None:
    """Run a command and exit with its status."""
    os.umask(0o077)  # what it writes is for this user alone
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a job tells how it ended, as with Ctrl-C
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that isn't UTF-8 is no reason to fail
    try:
        app()
    except SystemExit as end:
        if threading.active_count() > 1:  # a download that can't be stopped must not hold the process
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise


if __name__ == "__main__":
    main()
