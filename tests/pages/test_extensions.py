"""The page Extensions: devices and active calls."""

import pytest
from sqlalchemy import Engine

from tests.pages.page_reader import EXTENSIONS, open_page, tables, without_errors
from tests.pages.sample_data import add_sample_data

pytestmark = pytest.mark.usefixtures("no_worker")


def test_extensions_show_devices_and_active_calls(engine: Engine) -> None:
    add_sample_data(engine)
    shown = tables(without_errors(open_page(EXTENSIONS)))
    assert shown["Extensions"][0][:2] == ["support | PJSIP", "Free"]
    assert shown["Active calls"][0][0] == "support | +4930123"
