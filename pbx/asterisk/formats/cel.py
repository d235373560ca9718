"""Channel event logging (CEL): adds to legs what the CDR doesn't record. Pure: the caller passes in the table's rows.

As observed on Asterisk 16 and 22:
- HANGUP: `extra` holds {"hangupcause": a Q.850 cause or 0, "hangupsource": a channel, "dialplan/builtin" or ""}.
- BRIDGE_ENTER: of two bridged channels, the second one's event names the first as `peer`.
- BLINDTRANSFER: the channel is the one that transferred the call; `extra` holds extension and transferee_channel_name.
- ATTENDEDTRANSFER: `extra` holds transfer_target_channel_name. Asterisk 22 sometimes writes "N/A"; then the target is
  the other channel that the transferring channel was bridged with.

`hangupsource` is set when the remote end hung up. It is empty when Asterisk or a Local channel did; then CEL doesn't
show who ended the call. CEL has no event for ringing, so it gives no post-dial delay.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from pbx.asterisk.formats.cdr import UnreadableRow, local_moment, small_int
from pbx.model.channels import peer_of
from pbx.model.history import Leg
from pbx.text_encoding import text_of

EVENTS = ("HANGUP", "BRIDGE_ENTER", "BLINDTRANSFER", "ATTENDEDTRANSFER")  # all others are skipped
COLUMNS = ("eventtype", "eventtime", "channame", "linkedid", "peer", "extra")
_HALF = re.compile(r";([12])$")
_SLACK = timedelta(seconds=2)  # CDR and CEL round their times differently
_SUMMER = timedelta(hours=1)
_MAX_LENGTH = timedelta(days=1)  # assumed for a leg whose end isn't known
_Pair = frozenset[str]


@dataclass(slots=True)
class CallEvents:
    """The events of one linkedid: hangup causes and sources by channel, bridges and transfers by pair of channels."""

    causes: dict[str, int] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    bridged: dict[_Pair, datetime] = field(default_factory=dict)  # the first bridge, in the PBX's local time
    transfers: dict[_Pair, str] = field(default_factory=dict)  # of one channel where the other is unknown
    transferers: dict[_Pair, str] = field(default_factory=dict)


def add_row(calls: dict[str, CallEvents], row: Mapping[str, Any]) -> None:
    """Add one row, keyed by column names in lower case, to the events of its call. Raises UnreadableRow."""
    name, channel = text_of(row.get("eventtype")), text_of(row.get("channame"))
    linkedid = text_of(row.get("linkedid"))
    if name not in EVENTS:
        return
    if not (linkedid and channel):
        raise UnreadableRow(f"{name} names no channel or no linkedid")
    call = calls.setdefault(linkedid, CallEvents())
    if name == "BRIDGE_ENTER":
        local = local_moment(row.get("eventtime"))
        if local is None:
            raise UnreadableRow(f"its time is {text_of(row.get('eventtime'))[:30]!r}")
        for peer in filter(None, text_of(row.get("peer")).split(",")):
            pair = frozenset((channel, peer))
            call.bridged[pair] = min(local, call.bridged.get(pair, local))
        return
    extra = _extra(row)
    if name == "HANGUP":
        if cause := small_int(extra.get("hangupcause"), digits=3):
            call.causes[channel] = cause
        if source := text_of(extra.get("hangupsource")):
            call.sources[channel] = source
        return
    transferee = text_of(extra.get("transferee_channel_name"))
    to_channel = text_of(extra.get("transfer_target_channel_name")).replace("N/A", "")
    for one in {channel, text_of(extra.get("channel2_name"))} - {""}:
        pair = frozenset({one, transferee} - {"", "N/A"})
        call.transfers[pair] = text_of(extra.get("extension")) or peer_of(to_channel)
        call.transferers[pair] = one


def with_events(leg: Leg, call: CallEvents, zone: tzinfo) -> Leg:
    """A leg completed by the events of its call; what the events don't contain stays as it was.

    The cause is the called channel's, or that of its other half if it is a Local channel; for an answered call without
    one it is the caller's. Local times are read in `zone`, an hour off, or as UTC: whichever falls within the leg.
    """
    called = leg.dst_channel or leg.channel
    own = call.causes.get(called) or call.causes.get(_other_half(called))
    answered = leg.answered_at is not None
    bridged_at = None
    if leg.dst_channel and (local := call.bridged.get(frozenset((leg.channel, leg.dst_channel)))) is not None:
        bridged_at = _reading_within(local, leg, zone)
    transferred_to = _transfer(leg, call)
    ended_by = _ended_by(leg, call.sources.get(called, "")) if answered and not transferred_to else ""
    return replace(
        leg,
        cause=own or leg.cause or (call.causes.get(leg.channel) if answered else None),
        bridged_at=min((at for at in (bridged_at, leg.bridged_at) if at), default=None),
        ended_by=ended_by or leg.ended_by,
        transferred_to=transferred_to or leg.transferred_to,
    )


def _transfer(leg: Leg, call: CallEvents) -> str:
    if not leg.dst_channel:
        return ""
    both = frozenset((leg.channel, leg.dst_channel))
    pair = next((one for one in (both, frozenset((leg.dst_channel,))) if one in call.transfers), None)
    return "" if pair is None else call.transfers[pair] or _other_party(call, call.transferers[pair], both)


def _other_party(call: CallEvents, transferer: str, both: _Pair) -> str:
    """The party that a channel was bridged with last, other than the one in its leg."""
    bridges = {pair: at for pair, at in call.bridged.items() if transferer in pair and pair != both}
    return peer_of(next(iter(max(bridges, key=lambda pair: bridges[pair]) - {transferer}))) if bridges else ""


def _ended_by(leg: Leg, source: str) -> str:
    if source in (leg.dst_channel, _other_half(leg.dst_channel)) and source:
        return "called"
    return "caller" if source and source in (leg.channel, _other_half(leg.channel)) else ""


def _other_half(channel: str) -> str:
    """A Local channel's other half; "" for any other channel."""
    found = _HALF.search(channel)
    return f"{channel[: found.start()]};{3 - int(found[1])}" if found else ""


def _reading_within(local: datetime, leg: Leg, zone: tzinfo) -> datetime | None:
    """The first reading of a local time that falls within a leg; None when none does."""
    until = (leg.ended_at or leg.started_at + _MAX_LENGTH) + _SLACK
    found = (at for at in _readings(local, zone) if leg.started_at - _SLACK <= at <= until)
    return next((max(at, leg.started_at) for at in found), None)


def _readings(local: datetime, zone: tzinfo) -> Iterable[datetime]:
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return (first, second, first - _SUMMER, first + _SUMMER, local.replace(tzinfo=UTC))


def _extra(row: Mapping[str, Any]) -> Mapping[str, Any]:
    text = text_of(row.get("extra"))
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        raise UnreadableRow(f"its extra is not JSON: {text[:60]!r}") from None
    return found if isinstance(found, dict) else {}
