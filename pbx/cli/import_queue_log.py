"""`python -m pbx import …`: what happened, from the PBX's own records."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pbx.cli.terminal import (
    Json,
    console,
    open_cache,
    parse_time,
    print_json,
    print_line,
    report_errors,
)
from pbx.errors import SettingsError
from pbx.formatting import count_text

if TYPE_CHECKING:
    from pbx.imports.queue_log_files import SourceRead
    from pbx.imports.time_range import TimeRange

import_app = typer.Typer(name="import", help="Read what happened from the PBX's own records.", no_args_is_help=True)
URL_HELP = (
    "Import from this database, mysql://user@host/asteriskcdrdb for example; files you also name are imported first. "
    "Leave the password out, because other users of this machine can see command lines; you will be asked for it. To "
    "avoid the question, set PBX_IMPORT_URL, in the environment or in .env, to the full address including the "
    "password; it is used when you give neither a file nor --url."
)
SINCE_HELP = (
    "Only what happened from this time on: 2026-01-31, or 2026-01-31T08:00 (in the PBX's time zone). Such a stretch is "
    "read whole, and how far the import has come stays as it was."
)
Url = Annotated[str, typer.Option("--url", help=URL_HELP, metavar="URL")]
Since = Annotated[str, typer.Option(help=SINCE_HELP, metavar="TIME")]
Until = Annotated[str, typer.Option(help="Only what happened up to this time or day.", metavar="TIME")]


@import_app.command("queue-log")
def import_queue_log(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Plain, rotated or gzip.")] = None,
    url: Url = "",
    since: Since = "",
    until: Until = "",
    as_json: Json = False,
) -> None:
    """Read what is new in queue_log files, or in a database's queue_log table."""
    with report_errors(as_json):
        files, url = choose_sources(files, url, "/var/log/asterisk/queue_log")
    with report_errors(as_json), open_cache() as (engine, settings), import_progress("queue_log") as show:
        from pbx.analytics.packing import pack_history
        from pbx.formatting import zone_of
        from pbx.imports.file_types import check_not_empty
        from pbx.imports.queue_log_database import import_queue_log_database
        from pbx.imports.queue_log_files import import_queue_log_files
        from pbx.imports.run import refuse_in_demo
        from pbx.store.engine import reading
        from pbx.store.job_queue import needed_connection
        from pbx.store.recordings import utc_offset_s

        refuse_in_demo(settings)
        active, within = needed_connection(engine, settings), parse_time_range(since, until)
        if not url:
            check_not_empty(files)
        sources = (
            import_queue_log_files(engine, active.id, files, within=within, progress=show).sources if files else []
        )
        if url:
            with reading(engine) as session:
                zone = zone_of(active.connection.timezone, utc_offset_s(session, active.id))
            sources += import_queue_log_database(engine, active.id, url, zone, within=within, progress=show).sources
        pack_history(engine, active.id)  # so that the figures of a long time are quick at once
    if as_json:
        print_json({"sources": [source.model_dump() for source in sources]})
    else:
        for source in sources:
            _tell(source)
    raise typer.Exit(1 if any(source.failure for source in sources) else 0)


def choose_sources(files: list[Path] | None, url: str, example: str) -> tuple[list[Path], str]:
    """What to read: the files and the database that are named, or else the database of PBX_IMPORT_URL.

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
    """The address of the command line with its user's password, asked for at the terminal where there is one.

    Raises SettingsError for an address that is none, or that holds a password.
    """
    from pbx.imports.databases import source_label, source_url

    url = source_url(address)
    if url.password is not None or any("pass" in name.lower() or "pwd" in name.lower() for name in url.query):
        raise SettingsError(
            "Nothing was imported: every user of this machine can read a password on the command line.",
            "Change this password, as others may have seen it. Then leave it out of --url; you will be asked for it. "
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


def parse_time_range(since: str, until: str) -> "TimeRange":
    """The stretch of time asked for. Raises BadParameter when it is none."""
    from pbx.imports.time_range import TimeRange

    bounds = [parse_time(since, "--since"), parse_time(until, "--until", whole_day=True)]
    begun, ended = (datetime.fromisoformat(bound) if bound else None for bound in bounds)
    if begun and ended and begun >= ended:
        raise typer.BadParameter("it ends before it begins", param_hint="--until")
    return TimeRange(begun, ended)


@contextmanager
def import_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error when that is a terminal; what is yielded is told (done, total)."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(to_stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"import {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(source: "SourceRead") -> None:
    kinds = {"visit": source.visits, "ring in vain": source.rings, "agent change": source.changes}
    stored = ", ".join(count_text(count, kind) for kind, count in kinds.items())
    read = count_text(source.rows, "line")
    counts = f"{read}, {stored} new or completed" if source.rows else "nothing new"
    if source.rows or not source.failure:
        print_line(Text(f"{source.source}: {counts}"))
    if source.unknown:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(source.unknown.items()))
        print_line(Text(f"  events that tell nothing here: {names}", "yellow"), to_stderr=True)
    if source.bad:
        said = f"  {count_text(source.bad, 'line')} could not be read, for example:"
        print_line(Text(said, "yellow"), to_stderr=True)
        for line, why in source.faults[-3:]:
            print_line(Text(f"    line {line}: {why}", "yellow"), to_stderr=True)
    if source.failure:
        print_line(Text(f"✗ {source.failure}", "red"), to_stderr=True)
