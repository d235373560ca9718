"""Fixes for Streamlit: what a click's run has drawn reaches the browser before a timer's run starts."""

import asyncio
from types import SimpleNamespace

import pytest
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

from pbx.ui import streamlit_patches

TIMER = RerunData(fragment_id="queues", is_auto_rerun=True)


async def handled_in_order(monkeypatch: pytest.MonkeyPatch, runner: object, next_runner: object) -> list[str]:
    """What the event loop handles when a timer's request finds this runner, and the next one after its last message."""
    order: list[str] = []
    loop = asyncio.get_running_loop()
    session = SimpleNamespace(_scriptrunner=runner, _event_loop=loop)
    monkeypatch.setattr(streamlit_patches, "_create_runner", lambda *_: order.append("a new runner"))

    def last_message() -> None:
        order.append("the last message")
        session._scriptrunner = next_runner

    loop.call_soon(last_message)
    streamlit_patches._create_runner_after_messages(session, TIMER)  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    return order


def runner(*, accepts: bool) -> SimpleNamespace:
    return SimpleNamespace(request_rerun=lambda _: accepts)


@pytest.mark.parametrize(
    ("found", "next_runner", "expected"),
    [
        (None, None, ["a new runner", "the last message"]),
        (runner(accepts=False), None, ["the last message", "a new runner"]),
        (runner(accepts=False), runner(accepts=False), ["the last message", "a new runner"]),
        (runner(accepts=False), runner(accepts=True), ["the last message"]),
    ],
    ids=["no runner", "an ended runner", "an ended runner that stays", "a new runner of another request"],
)
def test_a_timer_waits_for_the_last_messages_of_a_click(
    monkeypatch: pytest.MonkeyPatch, found: object, next_runner: object, expected: list[str]
) -> None:
    assert asyncio.run(handled_in_order(monkeypatch, found, next_runner)) == expected
