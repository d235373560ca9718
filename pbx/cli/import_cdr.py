"""`python -m pbx import cdr`: the call detail records, from a database or from Master.csv."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from pbx.cli.import_queue_log import (
    Since,
    Until,
    Url,
    choose_sources,
    import_app,
    import_progress,
    parse_time_range,
)
from pbx.cli.terminal import Json, open_cache, print_json, print_line, report_errors
from pbx.formatting import count_text

if TYPE_CHECKING:
    from pbx.imports.cdr import CdrResult
    from pbx.imports.cel import CelResult


__all__ = ["import_app"]


@import_app.command("cdr")
def import_cdr(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Master.csv, or CSV with a header; plain or gzip."),
    ] = None,
    url: Url = "",
    since: Since = "",
    until: Until = "",
    table: Annotated[str, typer.Option(help="The table's name.")] = "cdr",
    as_json: Json = False,
) -> None:
    """Read what is new in the call detail records, from a database (with CEL, where it is there) or from Master.csv."""
    with report_errors(as_json):
        files, url = choose_sources(files, url, "/var/log/asterisk/cdr-csv/Master.csv")
    with report_errors(as_json), open_cache() as (engine, settings), import_progress("cdr") as show:
        from pbx.analytics.packing import pack_history
        from pbx.errors import UnreadableFile
        from pbx.imports.cdr import CdrResult, import_cdr_database, import_cdr_file
        from pbx.imports.cel import import_cel_if_there
        from pbx.imports.file_types import check_not_empty
        from pbx.imports.run import refuse_in_demo
        from pbx.store.job_queue import needed_connection

        refuse_in_demo(settings)
        active, within = needed_connection(engine, settings), parse_time_range(since, until)
        if not url:
            check_not_empty(files)
        results, events = [], None
        for file in files:
            try:
                results.append(import_cdr_file(engine, active, file, within=within, progress=show))
            except UnreadableFile as error:
                results.append(CdrResult(source=file.name, failure=error.advice))
        if url:
            results.append(import_cdr_database(engine, active, url, table=table, within=within, progress=show))
            events = import_cel_if_there(engine, active, url, within=within, progress=show)
        pack_history(engine, active.id)  # so that the figures of a long time are quick at once
    if as_json:
        print_json({"sources": [result.model_dump() for result in (*results, *([events] if events else []))]})
    else:
        for result in results:
            if result.failure:
                print_line(Text(f"✗ {result.failure}", "red"), to_stderr=True)
            else:
                _tell(result, f"{count_text(result.legs, 'new leg')}")
        if events:
            _tell(events, f"details added to {count_text(events.told, 'leg')}")
    raise typer.Exit(1 if any(result.failure for result in results) else 0)


def _tell(result: "CdrResult | CelResult", came_of_it: str) -> None:
    counts = f"{count_text(result.rows, 'row')}, {came_of_it}" if result.rows else "nothing new"
    print_line(Text(f"{result.source}: {counts}"))
    if result.bad:
        print_line(Text(f"  {count_text(result.bad, 'row')} could not be read, for example:", "yellow"), to_stderr=True)
        for row, why in result.faults[:3]:
            print_line(Text(f"    row {row}: {why}", "yellow"), to_stderr=True)
