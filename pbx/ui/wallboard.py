"""The wallboard: a large card for each queue, readable from across the room."""

import html
from collections.abc import Mapping, Sequence

import streamlit as st

from pbx.analytics.formulas.queues import QueueFigures
from pbx.formatting import duration_text, position_text
from pbx.model.snapshot import Queue
from pbx.ui.page_elements import UI_DIR

ON_A_CALL = (2, 3, 6, 7, 8)  # member states: in use, busy, ringing, ringing in use, on hold


def board(queues: Sequence[Queue], today: Mapping[str, QueueFigures], warn_s: float, bad_s: float) -> None:
    """Draw a card per queue in a fixed order, coloured by its longest wait (amber from `warn_s`, red from `bad_s`)."""
    across = 1 if len(queues) == 1 else 2 if len(queues) in (2, 4) else 3
    cards = "".join(_card(queue, today.get(queue.name, QueueFigures()), warn_s, bad_s) for queue in queues)
    st.html(UI_DIR / "board.css")
    st.html(f'<div class="board" style="--across: {across}">{cards}</div>')


def wait_tone(queue: Queue, warn_s: float, bad_s: float) -> str:
    """The colour of a card by the longest wait: good, warn or bad."""
    if not queue.calls:
        return "good"
    if queue.longest_wait_s >= bad_s:
        return "bad"
    return "warn" if queue.longest_wait_s >= warn_s else "good"


def _card(queue: Queue, today: QueueFigures, warn_s: float, bad_s: float) -> str:
    paused = sum(member.paused for member in queue.members)
    busy = sum(not member.paused and member.status in ON_A_CALL for member in queue.members)
    # Below an hour as a clock, 1:35, as words are too wide for a card.
    wait_text = position_text if queue.longest_wait_s < 3600 else duration_text
    wait = wait_text(queue.longest_wait_s) if queue.calls else "–"
    level = today.sl_offered.percent_text(0)
    about = f"Service level (offered calls): {today.sl_offered.parts_text()}"
    return (
        f'<section class="{wait_tone(queue, warn_s, bad_s)}"><h2>{html.escape(queue.name)}</h2><div class="now">'
        f'<div><span class="big">{queue.calls:,}</span><span class="label">waiting</span></div>'
        f'<div><span class="big wait">{wait}</span><span class="label">longest wait</span></div></div>'
        f'<div class="rest">{_small(queue.agents_available, "agents free", "" if queue.agents_available else "none")}'
        f"{_small(busy, 'on a call')}{_small(paused, 'paused')}"
        f'<div title="{about}"><span class="mid">{level}</span><span class="label">within target today</span></div>'
        f"{_small(today.abandoned, 'abandoned today')}</div></section>"
    )


def _small(count: int, label: str, tone: str = "") -> str:
    return f'<div><span class="mid {tone}">{count:,}</span><span class="label">{label}</span></div>'
