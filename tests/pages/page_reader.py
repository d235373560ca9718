"""Opens the app's pages without a browser, presses their buttons and reads what they show."""

import csv
import io
import json
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pbx.ui.page_elements import SCROLL_TO_TOP
from tests.paths import ROOT

TODAY = "pages/today/overview.py"
INTERACTIONS = "pages/calls/interactions.py"
QUEUES = "pages/live/queues.py"
TRUNKS = "pages/live/trunks.py"
EXTENSIONS = "pages/live/extensions.py"
SETTINGS = "pages/settings/freepbx.py"
PAGES = [TODAY, INTERACTIONS, QUEUES, TRUNKS, EXTENSIONS, SETTINGS]


def open_page(page: str = TODAY, **query: str | list[str]) -> AppTest:
    """Open a page through streamlit_app.py, with these parameters in its URL."""
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60)
    if page != TODAY:
        app.run()
        app.switch_page(page)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def without_errors(app: AppTest) -> AppTest:
    """Assert that a page raised no exception, and return the page."""
    assert [error.message for error in app.exception] == []
    return app


def press(app: AppTest, label: str) -> AppTest:
    """Press the first button with this label, and return the page after it ran without errors."""
    return without_errors(next(button for button in app.button if button.label == label).click().run())


def opened_url(app: AppTest) -> str:
    """The URL that the page just sent the browser to."""
    (address,) = {
        found[1] for html in app.get("html") if (found := re.search(r"goToPage\((\".*?\")\)", html.proto.body))
    }
    return str(json.loads(address))


def tables(app: AppTest) -> dict[str, list[list[str]]]:
    """The rows of each table, by the table's label, each cell as text."""
    rows_by_label = {}
    for element in app.get("bidi_component"):
        data = json.loads(element.proto.json)
        if "rows" not in data:
            continue
        rows_by_label[data["label"]] = [[cell_text(cell) for cell in row["cells"]] for row in data["rows"]]
    return rows_by_label


def exported_tables(
    page: str, query: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[dict[str, str]]]:
    """The rows of the CSV files that a page offers, by the key of the table."""
    files: dict[str, str] = {}

    def collect(label: str, data: Any, **more: Any) -> None:
        if label == "CSV":
            files[more["key"].removesuffix("_csv")] = data().decode("utf-8-sig")

    monkeypatch.setattr("pbx.ui.exports.st.download_button", collect)
    without_errors(open_page(page, **query))
    return {key: list(csv.DictReader(io.StringIO(text, newline=""))) for key, text in files.items()}


def cell_text(cell: Any) -> str:
    """A cell's text, with its second line after a bar."""
    return cell if isinstance(cell, str) else " | ".join(filter(None, (cell["text"], cell.get("sub"))))


def page_text(app: AppTest) -> str:
    """The text of a page without its tables and without the script that every page has."""
    kinds = ("markdown", "caption", "error", "warning", "info")
    elements: list[Any] = [element for kind in kinds for element in app.get(kind)]
    elements += [*app.title, *app.subheader, *app.metric]
    html = [element.proto.body.replace(SCROLL_TO_TOP, "") for element in app.get("html")]
    return "\n".join([*(element.value for element in elements), *html])


def wallboard_html(app: AppTest) -> str:
    """The HTML of the wallboard."""
    (board,) = [element.proto.body for element in app.get("html") if 'class="board"' in element.proto.body]
    return str(board)
