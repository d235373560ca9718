"""CSV and Excel exports, read back: text from callers never runs as a formula, and numbers and times stay exact."""

import csv
import io
import time
import unicodedata
import zipfile
from datetime import UTC, datetime
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.export.tables import CellValue, to_csv, to_xlsx

BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2026, 7, 1, 22, 30, 5, tzinfo=UTC)
FORMULAS = ["=1+1", "+4930123", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=HYPERLINK("http://x","y")']
FORMULAS += [
    f"{invisible}=1+1" for invisible in "\ufeff\u200b\u200d\u2060\x00\x1b\x7f\xa0\xad\u202e\u3000\ufe0f\u2800\U000e0041"
]
INNER = [
    "x;=1+1",
    "x;=1+1;y",
    "x\t@SUM(A1)",
    "x\n-2+3",
    "x\r\n=1",
    "x|=1",
    'x;"=1+1";y',
    "x; \u200b=1",
    "x;＝1",
    "x;\x00+1",
]
# The characters that a spreadsheet may use to separate cells: one of its country or its import dialog, or several.
SEPARATORS = [",", ";", "\t", "|", ",;\t"]
SIGNS = "=+-@\u2212"
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def read_xlsx(data: bytes) -> tuple[list[list[tuple[str, str]]], bool]:
    """The cells of the sheet (type and text), and whether the sheet has a formula."""
    book = zipfile.ZipFile(io.BytesIO(data))
    shared = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
    texts = ["".join(part.text or "" for part in item.iter(f"{MAIN}t")) for item in shared.iter(f"{MAIN}si")]
    sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    found = []
    for row in sheet.iter(f"{MAIN}row"):
        cells = [(cell.get("t", "n"), cell.findtext(f"{MAIN}v") or "") for cell in row.iter(f"{MAIN}c")]
        found.append([(kind, texts[int(text)] if kind == "s" else text) for kind, text in cells])
    return found, next(sheet.iter(f"{MAIN}f"), None) is not None


def cells_of(text: str, separators: str) -> list[str]:
    """Split text into cells as a spreadsheet does: quotes at the start of a cell enclose it, others are plain text."""
    cells, position, text = [], 0, text.replace("\r\n", "\n").replace("\r", "\n")
    while position < len(text):
        cell = ""
        if text[position] == '"':
            position += 1
            while position < len(text) and (text[position] != '"' or text[position : position + 2] == '""'):
                cell += text[position]
                position += 2 if text[position] == '"' else 1
            position += 1
        while position < len(text) and text[position] not in separators + "\n":
            cell += text[position]
            position += 1
        cells.append(cell)
        position += 1
    return cells


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet may run a cell as a formula after it removes invisible characters."""
    ignored = ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn")
    visible = "".join(char for char in cell if unicodedata.category(char) not in ignored).lstrip(
        "\u2800\u3164\uffa0\u115f\u1160"
    )
    return bool(visible) and unicodedata.normalize("NFKC", visible[0])[:1] in tuple(SIGNS)


def formulas_in(rows: list[list[str]]) -> list[str]:
    text = to_csv(["Caller"] * len(rows[0]), rows).decode("utf-8-sig")
    return [cell for separators in SEPARATORS for cell in cells_of(text, separators) if is_formula(cell)]


@pytest.mark.parametrize("text", FORMULAS + INNER)
def test_text_that_looks_like_a_formula_does_not_run(text: str) -> None:
    for row in ([text], ["first", text], ["first", text, "last"]):
        assert formulas_in([row]) == []
    (_, (cell,)) = read_csv(to_csv(["Caller"], [[text]]))
    assert cell.replace("'", "") == text  # nothing is lost
    (_, (found,)), formula = read_xlsx(to_xlsx(["Caller"], [[text]]))
    assert found[0] == "s"
    assert not formula


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.lists(
            st.text(st.one_of(st.sampled_from("=+-@;,\t\r\n|\"' x1\x00\ufeff\u200b＝"), st.characters(codec="utf-8"))),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_formula_with_any_cell_separator(rows: list[list[str]]) -> None:
    assert formulas_in(rows) == []


def test_many_invisible_characters_are_fast() -> None:
    started = time.monotonic()
    to_csv(["a"], [[run * 60_000] for run in ("\t", "\x00", ";", " ", ";\x00", "\n ", '"', ";=")])
    assert time.monotonic() - started < 2


def test_every_field_is_quoted() -> None:
    assert to_csv(["a", "b", "c"], [["x", 1, None]]).decode("utf-8-sig") == '"a","b","c"\r\n"x","1",""\r\n'


def test_text_that_looks_like_a_formula_stays_text_when_its_cell_is_edited_in_excel() -> None:
    book = zipfile.ZipFile(io.BytesIO(to_xlsx(["a"], [["plain"], ["\u200b=1+1"]])))
    styles = ElementTree.fromstring(book.read("xl/styles.xml"))
    prefixed = [style.get("quotePrefix") == "1" for style in next(styles.iter(f"{MAIN}cellXfs"))]
    sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    assert [prefixed[int(cell.get("s", 0))] for cell in sheet.iter(f"{MAIN}c")] == [False, False, True]


def test_a_column_named_like_a_formula_is_text_too() -> None:
    assert read_csv(to_csv(["=A1"], [])) == [["'=A1"]]
    ((cell,),), formula = read_xlsx(to_xlsx(["=A1"], []))
    assert (cell, formula) == (("s", "=A1"), False)


def test_numbers_times_and_missing_values_are_exact() -> None:
    row: list[CellValue] = [-5, 83.25, 0, None, float("nan"), AT, 'Zoë, "Z"\nÄ', "1-2"]
    _, cells = read_csv(to_csv(list("abcdefgh"), [row], BERLIN))
    assert cells == ["-5", "83.25", "0", "", "", "2026-07-02 00:30:05", 'Zoë, "Z"\nÄ', "1-2"]
    (_, found), _ = read_xlsx(to_xlsx(list("abcdefgh"), [row], BERLIN))
    assert found[:3] == [("n", "-5"), ("n", "83.25"), ("n", "0")]
    day = datetime(2026, 7, 2, 0, 30, 5) - datetime(1899, 12, 30)  # noqa: DTZ001  # as Excel counts
    assert float(found[3][1]) == pytest.approx(day.total_seconds() / 86_400)
    assert found[4:] == [("s", 'Zoë, "Z"\nÄ'), ("s", "1-2")]


def test_odd_sheet_names_and_long_texts_make_a_valid_file() -> None:
    (_, (cell,)), _ = read_xlsx(to_xlsx(["a"], [["x" * 40_000]], sheet="[600]: a/b\\c?*" + "y" * 40))
    assert len(cell[1]) == 32_767
    (_, (bell,)), _ = read_xlsx(to_xlsx(["a"], [["\x07 \ud800"]], sheet=""))
    assert bell[0] == "s"
    assert read_csv(to_csv(["a"], [["\ud800"]]))[1] == ["?"]
