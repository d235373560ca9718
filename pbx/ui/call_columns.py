"""The columns of every list of calls, and the cells of a call in them."""

from pbx.formatting import DIRECTIONS, NOTHING, RECORDING_STATES, TRANSCRIPTION_STATES, duration_text
from pbx.store.models import CallRow
from pbx.ui.active_pbx import Site
from pbx.ui.table import TableCell

CALL_COLUMNS = ("Started|", "From", "To", "Duration>", "Recording|", "Transcript|", "Source|")
SHORT_CALL_COLUMNS = ("Call", "Transcript|")  # beside an open call


def call_cells(site: Site, call: CallRow) -> list[TableCell]:
    """Return the cells of a call, one for each of CALL_COLUMNS."""
    state, tone = RECORDING_STATES.get(call.state, (call.state, "idle"))
    queue = f"Queue {call.queue}" if call.queue != call.to_number else "Queue"
    via = [queue if call.queue else "", f"Agent {site.agent_text(call.agent)}" if call.agent else ""]
    return [
        {"text": site.local(call.started_at), "sub": (DIRECTIONS.get(call.direction) or call.direction)},
        call.from_number or "Unknown",
        {"text": call.to_number or "Unknown", "sub": " · ".join(filter(None, via))},
        duration_text(call.duration_s),
        {"text": state, "tone": tone},
        transcript_cell(call),
        {"text": site.source_name(call.source), "badge": "yes"},
    ]


def short_call_cells(site: Site, call: CallRow) -> list[TableCell]:
    """Return the cells of a call, one for each of SHORT_CALL_COLUMNS."""
    numbers = f"{call.from_number or 'Unknown'} → {call.to_number or 'Unknown'}"
    length = "" if call.duration_s is None else f", {duration_text(call.duration_s)}"
    return [
        {"text": numbers, "sub": f"{site.local(call.started_at)}{length}"},
        transcript_cell(call),
    ]


def transcript_cell(call: CallRow) -> TableCell:
    """Return the state of a call's transcript; a dash if there is nothing to transcribe."""
    if call.state != "downloaded" and call.transcription == "new":
        return NOTHING
    state, tone = TRANSCRIPTION_STATES.get(call.transcription, (call.transcription, "idle"))
    return {"text": state, "tone": tone}
