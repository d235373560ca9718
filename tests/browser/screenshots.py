"""`python -m tests.browser.screenshots` takes the README's screenshots of the demo."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from pbx.demo.demo_pbx import DemoPbx
from pbx.settings import Connection
from tests.browser.actions import choose
from tests.browser.app import running_app
from tests.browser.checks import settle, visual_problems
from tests.browser.chromium import launch_chromium, open_page
from tests.browser.demo import Demo, running_demo
from tests.paths import ROOT

TARGET = ROOT / "docs/screenshots"
WIDTH, HEIGHT, LIMIT_BYTES = 1440, 900, 300_000
SLOW_MS = 120_000
TO_THE_TOP = "(of) => document.querySelector('[data-testid=stMain]').scrollBy(0, of.getBoundingClientRect().top - 28)"


def main() -> int:
    TARGET.mkdir(parents=True, exist_ok=True)
    with launch_chromium() as chromium, tempfile.TemporaryDirectory() as folder:
        with running_demo(chromium, Path(folder) / "demo") as demo:
            picture_light(demo, chromium)
            picture_dark(demo, chromium)
        with running_app(Path(folder) / "check") as address, DemoPbx() as pbx:
            picture_check(address, chromium, pbx.connection())
    return 0


def picture_light(demo: Demo, chromium: Browser) -> None:
    page = new_page(chromium)
    go_to(page, f"{demo.address}/")
    page.get_by_text("Latest calls").wait_for()
    save(page, "today-light", 1040)
    go_to(page, f"{demo.address}/transcripts?q=order+OR+invoice")
    page.locator("a.hit").first.wait_for()
    save(page, "transcripts-light", 1130)
    go_to(page, f"{demo.address}/")
    page.get_by_role("button", name="Play a call").click()
    page.wait_for_function("document.querySelector('audio')?.currentTime > 8")
    page.keyboard.press("k")
    choose(page, "Transcript", "Completed")
    save(page, "interactions-light", 1135)
    go_to(page, f"{demo.address}/trunks?period=Last+7+days")
    page.locator(".js-plotly-plot").first.wait_for()
    save(page, "trunks-light", 1160)
    go_to(page, f"{demo.address}/agents?period=Last+7+days&agent=Grace+Adeyemi")
    page.locator(".js-plotly-plot").first.wait_for()
    save(page, "agents-light", 1370)
    page.context.close()


def picture_dark(demo: Demo, chromium: Browser) -> None:
    page = new_page(chromium, dark=True)
    go_to(page, f"{demo.address}/queues?period=Last+7+days")
    page.locator(".js-plotly-plot").nth(4).wait_for()
    page.set_viewport_size({"width": WIDTH, "height": 1110})
    page.get_by_role("heading", name="Reports").evaluate(TO_THE_TOP)
    save(page, "queues-dark", 1110)
    go_to(page, f"{demo.address}/explore?period=Last+7+days")
    page.locator(".js-plotly-plot").nth(2).wait_for()
    save(page, "explore-dark", 1020)
    go_to(page, f"{demo.address}/wallboard")
    save(page, "wallboard-dark", 720)
    page.context.close()


def picture_check(address: str, chromium: Browser, pbx: Connection) -> None:
    """The connection check, run on the demo PBX."""
    page = new_page(chromium)
    go_to(page, f"{address}/freepbx")
    page.get_by_label("Host name or address").fill(pbx.host)
    for name in ("ami", "ari"):
        title = name.upper()
        page.get_by_label(f"{title} user").fill(getattr(pbx, f"{name}_username"))
        page.get_by_label(f"{title} password", exact=True).fill(getattr(pbx, f"{name}_password").get_secret_value())
        page.get_by_label(f"{title} port").fill(str(getattr(pbx, f"{name}_port")))
    page.get_by_role("button", name="Check connection").click()
    page.get_by_test_id("stAlert").get_by_text("steps").wait_for()
    save(page, "check-light", 1580)
    page.context.close()


def new_page(chromium: Browser, *, dark: bool = False) -> Page:
    page = open_page(chromium, WIDTH, HEIGHT, dark=dark)
    page.set_default_timeout(SLOW_MS)
    return page


def go_to(page: Page, url: str) -> None:
    page.goto(url)
    page.locator(".data-label-pill, [data-testid=stForm]").first.wait_for()
    settle(page)


def save(page: Page, name: str, height: int) -> None:
    """Save the page as a PNG of this height in pixels, without a tooltip."""
    page.mouse.move(WIDTH - 5, HEIGHT - 5)
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(1500)  # animations end
    settle(page)
    file = TARGET / f"{name}.png"
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(file, optimize=True)
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1000} KB", *visual_problems(page), sep="\n  ")
    if file.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"{file} has {file.stat().st_size:,} bytes, more than {LIMIT_BYTES:,}.")


if __name__ == "__main__":
    sys.exit(main())
