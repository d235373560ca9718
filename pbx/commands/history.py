"""`python -m pbx import …`: what happened, from the PBX's own records."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pbx.commands.terminal import Json, console, errors_told, open_cache, print_json, print_line
from pbx.errors import SettingsError
from pbx.wording import count_text

if TYPE_CHECKING:
    from pbx.jobs.import_history import ImportResult
    from pbx.settings import Settings

import_app = typer.Typer(name="import", help="Read what happened from the PBX's own records.", no_args_is_help=True)
URL_HELP = (
    "Read a database instead: mysql://user:password@host/asteriskcdrdb. Put it into the environment as PBX_IMPORT_URL, "
    "and no other user of this machine sees the password."
)
Url = Annotated[str, typer.Option("--url", help=URL_HELP, envvar="PBX_IMPORT_URL", metavar="URL", show_envvar=False)]


@import_app.command("queue-log")
def import_queue_log(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Plain, rotated or gzip.")] = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Read what is new in queue_log files, or in a database's queue_log table."""
    if not files and not url:
        raise typer.BadParameter("name a file, such as /var/log/asterisk/queue_log, or a database with --url")
    with errors_told(as_json), open_cache() as (engine, settings), import_progress("queue_log") as show:
        from pbx.jobs.import_history import import_queue_log
        from pbx.jobs.import_table import import_queue_log_table
        from pbx.jobs.queue import needed_connection
        from pbx.store.engine import reading
        from pbx.store.recordings import utc_offset_s
        from pbx.wording import zone_of

        refuse_in_demo(settings)
        active = needed_connection(engine, settings)
        if files:
            result = import_queue_log(engine, active.id, files, progress=show)
        else:
            with reading(engine) as session:
                zone = zone_of(active.connection.timezone, utc_offset_s(session, active.id))
            result = import_queue_log_table(engine, active.id, url, zone, progress=show)
    if as_json:
        print_json(result.model_dump())
    else:
        _tell(result)
    raise typer.Exit(1 if result.failed else 0)


def refuse_in_demo(settings: "Settings") -> None:
    """Raise SettingsError in the demo: what really happened is never mixed with made-up calls."""
    if settings.demo:
        raise SettingsError(
            "This is the demo, and its cache holds made-up calls only.",
            "Remove the demo (python -m pbx demo --remove), connect your PBX, then import.",
        )


@contextmanager
def import_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error when that is a terminal; what is yielded is told (done, total)."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(to_stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"import {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(result: "ImportResult") -> None:
    for source in result.sources:
        kinds = {"visit": source.visits, "ring in vain": source.rings, "agent change": source.changes}
        many = {"ring in vain": "rings in vain"}
        stored = ", ".join(count_text(count, kind, many.get(kind)) for kind, count in kinds.items())
        read = count_text(source.rows, "line")
        counts = f"{read}, {stored} new or completed" if source.rows else "nothing new"
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
