"""Combines the legs that share a linkedid into a call, and merges what two sources report about one leg."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pbx.model.call import Call, CallDirection
from pbx.model.channels import extension_of, is_from_outside, is_local, is_to_outside, other_half, peer_of
from pbx.model.history import Leg

LegSource = Literal["live", "cdr"]
# By precedence: a call has the first of these that any of its legs has. "" is a leg in progress, which takes precedence
# over attempts that have failed so far.
_DISPOSITIONS = ("ANSWERED", "", "NO ANSWER", "BUSY", "CONGESTION", "FAILED")
_NOBODY = {"", "s", "h", "i", "t", "~~s~~"}  # internal extensions of the dialplan that nobody dials
_QUEUE_HALF, _AGENT_HALF = ";1", ";2"  # endings of a Local channel that a queue dials
_VOICEMAIL = {"VoiceMail", "Voicemail", "MiniVM"}
_LIVE_ONLY = ("cause", "pdd_s")
_UNKNOWN = (None, "")
_FIELDS = tuple(field.name for field in fields(Leg))


def fold_legs(legs: Sequence[Leg]) -> Call:
    """Return the call that these legs belong to: at least one leg, in any order.

    Outcome: if any leg reached a phone (it has a dst_channel) or voicemail, only such legs count. Asterisk writes one
    more row for what the caller's channel did afterwards, even if it only hung up, and marks the row ANSWERED if a
    menu or queue had answered before [seen on 16 and 22]. A caller in a queue for whom no agent's phone rang counts as
    not answered, even though the CDR has ANSWERED.

    Caller: from the first leg, whose channel gave the call its linkedid. Agent: the extension called on the first leg
    that was answered; for an outbound call, the extension that called; for a Local channel, the phone that it dials.

    `talk_s`: the time during which at least one answered leg was connected (for a single leg, its billsec). Asterisk
    counts billsec from when the *caller's* channel was answered, which is too early if a queue or menu answered first.
    In that case, the agent's answer is taken from the leg of the Local channel's other half, or from the time at which
    CEL reports the two parties as bridged. `wait_s`: from the start until that answer. `queue`: the queue named in the
    CDR's Queue(); known queue visits replace it (pbx.store.queues_of_calls).
    """
    legs = _count_from_agents_answer(sorted(legs, key=_order))
    first, answering = legs[0], _answering(legs)
    direction = _direction(legs)
    started_at = min(leg.started_at for leg in legs)
    ended = [leg.ended_at for leg in legs if leg.ended_at is not None]
    answered_at = answering.answered_at if answering else None
    return Call(
        direction=direction,
        from_number=_first_of(leg.src for leg in legs) or (peer_of(first.channel) if direction != "inbound" else ""),
        from_name=first.from_name,
        to_number=_first_of(leg.dst for leg in legs if leg.dst not in _NOBODY and not leg.dst.startswith("s-"))
        or _first_of(leg.did for leg in legs),
        did=_first_of(leg.did for leg in legs),
        queue=_first_of(leg.dst for leg in legs if leg.last_app == "Queue" and leg.dst not in {*_NOBODY, leg.did}),
        agent=_agent(answering, first, direction, legs),
        disposition=min((_disposition(leg) for leg in _decisive(legs)), key=_rank),
        talk_s=_talk_s(_decisive(legs)),
        wait_s=(answered_at - started_at).total_seconds() if answered_at is not None else None,
        started_at=started_at,
        duration_s=(max(ended) - started_at).total_seconds() if len(ended) == len(legs) else None,
    )


def merge_legs(known: Leg, known_source: str, new: Leg, source: str) -> Leg:
    """Combine what two sources report about one leg.

    The CDR takes precedence over live events, except for facts that only live events contain; otherwise the newer
    source does. Two CDR rows with the same pair of channels (a caller who returns to the same dialplan) become one leg
    that spans both, with the longer of the two billsecs.
    """
    if known_source == source == "cdr" and (known.sequence is None or known.sequence != new.sequence):
        return _span_both(known, new)
    newer_wins = source == "cdr" or known_source == "live"
    over, under = (new, known) if newer_wins else (known, new)
    merged = replace(under, **{n: getattr(over, n) for n in _FIELDS if getattr(over, n) not in _UNKNOWN})
    if known_source != source:
        live = known if known_source == "live" else new
        merged = replace(merged, **{n: getattr(live, n) for n in _LIVE_ONLY if getattr(live, n) is not None})
    return replace(merged, linkedid=_better_linkedid(known, new))


def _better_linkedid(known: Leg, new: Leg) -> str:
    """Return the more reliable of two linkedids: the new one, unless it is the uniqueid because its source has none."""
    return known.linkedid if new.linkedid == new.uniqueid else new.linkedid


def _span_both(one: Leg, two: Leg) -> Leg:
    early, late = sorted((one, two), key=lambda leg: (leg.started_at, leg.sequence or 0))
    only_late = {name: getattr(late, name) for name in _FIELDS if getattr(early, name) in _UNKNOWN}
    return replace(
        early,
        **only_late
        | {
            "linkedid": _better_linkedid(one, two),
            "answered_at": _pick(min, one.answered_at, two.answered_at),
            "ended_at": _pick(max, one.ended_at, two.ended_at),
            "duration_s": _pick(max, one.duration_s, two.duration_s),
            "billsec_s": _pick(max, one.billsec_s, two.billsec_s),
            "disposition": min(one.disposition, two.disposition, key=_rank),
        },
    )


def _pick(choose: Any, *values: Any) -> Any:
    return choose((value for value in values if value is not None), default=None)


def _count_from_agents_answer(legs: Sequence[Leg]) -> Sequence[Leg]:
    answers: dict[str, datetime] = {}
    for leg in legs:
        if leg.channel.endswith(_AGENT_HALF) and leg.answered_at is not None:
            answers[leg.channel] = min(leg.answered_at, answers.get(leg.channel, leg.answered_at))
    return [_with_answer_time(leg, answers) for leg in legs]


def _with_answer_time(leg: Leg, answers: Mapping[str, datetime]) -> Leg:
    at = leg.bridged_at
    if at is None and leg.last_app == "Queue" and leg.dst_channel.endswith(_QUEUE_HALF):
        at = answers.get(leg.dst_channel.removesuffix(_QUEUE_HALF) + _AGENT_HALF)
    if at is None or leg.answered_at is None or at <= leg.answered_at:
        return leg
    billsec_s = None if leg.billsec_s is None else max(leg.billsec_s - (at - leg.answered_at).total_seconds(), 0.0)
    return replace(leg, answered_at=at, billsec_s=billsec_s)


def _order(leg: Leg) -> tuple[bool, datetime, int, str]:
    return leg.uniqueid != leg.linkedid, leg.started_at, leg.sequence or 0, leg.uniqueid


def _rank(disposition: str) -> int:
    return _DISPOSITIONS.index(disposition) if disposition in _DISPOSITIONS else len(_DISPOSITIONS)


def _first_of(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def _decisive(legs: Sequence[Leg]) -> Sequence[Leg]:
    """Return the legs that determine whether the call was answered."""
    return [leg for leg in legs if leg.dst_channel or leg.last_app in _VOICEMAIL] or legs


def _disposition(leg: Leg) -> str:
    reached_no_agent = leg.last_app == "Queue" and not leg.dst_channel and leg.disposition == "ANSWERED"
    return "NO ANSWER" if reached_no_agent else leg.disposition


def _answered(legs: Sequence[Leg]) -> list[tuple[datetime, Leg]]:
    return [(leg.answered_at, leg) for leg in legs if leg.answered_at is not None and _disposition(leg) == "ANSWERED"]


def _answering(legs: Sequence[Leg]) -> Leg | None:
    """Return the leg that was answered first: on a phone if there is one, otherwise by voicemail."""
    answered = _answered(_decisive(legs))
    return min(answered, key=lambda one: (not one[1].dst_channel, one[0]))[1] if answered else None


def _direction(legs: Sequence[Leg]) -> CallDirection:
    """Return the direction of the first leg that came from outside or went there, otherwise internal."""
    for leg in legs:
        if leg.did or is_from_outside(leg.context) or _goes_through(leg.channel, leg.trunk):
            return "inbound"
        if _goes_out(leg):
            return "outbound"
    return "internal"


def _goes_through(channel: str, trunk: str) -> bool:
    return bool(trunk) and not is_local(channel) and peer_of(channel) == trunk


def _goes_out(leg: Leg) -> bool:
    """Return whether a leg went to the outside, even if the trunk had no free line."""
    dialled = leg.onward_trunk or leg.outbound_number or is_to_outside(leg.context)
    return bool(dialled) or _goes_through(leg.dst_channel, leg.trunk)


def _agent(answering: Leg | None, first: Leg, direction: CallDirection, legs: Sequence[Leg]) -> str:
    if direction == "outbound":
        return _extension(first.channel, first.src, legs)
    if answering is None or _goes_out(answering):
        return ""
    return _extension(answering.dst_channel, answering.dst, legs)


def _extension(channel: str, number: str, legs: Sequence[Leg]) -> str:
    """Return the extension of a channel; for a Local channel, that of the phone it dials, if the legs contain it.

    For a Local channel that dials the outside, returns the number it dials.
    """
    dialled = {
        leg.channel: leg
        for leg in sorted(legs, key=lambda leg: leg.answered_at is not None)
        if is_local(leg.channel) and leg.dst_channel
    }
    while leg := dialled.pop(other_half(channel), None):
        if _goes_out(leg):
            break
        channel, number = leg.dst_channel, leg.dst
    return extension_of(channel, number)


def _talk_s(legs: Sequence[Leg]) -> float | None:
    """Return for how many seconds at least one of these legs was connected; None if unknown."""
    spans = sorted(
        (answered_at, answered_at + timedelta(seconds=leg.billsec_s))
        for answered_at, leg in _answered(legs)
        if leg.billsec_s is not None
    )
    if not spans:
        return None
    talk, until = timedelta(), spans[0][0]
    for started, ended in spans:
        talk += max(ended - max(started, until), timedelta())
        until = max(until, ended)
    return talk.total_seconds()
