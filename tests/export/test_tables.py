"""Tables as files, read back: what a caller calls himself is text, and numbers and times are what they were."""

import csv
import io
import zipfile
from datetime import UTC, datetime
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from pbx.export.tables import Value, to_csv, to_xlsx

BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2026, 7, 1, 22, 30, 5, tzinfo=UTC)
FORMULAS = ["=1+1", "+4930123", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=HYPERLINK("http://x","y")']
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def read_xlsx(data: bytes) -> tuple[list[list[tuple[str, str]]], bool]:
    """The cells of the sheet (type and text), and whether there is a formula anywhere."""
    book = zipfile.ZipFile(io.BytesIO(data))
    shared = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
    texts = ["".join(part.text or "" for part in item.iter(f"{MAIN}t")) for item in shared.iter(f"{MAIN}si")]
    sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    found = []
    for row in sheet.iter(f"{MAIN}row"):
        cells = [(cell.get("t", "n"), cell.findtext(f"{MAIN}v") or "") for cell in row.iter(f"{MAIN}c")]
        found.append([(kind, texts[int(text)] if kind == "s" else text) for kind, text in cells])
    return found, next(sheet.iter(f"{MAIN}f"), None) is not None


@pytest.mark.parametrize("text", FORMULAS)
def test_what_looks_like_a_formula_is_kept_from_running(text: str) -> None:
    (_, (cell,)) = read_csv(to_csv(["Caller"], [[text]]))
    assert cell == f"'{text}"
    (_, (found,)), formula = read_xlsx(to_xlsx(["Caller"], [[text]]))
    assert found[0] == "s"
    assert not formula


def test_a_column_named_like_a_formula_is_text_too() -> None:
    assert read_csv(to_csv(["=A1"], [])) == [["'=A1"]]
    ((cell,),), formula = read_xlsx(to_xlsx(["=A1"], []))
    assert (cell, formula) == (("s", "=A1"), False)


def test_numbers_times_and_what_is_not_known() -> None:
    row: list[Value] = [-5, 83.25, 0, None, float("nan"), AT, 'Zoë, "Z"\nÄ', "1-2"]
    _, cells = read_csv(to_csv(list("abcdefgh"), [row], BERLIN))
    assert cells == ["-5", "83.25", "0", "", "", "2026-07-02 00:30:05", 'Zoë, "Z"\nÄ', "1-2"]
    (_, found), _ = read_xlsx(to_xlsx(list("abcdefgh"), [row], BERLIN))
    assert found[:3] == [("n", "-5"), ("n", "83.25"), ("n", "0")]
    day = datetime(2026, 7, 2, 0, 30, 5) - datetime(1899, 12, 30)  # noqa: DTZ001  # as Excel counts
    assert float(found[3][1]) == pytest.approx(day.total_seconds() / 86_400)
    assert found[4:] == [("s", 'Zoë, "Z"\nÄ'), ("s", "1-2")]


def test_odd_names_of_sheets_and_texts_too_long_make_a_file_all_the_same() -> None:
    (_, (cell,)), _ = read_xlsx(to_xlsx(["a"], [["x" * 40_000]], sheet="[600]: a/b\\c?*" + "y" * 40))
    assert len(cell[1]) == 32_767
    (_, (bell,)), _ = read_xlsx(to_xlsx(["a"], [["\x07 \ud800"]], sheet=""))
    assert bell[0] == "s"
    assert read_csv(to_csv(["a"], [["\ud800"]]))[1] == ["?"]
