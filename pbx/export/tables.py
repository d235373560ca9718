"""Tables as CSV and Excel files. Text that looks like a formula stays text when the file is opened."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import Any

import xlsxwriter  # type: ignore[import-untyped]  # it ships no types

CellValue = str | float | datetime | None
TableRows = Iterable[Sequence[CellValue]]
CSV_MIME = "text/csv"
XLSX_MIME = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_CSV_ROWS = 5_000  # in memory at a time
MAX_CELL_CHARACTERS = 32_767  # Excel's limit
# Characters that start a formula in Excel, LibreOffice or Google Sheets, including their full-width forms.
_FORMULA_STARTS = "=+\\-@\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
# Characters before them that spreadsheets drop or don't show: controls, spaces, joiners, direction marks, fillers.
_INVISIBLE = (
    "\x00-\x08\x0b-\x0c\x0e-\x20\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680"
    "\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
# Cells start where the text does, and after each character that a spreadsheet may be set to split cells at.
_FORMULA = re.compile(f'^(?=[\t\r\n])|(?:^|(?<=[;|\t\r\n]))(?=[{_INVISIBLE}"]*[{_FORMULA_STARTS}])')


def to_csv(columns: Sequence[str], rows: TableRows, zone: tzinfo = UTC) -> bytes:
    """Return a table as CSV (RFC 4180) in UTF-8 with a byte order mark, which Excel needs.

    An apostrophe goes before text that a spreadsheet would run as a formula (OWASP, CSV injection), also inside a text
    where a spreadsheet that splits at other characters than commas would start a cell. All values are quoted; numbers
    stay numbers, times are in `zone`, and unknown values are empty.
    """
    return b"".join(csv_parts(columns, rows, zone))


def csv_parts(columns: Sequence[str], rows: TableRows, zone: tzinfo = UTC) -> Iterator[bytes]:
    """Return the same as `to_csv` in parts, for tables that are too large for memory."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow([_without_formula(name) for name in columns])
    yield out.getvalue().encode("utf-8-sig", "replace")
    left = iter(rows)
    while some := list(islice(left, _CSV_ROWS)):
        out = io.StringIO(newline="")
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([_csv_cell(value, zone) for value in row] for row in some)
        yield out.getvalue().encode("utf-8", "replace")


def to_xlsx(columns: Sequence[str], rows: TableRows, zone: tzinfo = UTC, *, sheet: str = "Table") -> bytes:
    """Return a table as an Excel workbook of one sheet; text stays text, numbers stay numbers, times are in `zone`."""
    out = io.BytesIO()
    # Text never becomes a formula, a link or a number.
    keep_text = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(out, {"in_memory": True, "nan_inf_to_errors": True} | keep_text) as book:
        page = book.add_worksheet(re.sub(r"[\[\]:*?/\\']", " ", sheet)[:31].strip() or "Table")
        # Text also stays text when somebody edits its cell.
        quoted = book.add_format({"quote_prefix": True})
        bold, moment = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        for column, name in enumerate(columns):
            page.write_string(0, column, name, bold)
            page.set_column(column, column, min(max(len(name) + 2, 12), 40))
        for number, row in enumerate(rows, 1):
            for column, value in enumerate(row):
                _write_cell(page, number, column, value, zone, moment, quoted)
        page.freeze_panes(1, 0)
    return out.getvalue()


def _write_cell(page: Any, row: int, column: int, value: CellValue, zone: tzinfo, moment: Any, quoted: Any) -> None:
    if isinstance(value, datetime):
        page.write_datetime(row, column, value.astimezone(zone).replace(tzinfo=None), moment)
        page.set_column(column, column, 20)
    elif isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()[:MAX_CELL_CHARACTERS]
        page.write_string(row, column, text, quoted if _FORMULA.search(text) else None)
    elif value is not None and value == value:  # not NaN
        page.write_number(row, column, value)


def _csv_cell(value: CellValue, zone: tzinfo) -> str | float | None:
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, str):
        return _without_formula(value)
    return None if value is None or value != value else value


def _without_formula(text: str) -> str:
    return _FORMULA.sub("'", text)
