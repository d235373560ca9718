"""The legs of an opened call: who was called through what, when somebody answered, and how it ended."""

from datetime import datetime

import streamlit as st

from pbx.formatting import DISPOSITIONS, NOTHING, cause_text, count_text, duration_text
from pbx.model.channels import peer_of
from pbx.store.engine import reading
from pbx.store.history_models import CallLeg
from pbx.store.legs import legs_of
from pbx.ui.active_pbx import Site
from pbx.ui.elements import note
from pbx.ui.tables import TableCell, table

_TONES = {"ANSWERED": "good", "": "busy", "NO ANSWER": "idle"}
_HUNG_UP = {"caller": "the caller hung up", "called": "the called hung up"}
_COLUMNS = ("From", "To", "Through", "Began|", "Answered|", "Ended|", "Outcome")


def show_legs(site: Site, call_id: int) -> None:
    """A call's legs, in the order they began; nothing where none are known."""
    with reading(site.engine) as session:
        legs = legs_of(session, call_id)
    if not legs:
        return
    st.markdown("##### Legs")
    table("Legs", _COLUMNS, {str(leg.id): _cells(site, leg) for leg in legs}, key=f"legs_{call_id}")
    sources = {"cdr": "the CDR", "watch": "live events"}
    told = " and ".join(sorted({sources.get(leg.source, leg.source) for leg in legs}))
    note(f"{count_text(len(legs), 'leg')}, told by {told}, times in {site.zone_name}")


def _cells(site: Site, leg: CallLeg) -> list[TableCell]:
    ended = DISPOSITIONS.get(leg.disposition, leg.disposition) if leg.disposition else "Not ended yet"
    rang = "" if leg.pdd_s is None else f"rang after {leg.pdd_s:.1f} s"
    talked = "" if not leg.billsec_s else f"for {duration_text(leg.billsec_s)}"
    if leg.bridged_at and leg.answered_at and leg.bridged_at > leg.answered_at:  # the caller's own channel was first
        talked = f"spoke from {_clock(site, leg.bridged_at)}"
    passed_on = f"passed on to {leg.transferred_to}" if leg.transferred_to else _HUNG_UP.get(leg.ended_by, "")
    return [
        {"text": leg.src or peer_of(leg.channel) or "Unknown", "sub": leg.channel},
        {"text": leg.dst or leg.did or "Unknown", "sub": leg.dst_channel},
        {"text": _through(leg), "sub": leg.context},
        {"text": _clock(site, leg.started_at), "sub": rang},
        {"text": _clock(site, leg.answered_at), "sub": talked},
        {"text": _clock(site, leg.ended_at), "sub": passed_on},
        {"text": ended, "sub": cause_text(leg.cause), "tone": _TONES.get(leg.disposition, "bad")},
    ]


def _through(leg: CallLeg) -> str:
    return " → ".join(filter(None, (leg.trunk, leg.onward_trunk))) or leg.last_app or NOTHING


def _clock(site: Site, moment: datetime | None) -> str:
    return f"{moment.astimezone(site.zone):%H:%M:%S}" if moment else NOTHING
