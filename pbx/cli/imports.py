"""`python -m pbx import …`: imports queue_log, CDR and CEL, the PBX's own records, from files or a database."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pbx.cli import terminal
from pbx.errors import SettingsError
from pbx.formatting import count_text

import_app = typer.Typer(name="import", help="Import the PBX's own records: queue_log, CDR, CEL.", no_args_is_help=True)
URL_HELP = (
    "Import from this database, such as mysql://user@host/asteriskcdrdb, after any files you name. "
    "Leave the password out, because other users of this machine can see command lines; the command prompts for it. To "
    "avoid the prompt, set PBX_IMPORT_URL, in the environment or in .env, to the full address including the "
    "password; it is used when you give neither a file nor --url."
)
SINCE_HELP = (
    "Import only events from this time on: 2026-01-31, or 2026-01-31T08:00 (in the PBX's time zone). The import reads "
    "everything in this time range again; the next import without a range continues where the last one ended."
)
Url = Annotated[str, typer.Option("--url", help=URL_HELP, metavar="URL")]
Since = Annotated[str, typer.Option(help=SINCE_HELP, metavar="TIME")]
Until = Annotated[
    str, typer.Option(help="Import only events up to this time, or to the end of this day.", metavar="TIME")
]


@import_app.command("queue-log")
def import_queue_log(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="queue_log files: plain, rotated or gzip.")
    ] = None,
    url: Url = "",
    since: Since = "",
    until: Until = "",
    as_json: terminal.Json = False,
) -> None:
    """Import new lines of queue_log files, or new rows of a database's queue_log table."""
    with terminal.report_errors(as_json):
        files, url = choose_sources(files, url, "/var/log/asterisk/queue_log")
    _import("queue_log", files, url, {}, since, until, as_json)


@import_app.command("cdr")
def import_cdr(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Master.csv, or CSV with a header: plain or gzip."),
    ] = None,
    url: Url = "",
    since: Since = "",
    until: Until = "",
    table: Annotated[str, typer.Option(help="The name of the CDR table.")] = "cdr",
    as_json: terminal.Json = False,
) -> None:
    """Import new call detail records (CDR) from Master.csv, or from a database together with its CEL table."""
    with terminal.report_errors(as_json):
        files, url = choose_sources(files, url, "/var/log/asterisk/cdr-csv/Master.csv")
    _import("cdr", files, url, {"table": table}, since, until, as_json)


def _import(
    kind: str, files: list[Path], url: str, options: dict[str, Any], since: str, until: str, as_json: bool
) -> None:
    """Do an import job in this process, print what it read, and exit with 1 when a source could not be read."""
    with (
        terminal.report_errors(as_json),
        terminal.open_cache() as (engine, settings),
        import_progress(kind) as progress,
    ):
        from pydantic import SecretStr

        from pbx.imports.databases import source_label, source_url
        from pbx.imports.files import check_exists
        from pbx.imports.job import NothingImported
        from pbx.jobs.worker import run_inline
        from pbx.settings import require_real_data
        from pbx.store.job_queue import required_connection

        require_real_data(settings)
        required_connection(engine, settings)
        options = {"kind": kind} | options | parse_time_range(since, until)
        for file in files:
            check_exists(file)
        if files:
            options["files"] = [str(file.absolute()) for file in files]
        if url:  # a job is stored, so it names the database without its password
            options["database"] = source_label(source_url(url))
            settings = settings.model_copy(update={"pbx_import_url": SecretStr(url)})
        try:
            sources = run_inline(engine, settings, "import", options, progress)["sources"]
        except NothingImported as error:
            sources = error.sources
    if as_json:
        terminal.print_json({"sources": sources})
    else:
        for source in sources:
            _print_source(source)
    raise typer.Exit(1 if any(source["failure"] for source in sources) else 0)


def choose_sources(files: list[Path] | None, url: str, example: str) -> tuple[list[Path], str]:
    """The files and the database that the command line names, or the database of PBX_IMPORT_URL if it names none.

    Raises BadParameter when there is neither, SettingsError for a password on the command line.
    """
    from pbx.settings import load_settings

    if url:
        return files or [], prompt_for_password(url)
    given = load_settings().pbx_import_url
    if not files and not given:
        raise typer.BadParameter(f"name a file, such as {example}, or a database with --url")
    return files or [], given.get_secret_value() if given and not files else ""


def prompt_for_password(address: str) -> str:
    """The address from the command line, with the password that the user enters at the terminal, if there is one.

    Raises SettingsError for an address that isn't one, or that contains a password.
    """
    from pbx.imports.databases import source_label, source_url

    url = source_url(address)
    if url.password is not None or any("pass" in name.lower() or "pwd" in name.lower() for name in url.query):
        raise SettingsError(
            "Nothing was imported: every user of this machine can read a password on the command line.",
            "Change this password, as others may have seen it. Then leave it out of --url; the command prompts for it. "
            "Or leave out --url, and set PBX_IMPORT_URL, in the environment or in .env, to the full address including "
            "the password.",
        )
    if not url.username or not _at_terminal():
        return address
    label = f"Password of {url.username} for {source_label(url)} (empty for none)"
    entered: str = typer.prompt(label, default="", hide_input=True, show_default=False, err=True)
    return url.set(password=entered or None).render_as_string(hide_password=False)


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def parse_time_range(since: str, until: str) -> dict[str, str]:
    """The bounds of --since and --until, as options of the job. Raises BadParameter when the range is empty."""
    bounds = {
        "since": terminal.parse_time(since, "--since"),
        "until": terminal.parse_time(until, "--until", end_of_day=True),
    }
    begin, end = (datetime.fromisoformat(bound) if bound else None for bound in bounds.values())
    if begin and end and begin >= end:
        raise typer.BadParameter("it ends before it begins", param_hint="--until")
    return {name: bound for name, bound in bounds.items() if bound}


@contextmanager
def import_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar when standard error is a terminal; yields a function to call with (done, total)."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=terminal.console(to_stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(f"import {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_source(source: dict[str, Any]) -> None:
    """Print what was read from one file or table, and what could not be read."""
    if source.get("rows") or not source["failure"]:
        terminal.print_line(Text(f"{source['source']}: {_counts(source) if source['rows'] else 'nothing new'}"))
    row_name = "line" if source["kind"] == "queue_log" else "row"
    if unknown := source.get("unknown"):
        names = ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items()))
        terminal.print_line(Text(f"  skipped events of unknown types: {names}", "yellow"), to_stderr=True)
    if source.get("unreadable"):
        counted = count_text(source["unreadable"], row_name)
        terminal.print_line(
            Text(f"  {counted} could not be read" + (", for example:" if source["errors"] else "."), "yellow"),
            to_stderr=True,
        )
        for number, reason in source["errors"][-3:]:
            terminal.print_line(Text(f"    {row_name} {number}: {reason}", "yellow"), to_stderr=True)
    if source["failure"]:
        terminal.print_line(Text(f"✗ {source['failure']}", "red"), to_stderr=True)


def _counts(source: dict[str, Any]) -> str:
    """How many rows were read, and what they added to the cache."""
    if source["kind"] == "queue_log":
        names = {"visits": "visit", "rings": "missed ring", "agent_events": "agent event"}
        stored = ", ".join(count_text(source[key], name) for key, name in names.items())
        return f"{count_text(source['rows'], 'line')}, {stored} new or completed"
    rows = count_text(source["rows"], "row")
    if source["kind"] == "cel":
        return f"{rows}, details added to {count_text(source['detailed_legs'], 'leg')}"
    return f"{rows}, {count_text(source['legs'], 'new leg')}"
