"""`python -m pbx query`: answers a question in SQL about the documented views, as a table or a file."""

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.text import Text

from pbx.cli.terminal import Json, console, print_json, print_line, report_errors

if TYPE_CHECKING:
    from pbx.analytics.contained_sql import SqlResult, SqlValue
    from pbx.analytics.view_descriptions import View
    from pbx.analytics.view_tables import RowValues

QueryFormat = Literal["table", "csv", "json", "parquet", "xlsx"]
_FILES = ("parquet", "xlsx")  # formats that a terminal can't show
_MOST_EXCEL_ROWS = 1_048_575  # and a line of names
_MOST_QUESTION_CHARACTERS = 1_000_000
_MOST_RICH_ROWS = 1_000  # Rich takes seconds for more
_DATE, _TIME = re.compile(r"\d{4}-\d{2}-\d{2}"), re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*")
PARAM_HELP = (
    "The value of $name in the statement (repeatable). 2026-01-31 is a date, 2026-01-31T08:00 a time. Anything else "
    "takes the type of what it is compared with, so a number or yes/no (true, false) is written as it is."
)


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT; - reads it from standard input.")] = "",
    chosen_form: Annotated[
        QueryFormat | None,
        typer.Option("--format", help="How to write the result. Otherwise as the ending of --output says, or a table."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the result to this file; parquet and xlsx need it.")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help=PARAM_HELP, metavar="NAME=VALUE")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000_000, help="Return at most this many rows.")] = 100_000,
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Stop after this many seconds.")] = 60.0,
    question: Annotated[
        Path | None, typer.Option(help="Answer a question that was saved as JSON, instead of SQL.", metavar="FILE")
    ] = None,
    views: Annotated[bool, typer.Option("--views", help="Describe all views, or one: --views calls.")] = False,
    as_json: Json = False,
) -> None:
    """Answer a question in SQL about calls, queues, agents, trunks and transcripts. It only reads.

    The statement is a SELECT about the views that --views describes, in DuckDB's dialect.
    """
    form: QueryFormat = "json" if as_json else chosen_form or _form_of(output)
    if views:
        _describe_views(sql, as_json=form == "json")
        return
    values = dict(_parameter(text) for text in param or [])
    if form in _FILES and output is None:
        raise typer.BadParameter(f"{form} needs a file: --output FILE", param_hint="--output")
    if sql and question:
        raise typer.BadParameter("write a statement or --question FILE, not both")
    if not sql and not question:
        raise typer.BadParameter("write a statement, - to read it from standard input, or --question FILE")
    if question and values:
        raise typer.BadParameter("--param belongs to a statement, not to a question")
    with report_errors(form == "json"):
        statement = _statement(question) if question else sys.stdin.read() if sql == "-" else sql
        result = _run(statement, values, limit, timeout)
        if output is None:
            _print(result, form)
        else:
            _write(result, form, output)
    if result.note:
        note = result.note.replace("are shown", "were written") if output else result.note
        print_line(Text(note, "yellow"), to_stderr=True)


def answer_query() -> None:
    """Run the statement that standard input contains. The command `query` starts this one."""
    from pbx.analytics.contained_process import answer_request

    answer_request(_topics_of)


def _topics_of(rows: Sequence["RowValues"], phrases: Mapping[str, Sequence[str]]) -> list[str]:
    from pbx.transcription.analysis.run import SpokenSegment, match_topics

    spoken = [SpokenSegment(start_s, end_s, who, text, flags.split()) for start_s, end_s, who, text, flags in rows]
    return list(match_topics(spoken, phrases))


def _form_of(output: Path | None) -> QueryFormat:
    """The format that a file's ending names; a table for any other ending."""
    ending = output.suffix.lower().lstrip(".") if output else ""
    return next((form for form in get_args(QueryFormat) if form == ending), "table")


def _statement(path: Path) -> str:
    """The SQL of a question in a file, about the active PBX. Raises DataError, SettingsError."""
    from pbx.analytics.question import question_from_json
    from pbx.analytics.question_sql import question_sql
    from pbx.errors import DataError, SettingsError
    from pbx.formatting import zone_of
    from pbx.settings import load_settings
    from pbx.store.engine import open_engine, reading
    from pbx.store.models import PbxConnection
    from pbx.store.pbx_connections import active_connection

    try:
        with path.open(encoding="utf-8") as file:
            question = question_from_json(file.read(_MOST_QUESTION_CHARACTERS))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from None
    settings = load_settings()
    engine = open_engine(settings)
    try:
        active = active_connection(engine, settings)
        if active is None:
            raise SettingsError("No PBX is set up, so there is nothing to answer from.", "Connect one first.")
        with reading(engine) as session:
            row = session.get(PbxConnection, active.id)
    finally:
        engine.dispose()
    zone = zone_of(active.connection.timezone, row.utc_offset_s if row else None)
    since, until = question.period.bounds(datetime.now(UTC), zone)
    return question_sql(question, row.host if row else active.connection.host, since, until)


def _run(sql: str, values: Mapping[str, "SqlValue"], limit: int, timeout: float) -> "SqlResult":
    from pbx.analytics.contained_sql import SqlLimits, run_sql
    from pbx.settings import load_settings
    from pbx.store.engine import open_engine

    settings = load_settings()
    open_engine(settings).dispose()
    return run_sql(settings, sql, values, SqlLimits(rows=limit, time_s=timeout))


def _parameter(text: str) -> tuple[str, "SqlValue"]:
    """A name and its value from the command line. Raises BadParameter."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise typer.BadParameter(f"write {text!r} as name=value", param_hint="--param")
    try:
        if _DATE.fullmatch(value):
            return name, date.fromisoformat(value)
        if _TIME.fullmatch(value):
            moment = datetime.fromisoformat(value)
            return name, moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except ValueError:
        raise typer.BadParameter(f"{value!r} is not a date or time that exists", param_hint="--param") from None
    return name, value


def _describe_views(name: str, *, as_json: bool) -> None:
    from pbx.analytics.view_descriptions import VIEWS

    if name and name not in VIEWS:
        raise typer.BadParameter(f"there is no view {name}; --views lists them", param_hint="--views")
    chosen = [VIEWS[name]] if name else list(VIEWS.values())
    if as_json:
        print_json({"views": [_view_json(view) for view in chosen]})
        return
    for view in chosen:
        print_line(Text.assemble((view.name, "bold"), f"  {view.row}."))
        for column in view.columns:
            print_line(Text(f"    {column.name:<22}{column.type:<9}{column.description}"))


def _view_json(view: "View") -> dict[str, Any]:
    columns = [{"name": one.name, "type": one.type, "description": one.description} for one in view.columns]
    return {"name": view.name, "row": view.row, "columns": columns}


def _print(result: "SqlResult", form: QueryFormat) -> None:
    if form == "table" and sys.stdout.isatty() and result.table.num_rows <= _MOST_RICH_ROWS:
        _print_table(result)
        return
    out = sys.stdout.buffer
    for part in _bytes(result, form):
        out.write(part)
    out.flush()


def _write(result: "SqlResult", form: QueryFormat, output: Path) -> None:
    """Write a file aside and rename it. Raises DataError."""
    from pbx.errors import DataError
    from pbx.operating_system import replace_file

    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        try:
            if form == "parquet":
                import pyarrow as pa
                import pyarrow.parquet as pq

                try:
                    pq.write_table(result.table, part, compression="zstd")
                except pa.ArrowNotImplementedError:
                    raise DataError(
                        "Parquet can't hold a column of this type.", "Convert it to text: CAST(… AS VARCHAR)."
                    ) from None
            else:
                with part.open("wb") as file:
                    file.writelines(_bytes(result, form))
            replace_file(part, output)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or "it can't be written"
        raise DataError(f"{output} can't be written: {reason}.", "Choose another file with --output.") from None


def _bytes(result: "SqlResult", form: QueryFormat) -> Iterator[bytes]:
    """The content of a text file or an Excel workbook, in parts."""
    from pbx.errors import DataError
    from pbx.export.tables import csv_parts, to_xlsx

    names = result.table.column_names
    if form == "csv":
        yield from csv_parts(names, map(_cells, _rows(result)))
    elif form == "json":
        yield b"["
        for number, row in enumerate(_rows(result)):
            values = dict(zip(_unique(names), map(_plain, row), strict=True))
            yield (",\n" if number else "").encode() + json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
        yield b"]\n"
    elif form == "xlsx":
        if result.table.num_rows > _MOST_EXCEL_ROWS:
            raise DataError("Excel can't hold that many rows.", "Use --limit 1000000, or --format csv.")
        yield to_xlsx(names, map(_cells, _rows(result)), sheet="Result")
    else:
        yield from (f"{line}\n".encode("utf-8", "replace") for line in _table_lines(result))


def _rows(result: "SqlResult") -> Iterator[tuple[Any, ...]]:
    for batch in result.table.to_batches(max_chunksize=5_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _unique(names: Sequence[str]) -> list[str]:
    """Names of which none repeats: the second `queue` becomes `queue_2`."""
    found: dict[str, None] = {}
    for name in names:
        number, unique = 1, name
        while unique in found:
            number, unique = number + 1, f"{name}_{number + 1}"
        found[unique] = None
    return list(found)


def _plain(value: Any) -> Any:
    """A value of a result as data for JSON. What isn't a number (NaN, infinity) is unknown."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "nanoseconds"):  # an INTERVAL
        months, days, nanoseconds = value
        return f"{months} months {days} days {nanoseconds / 1e9:g} s"
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _cells(row: Sequence[Any]) -> list[Any]:
    return [_cell(value) for value in row]


def _cell(value: Any) -> str | float | datetime | None:
    """A value of a result as a cell of a spreadsheet: a number, a time, or text. Times stay as they are."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    plain = _plain(value)
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    if isinstance(plain, dict | list):
        return json.dumps(plain, ensure_ascii=False)
    return plain if plain is None or isinstance(plain, str | float) else _number(plain)


def _number(value: int) -> float | str:
    """An integer as a cell: text if a spreadsheet would round it."""
    return value if abs(value) < 2**53 else str(value)


def _print_table(result: "SqlResult") -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in result.table.schema:
        numeric = str(column.type).startswith(("int", "uint", "float", "double", "decimal"))
        table.add_column(Text(_shown(column.name)), justify="right" if numeric else "left", overflow="fold")
    for row in _rows(result):
        table.add_row(*(Text(_text(value)) for value in row))
    console(to_stderr=False).print(table)


def _table_lines(result: "SqlResult") -> Iterator[str]:
    """The table as lines with columns of equal width."""

    def cells() -> Iterator[list[str]]:
        yield [_shown(name) for name in result.table.column_names]
        yield from ([_text(value) for value in row] for row in _rows(result))

    widths = [0] * result.table.num_columns
    for row in cells():
        widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    for row in cells():
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _text(value: Any) -> str:
    """A value of a result as a cell of a table on the terminal."""
    cell = _cell(value)
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    if isinstance(cell, float):
        return f"{cell:.10g}"
    return "" if cell is None else _shown(str(cell))


def _shown(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)
