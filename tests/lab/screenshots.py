"""`python -m tests.lab.screenshots`: the README's screenshots, of the app on the lab's Asterisk 16.

What is shown was real: calls placed on the lab, snapshots taken of it. A trunk is cut off and restored on the way, and
espeak-ng speaks for agent and caller.
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
from tests.lab.server import SERVERS, LabServer, wait_until
from tests.lab.speech import join_sides, place_spoken_call
from tests.speech.say import CHECKPOINT, Clip, say

TARGET = ROOT / "docs/screenshots"
WIDTH, HEIGHT, LIMIT_BYTES = 1440, 900, 300_000
LOOKS, LOOK_EVERY_S = 90, 6  # how often the PBX is looked at before the pictures are taken
TALKS = [  # what agent and caller say in turns; the small checkpoint of the tests knows no other sentences
    (
        "billing",
        "Carol",
        "I want to cancel my order.",
        "My account number is four seven one one.",
        "Yes that is correct.",
    ),
    ("support", "Peter", "I need help with my phone.", "The extension is two zero five.", "No thank you."),
    ("sales", "Emma", "I need help with my invoice.", "My account number is nine two six.", "Yes that is correct."),
    (
        "billing",
        "David",
        "I want to cancel my account.",
        "My account number is three one eight.",
        "Yes that is correct.",
    ),
]


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


def talk(server: LabServer) -> None:
    """Calls in which something is said, each side on a channel of its own."""

    def place(department: str, name: str, *wishes: str) -> None:
        agent = (
            f"Thank you for calling {department}.",
            f"Hello {name} how can I help you?",
            "Please hold while I transfer your call.",
            f"Goodbye {name}.",
        )
        caller = (f"My name is {name}.", *wishes)
        voices = ("en-us+f1", "en-gb+m3")
        sides = [
            [Clip(text, voice, say(text, voice)) for text in said]
            for voice, said in zip(voices, (agent, caller), strict=True)
        ]
        join_sides(place_spoken_call(server, sides[1], sides[0], in_turns=True, legs=True))

    with ThreadPoolExecutor(len(TALKS)) as pool:
        list(pool.map(lambda words: place(*words), TALKS))


def picture_all(address: str) -> None:
    with browser(WIDTH, HEIGHT) as page:
        page.goto(address)
        page.get_by_role("button", name="Sync FreePBX").click()
        page.get_by_text("Sync done:").wait_for(timeout=120_000)
        page.get_by_text("Sync done:").wait_for(state="hidden", timeout=60_000)
        save(page, "today-light")
        go(page, "Transcripts")
        wait_until("all that was said can be found", lambda: found(page, "phone OR order OR invoice OR account"), 300)
        save(page, "transcripts-light")
        page.locator("a.hit").filter(has_text="cancel my order").click()
        page.locator(".word").first.wait_for()
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


def found(page: Page, query: str) -> bool:
    """Search for it; whether every talk is among what is found."""
    search = page.get_by_role("searchbox", name="Search what was said")
    search.fill("")
    search.press("Enter")
    search.fill(query)
    search.press("Enter")
    page.wait_for_timeout(3000)
    return all(page.locator("a.hit").filter(has_text=talk[2]).count() for talk in TALKS)


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
        talk(server)
        speech = {"WHISPER_MODEL": str(CHECKPOINT), "WHISPER_LANGUAGE": "en", "WHISPER_STRETCHES": "1"}
        with running_app(data_dir, FREEPBX_COLLECT_INTERVAL_MINUTES="1", **speech) as address:
            picture_all(address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
