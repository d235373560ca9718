"""Starts the demo as on a first visit: the app with an empty data directory, and a click on the demo button."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from playwright.sync_api import Browser
from sqlalchemy import Engine

from pbx.settings import Settings
from pbx.store.engine import open_engine
from tests.browser.app import running_app
from tests.browser.chromium import open_page
from tests.unit.speech.synthetic_speech import CHECKPOINT

READY_MS = 120_000
APP_VARIABLES = ("FREEPBX_", "PBX_", "WHISPER_", "ANALYSIS_")


@dataclass(frozen=True)
class Demo:
    """The app showing the demo: its address, and the demo's database to compare pages with."""

    address: str
    engine: Engine


@contextmanager
def running_demo(chromium: Browser, data_dir: Path) -> Iterator[Demo]:
    """Start the app on an empty directory and start the demo; yields when Today shows it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(APP_VARIABLES)}
    with patch.dict(os.environ, environment, clear=True), running_app(data_dir, WHISPER_MODEL=str(CHECKPOINT)) as app:
        page = open_page(chromium)
        page.goto(app)
        page.get_by_role("button", name="Try with a demo PBX").click(timeout=READY_MS)
        page.get_by_text("Latest calls").wait_for(timeout=READY_MS)
        page.context.close()
        engine = open_engine(Settings(_env_file=None, pbx_data_dir=data_dir / "demo"))
        try:
            yield Demo(app, engine)
        finally:
            engine.dispose()
