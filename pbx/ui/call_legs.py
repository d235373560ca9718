"""The legs of an open call: who called whom over which trunk, when they were answered, and how they ended."""

from datetime import datetime

import streamlit as st

from pbx.formatting import DISPOSITIONS, NOTHING, count_text, duration_text
from pbx.model.channels import peer_of
from pbx.model.hangup_causes import cause_text
from pbx.store.engine import reading
from pbx.store.legs import legs_of
from pbx.store.models import LegRow
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import note
from pbx.ui.table import TableCell, table

_TONES = {"ANSWERED": "good", "": "busy", "NO ANSWER": "idle"}
_HUNG_UP = {"caller": "the caller hung up", "called": "the called party hung up"}
_COLUMNS = ("From", "To", "Via", "Started|", "Answered|", "Ended|", "Outcome")


def show_legs(site: Site, call_id: int) -> None:
    """Draw the table of a call's legs in the order they started; nothing if it has none."""
    with reading(site.engine) as session:
        legs = legs_of(session, call_id)
    if not legs:
        return
    st.markdown("##### Legs")
    table("Legs", _COLUMNS, {str(leg.id): _cells(site, leg) for leg in legs}, key=f"legs_{call_id}")
    names = {"cdr": "the CDR", "live": "live events"}
    sources = " and ".join(sorted({names.get(leg.source, leg.source) for leg in legs}))
    note(f"{count_text(len(legs), 'leg')} from {sources}, times in {site.zone_name}")


def _cells(site: Site, leg: LegRow) -> list[TableCell]:
    ended = (DISPOSITIONS.get(leg.disposition) or leg.disposition) if leg.disposition else "In progress"
    ringing = "" if leg.pdd_s is None else f"first ring after {leg.pdd_s:.1f} s"
    talk = "" if not leg.billsec_s else f"talked {duration_text(leg.billsec_s)}"
    # The PBX, for example its menu or queue, answered before the called party did.
    if leg.bridged_at and leg.answered_at and leg.bridged_at > leg.answered_at:
        talk = f"connected at {_clock(site, leg.bridged_at)}"
    ending = f"transferred to {leg.transferred_to}" if leg.transferred_to else _HUNG_UP.get(leg.ended_by, "")
    return [
        {"text": leg.src or peer_of(leg.channel) or "Unknown", "sub": leg.channel},
        {"text": leg.dst or leg.did or "Unknown", "sub": leg.dst_channel},
        {"text": _via(leg), "sub": leg.context},
        {"text": _clock(site, leg.started_at), "sub": ringing},
        {"text": _clock(site, leg.answered_at), "sub": talk},
        {"text": _clock(site, leg.ended_at), "sub": ending},
        {"text": ended, "sub": cause_text(leg.cause), "tone": _TONES.get(leg.disposition, "bad")},
    ]


def _via(leg: LegRow) -> str:
    return " → ".join(filter(None, (leg.trunk, leg.onward_trunk))) or leg.last_app or NOTHING


def _clock(site: Site, moment: datetime | None) -> str:
    return f"{moment.astimezone(site.zone):%H:%M:%S}" if moment else NOTHING
