"""The words of a call from the telephone to the browser: recorded, downloaded, transcribed, found and played."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from pbx.speech.audio import SPEECH_HZ, load_sound
from tests.lab.browser import browser, go, running_app
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.lab.spoken_calls import SpokenCall, place_spoken_call
from tests.lab.test_player import position_after_click
from tests.lab.test_speech import freepbx
from tests.unit.speech.synthetic_speech import Clip, say

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]  # transcription runs at a low priority
NEAR_S = 0.3
SLOW_MS = 90_000


def clip(text: str, voice: str) -> Clip:
    return Clip(text, voice, say(text, voice))


@pytest.fixture
def spoken(server: LabServer) -> SpokenCall:
    """A call in which the agent speaks first, in one recording with one channel, as FreePBX records."""
    agent = [
        clip(text, "en-us+f1") for text in ("Thank you for calling support.", "Please hold while I transfer your call.")
    ]
    caller = [clip(text, "en-gb+m3") for text in ("I want to cancel my phone.", "No thank you.")]
    return place_spoken_call(server, caller, agent, in_turns=True)


@pytest.fixture
def page(server: LabServer, spoken: SpokenCall, no_real_data: Path) -> Iterator[Page]:
    with running_app(no_real_data, **freepbx(server)) as address, browser() as page:
        page.goto(address)
        yield page
        assert page.console_errors == []  # type: ignore[attr-defined]


def test_words_are_found_by_search_and_played_at_their_position(page: Page, spoken: SpokenCall) -> None:
    number = spoken.call.caller.partition("<+")[2].rstrip(">")
    wait_for_transcript(page, number)
    go(page, "Transcripts")
    search = page.get_by_role("searchbox", name="Search what was said")
    search.fill("cancel*")
    search.press("Enter")
    page.get_by_label("Number", exact=True).fill(number)
    hit = page.locator("a.hit").filter(has_text="cancel my phone")
    expect(hit).to_have_count(1, timeout=SLOW_MS)
    expect(hit.locator("mark")).to_have_text("cancel")
    hit.click()
    audio = page.locator("audio")
    audio.wait_for(state="attached", timeout=SLOW_MS)
    wait_until("the sound is loaded", lambda: audio.evaluate("audio => audio.readyState") >= 1)
    for phrase in (spoken.caller[0], spoken.agent[0], spoken.agent[1]):
        line = page.locator(".line").filter(has_text=phrase.text)
        expect(line).to_have_count(1)
        assert position_after_click(audio, line.locator(".word").first) == pytest.approx(
            true_start_s(spoken, phrase), abs=NEAR_S
        )


def wait_for_transcript(page: Page, number: str) -> None:
    """Sync with the button, and wait until the worker has transcribed the call."""
    page.get_by_role("button", name="Sync FreePBX").click()
    page.get_by_test_id("stToast").filter(has_text="Sync done:").first.wait_for(timeout=SLOW_MS)
    go(page, "Interactions")
    page.get_by_label("Number", exact=True).fill(number)
    row = page.locator("tr[data-id]").filter(has_text=number)
    expect(row).to_have_count(1)
    for _ in range(60):
        if "Completed" in row.inner_text():
            return
        page.wait_for_timeout(1000)
        page.reload()
        row.wait_for()
    pytest.fail(f"never transcribed: {row.inner_text()}")


def true_start_s(spoken: SpokenCall, phrase: Clip) -> float:
    """The start of a phrase in the recording: where the recording correlates best with the clip."""
    recorded = load_sound(spoken.call.recording_file)[0]
    size = 1 << (len(recorded) + len(phrase.sound) - 1).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(recorded, size) * np.conj(np.fft.rfft(phrase.sound, size)), size)
    return float(correlation[: len(recorded)].argmax()) / SPEECH_HZ
