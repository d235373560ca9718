"""`python -m tests.lab.screenshots`: the README's screenshots, of the app on the lab's Asterisk 16.

What is shown was real: calls placed on the lab, snapshots taken of it. A trunk is cut off and restored on the way.
"""

import io
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page
from sqlalchemy import Engine

from pbx.jobs.collect import collect_snapshot
from pbx.settings import Settings
from pbx.store.connections import ActiveConnection, save_connection
from pbx.store.engine import open_engine
from tests.lab.browser import ROOT, browser, go, running_app
from tests.lab.calls import NUMBERS, park_callers, place_queue_call, start_phone_call
from tests.lab.provision import LabError
from tests.lab.server import SERVERS, LabServer

TARGET = ROOT / "docs/screenshots"
WIDTH, HEIGHT, LIMIT_BYTES = 1440, 900, 300_000
LOOKS, LOOK_EVERY_S = 90, 6  # how often the PBX is looked at before the pictures are taken


def save(page: Page, name: str) -> None:
    """The whole page as a PNG, the mouse out of the way."""
    page.mouse.move(WIDTH - 5, HEIGHT - 5)
    page.wait_for_timeout(1500)
    height = int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight"))
    page.set_viewport_size({"width": WIDTH, "height": min(max(height, HEIGHT), 1500)})
    page.wait_for_timeout(1000)
    file = TARGET / f"{name}.png"
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(file, optimize=True)
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    if file.stat().st_size > LIMIT_BYTES:
        raise LabError(f"{file} has {file.stat().st_size:,} bytes, more than {LIMIT_BYTES:,}.")
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1000} KB")


def watch(server: LabServer, engine: Engine, active: ActiveConnection, stack: ExitStack) -> None:
    """Look at the PBX for some minutes while callers come and go, and its trunk is lost and comes back."""
    calls = stack.enter_context(ThreadPoolExecutor())
    for look in range(LOOKS):
        if look in (4, 22, 50):
            for call in park_callers(server, 2 if look == 22 else 1):
                stack.callback(call.hangup)
        if look in (8, 30, 52):
            calls.submit(place_queue_call, server, "answered", 45)
        if look in (12, 36):
            calls.submit(place_queue_call, server, "abandoned", 40)
        if look in (10, 28, 60):
            talk = start_phone_call(server, NUMBERS["answered"])
            calls.submit(lambda call=talk: (time.sleep(70), call.hangup()))
        if look in (34, 46):
            server.cli(f"pjsip send {'unregister' if look == 34 else 'register'} carrier")
        collect_snapshot(engine, active, output=None)
        time.sleep(LOOK_EVERY_S)


def picture_all(address: str) -> None:
    with browser(WIDTH, HEIGHT) as page:
        page.goto(address)
        page.get_by_role("button", name="Sync FreePBX").click()
        page.get_by_text("Sync done:").wait_for(timeout=120_000)
        page.get_by_text("Sync done:").wait_for(state="hidden", timeout=60_000)
        save(page, "today-light")
        go(page, "Interactions")
        page.locator("tr[data-id]", has_text="Recorded").first.click()
        page.locator("audio").wait_for(state="attached")
        save(page, "interactions-light")
        show(page, address, "trunks", "Trunks")
        save(page, "trunks-light")
        go(page, "FreePBX Integration")
        page.get_by_role("button", name="Test Connection").click()
        page.get_by_test_id("stAlert").get_by_text("steps").wait_for(timeout=120_000)
        page.get_by_test_id("stAlert").scroll_into_view_if_needed()
        save(page, "check-light")
    with browser(WIDTH, HEIGHT, dark=True) as page:
        show(page, address, "queues", "Queues", show="support")
        save(page, "queues-dark")


def show(page: Page, address: str, path: str, title: str, **query: str) -> None:
    page.goto(f"{address}/{path}?{urlencode(query | {'history': '15 min'})}")
    page.get_by_role("heading", name=title, level=1).wait_for()
    page.locator(".js-plotly-plot").first.wait_for()


def main() -> int:
    server = SERVERS[16]
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data_dir = Path(folder)
        settings = Settings(_env_file=None, pbx_data_dir=data_dir)
        engine = open_engine(settings)
        stack.callback(engine.dispose)
        stack.callback(server.cli, "pjsip send register carrier")
        pbx = save_connection(engine, settings, server.connection())
        watch(server, engine, ActiveConnection(pbx, server.connection(), saved=True), stack)
        with running_app(data_dir, FREEPBX_COLLECT_INTERVAL_MINUTES="1") as address:
            picture_all(address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
