"""Tables as CSV and Excel files, safe to open: a name that looks like a formula stays a name. Pure."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import xlsxwriter  # type: ignore[import-untyped]  # it ships no types

CellValue = str | float | datetime | None
TableRows = Iterable[Sequence[CellValue]]
CSV_MIME = "text/csv"
XLSX_MIME = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MOST_CHARACTERS = 32_767  # in a cell of Excel
# What Excel, LibreOffice and Google Sheets take for the beginning of a formula, forms of other widths among them ...
_SIGNS = "=+\\-@\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
# ... behind what they drop or don't show: controls, spaces, joiners, marks of direction and of byte order, fillers.
_UNSEEN = (
    "\x00-\x08\x0b-\x0c\x0e-\x20\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680"
    "\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
# A cell begins where the text does, and where a spreadsheet that was told of another separator splits it.
_FORMULA = re.compile(f'^(?=[\t\r\n])|(?:^|(?<=[;|\t\r\n]))(?=[{_UNSEEN}"]*[{_SIGNS}])')


def to_csv(columns: Sequence[str], rows: TableRows, zone: tzinfo = UTC) -> bytes:
    """A table as CSV (RFC 4180, UTF-8 with the mark by which Excel knows it).

    Text that a spreadsheet would run gets an apostrophe in front (OWASP, CSV injection), within a text too where a
    spreadsheet that splits at something else than commas would begin a cell. All is quoted; numbers stay numbers,
    times are those of `zone`, and what is not known is empty.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow([_safe(name) for name in columns])
    writer.writerows([_csv_cell(value, zone) for value in row] for row in rows)
    return out.getvalue().encode("utf-8-sig", "replace")


def to_xlsx(columns: Sequence[str], rows: TableRows, zone: tzinfo = UTC, *, sheet: str = "Table") -> bytes:
    """A table as an Excel workbook of one sheet; text is text, numbers are numbers, times are those of `zone`."""
    out = io.BytesIO()
    # Text is never looked at: no formula, no link, no number is made of it.
    as_given = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, {"in_memory": True, "nan_inf_to_errors": True} | as_given) as book:
        page = book.add_worksheet(re.sub(r"[\[\]:*?/\\']", " ", sheet)[:31].strip() or "Table")
        # Text stays text when somebody edits its cell, too.
        quoted = book.add_format({"quote_prefix": True})
        bold, moment = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        for place, name in enumerate(columns):
            page.write_string(0, place, name, bold)
            page.set_column(place, place, min(max(len(name) + 2, 12), 40))
        for number, row in enumerate(rows, 1):
            for place, value in enumerate(row):
                _write(page, number, place, value, zone, moment, quoted)
        page.freeze_panes(1, 0)
    return out.getvalue()


def _write(page: Any, row: int, place: int, value: CellValue, zone: tzinfo, moment: Any, quoted: Any) -> None:
    if isinstance(value, datetime):
        page.write_datetime(row, place, value.astimezone(zone).replace(tzinfo=None), moment)
        page.set_column(place, place, 20)
    elif isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()[:MOST_CHARACTERS]
        page.write_string(row, place, text, quoted if _FORMULA.search(text) else None)
    elif value is not None and value == value:  # not NaN
        page.write_number(row, place, value)


def _csv_cell(value: CellValue, zone: tzinfo) -> str | float | None:
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, str):
        return _safe(value)
    return None if value is None or value != value else value


def _safe(text: str) -> str:
    return _FORMULA.sub("'", text)
