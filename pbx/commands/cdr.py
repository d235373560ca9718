"""`python -m pbx import cdr`: the call detail records, from a database or from Master.csv."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pbx.commands.history import Url, import_app, import_progress, refuse_in_demo
from pbx.commands.terminal import Json, errors_told, open_cache, print_json, print_line

if TYPE_CHECKING:
    from pbx.jobs.import_cdr import CdrResult


__all__ = ["import_app"]


@import_app.command("cdr")
def import_cdr(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Master.csv, plain or gzip.")] = None,
    url: Url = "",
    table: Annotated[str, typer.Option(help="The table's name.")] = "cdr",
    as_json: Json = False,
) -> None:
    """Read what is new in the call detail records, from a database or from Master.csv."""
    if not files and not url:
        raise typer.BadParameter("name a file, such as /var/log/asterisk/cdr-csv/Master.csv, or a database with --url")
    with errors_told(as_json), open_cache() as (engine, settings), import_progress("cdr") as show:
        from pbx.jobs.import_cdr import import_cdr_database, import_cdr_file
        from pbx.jobs.queue import needed_connection

        refuse_in_demo(settings)
        active = needed_connection(engine, settings)
        if files:
            results = [import_cdr_file(engine, active, file, progress=show) for file in files]
        else:
            results = [import_cdr_database(engine, active, url, table=table, progress=show)]
    if as_json:
        print_json({"sources": [result.model_dump() for result in results]})
    else:
        for result in results:
            _tell(result)


def _tell(result: "CdrResult") -> None:
    counts = f"{result.rows} rows, {result.legs} legs new" if result.rows else "nothing new"
    print_line(Text(f"{result.source}: {counts}"))
    if result.bad:
        print_line(Text(f"  {result.bad} rows could not be read, for example:", "yellow"), to_stderr=True)
        for row, why in result.faults[:3]:
            print_line(Text(f"    row {row}: {why}", "yellow"), to_stderr=True)
