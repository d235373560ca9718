"""Legs that share a linkedid → what they tell about their call. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pbx.model.call import Call, CallDirection
from pbx.model.channels import extension_of, is_from_outside, is_local, is_to_outside, other_half, peer_of
from pbx.model.history import Leg

LegSource = Literal["watch", "cdr"]
# The most telling first. "" goes on still, so that what has failed so far says nothing yet of the call.
_DISPOSITIONS = ("ANSWERED", "", "NO ANSWER", "BUSY", "CONGESTION", "FAILED")
_NOBODY = {"", "s", "h", "i", "t", "~~s~~"}  # the dialplan's own extensions, dialled by nobody
_QUEUE_HALF, _AGENT_HALF = ";1", ";2"  # of a Local channel that a queue dials
_VOICEMAIL = {"VoiceMail", "Voicemail", "MiniVM"}
_LIVE_ONLY = ("cause", "pdd_s")
_NOTHING = (None, "")
_FIELDS = tuple(field.name for field in fields(Leg))


def fold_legs(legs: Sequence[Leg]) -> Call:
    """Fold the legs of one call, at least one, in any order.

    Where the call was put through to anybody (a leg with a dst_channel) or to voicemail, these legs alone tell how it
    went: Asterisk writes what the caller's channel did afterwards, if only to hang up, as one more row, and it is
    ANSWERED if a menu or a queue had answered before [seen on 16 and 22]. A caller for whom no agent of a queue even
    rang was not answered, whatever the CDR says.

    The first leg (the linkedid's own channel's) gives the caller, the first leg that somebody answered the agent: the
    extension called. Of an outbound call, answered or not, it is the one that called; of a Local channel the phone
    behind it. `talk_s` is the time in which at least one answered leg ran, so billsec where there is one; Asterisk
    counts billsec from when the *caller's* channel was answered, which is before the agent did where a queue or a menu
    answered first. Of an agent behind a Local channel its other half's leg tells when he answered, and of any leg CEL
    when the two were bridged, and that counts. `wait_s` lasts from the start until that answer. `queue` is what the
    CDR's Queue() names: the visits to queues know better, where any is known (pbx.store.call_queues).
    """
    legs = _from_agents_answer(sorted(legs, key=_order))
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
        disposition=min((_disposition(leg) for leg in _that_tell(legs)), key=_telling),
        talk_s=_talk_s(_that_tell(legs)),
        wait_s=(answered_at - started_at).total_seconds() if answered_at is not None else None,
        started_at=started_at,
        duration_s=(max(ended) - started_at).total_seconds() if len(ended) == len(legs) else None,
    )


def merge_legs(known: Leg, known_source: str, new: Leg, source: str) -> Leg:
    """One leg as two tell it. The CDR wins over live events but for what only these know; else the newer wins.

    Of two CDR rows of one pair of channels (a caller who comes back to the same dialplan) the whole time remains, and
    the longer of the two billsecs.
    """
    if known_source == source == "cdr" and (known.sequence is None or known.sequence != new.sequence):
        return _spanned(known, new)
    newer_wins = source == "cdr" or known_source == "watch"
    over, under = (new, known) if newer_wins else (known, new)
    told = {name: getattr(over, name) for name in _FIELDS if getattr(over, name) not in _NOTHING}
    merged = replace(under, **told)
    if known_source != source:
        live = known if known_source == "watch" else new
        merged = replace(merged, **{n: getattr(live, n) for n in _LIVE_ONLY if getattr(live, n) is not None})
    return replace(merged, linkedid=_truer(known, new))


def _truer(known: Leg, new: Leg) -> str:
    """The linkedid of two: one that is only the uniqueid again may have been put in place of one that isn't told."""
    return known.linkedid if new.linkedid == new.uniqueid else new.linkedid


def _spanned(one: Leg, two: Leg) -> Leg:
    early, late = sorted((one, two), key=lambda leg: (leg.started_at, leg.sequence or 0))
    told = {name: getattr(late, name) for name in _FIELDS if getattr(early, name) in _NOTHING}
    return replace(
        early,
        **told
        | {
            "linkedid": _truer(one, two),
            "answered_at": _pick(min, one.answered_at, two.answered_at),
            "ended_at": _pick(max, one.ended_at, two.ended_at),
            "duration_s": _pick(max, one.duration_s, two.duration_s),
            "billsec_s": _pick(max, one.billsec_s, two.billsec_s),
            "disposition": min(one.disposition, two.disposition, key=_telling),
        },
    )


def _pick(choose: Any, *values: Any) -> Any:
    return choose((value for value in values if value is not None), default=None)


def _from_agents_answer(legs: Sequence[Leg]) -> Sequence[Leg]:
    answers: dict[str, datetime] = {}
    for leg in legs:
        if leg.channel.endswith(_AGENT_HALF) and leg.answered_at is not None:
            answers[leg.channel] = min(leg.answered_at, answers.get(leg.channel, leg.answered_at))
    return [_answered_later(leg, answers) for leg in legs]


def _answered_later(leg: Leg, answers: Mapping[str, datetime]) -> Leg:
    at = leg.bridged_at
    if at is None and leg.last_app == "Queue" and leg.dst_channel.endswith(_QUEUE_HALF):
        at = answers.get(leg.dst_channel.removesuffix(_QUEUE_HALF) + _AGENT_HALF)
    if at is None or leg.answered_at is None or at <= leg.answered_at:
        return leg
    billsec_s = None if leg.billsec_s is None else max(leg.billsec_s - (at - leg.answered_at).total_seconds(), 0.0)
    return replace(leg, answered_at=at, billsec_s=billsec_s)


def _order(leg: Leg) -> tuple[bool, datetime, int, str]:
    return leg.uniqueid != leg.linkedid, leg.started_at, leg.sequence or 0, leg.uniqueid


def _telling(disposition: str) -> int:
    return _DISPOSITIONS.index(disposition) if disposition in _DISPOSITIONS else len(_DISPOSITIONS)


def _first_of(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def _that_tell(legs: Sequence[Leg]) -> Sequence[Leg]:
    """The legs that tell whether somebody answered."""
    return [leg for leg in legs if leg.dst_channel or leg.last_app in _VOICEMAIL] or legs


def _disposition(leg: Leg) -> str:
    waited_in_vain = leg.last_app == "Queue" and not leg.dst_channel and leg.disposition == "ANSWERED"
    return "NO ANSWER" if waited_in_vain else leg.disposition


def _answered(legs: Sequence[Leg]) -> list[tuple[datetime, Leg]]:
    return [(leg.answered_at, leg) for leg in legs if leg.answered_at is not None and _disposition(leg) == "ANSWERED"]


def _answering(legs: Sequence[Leg]) -> Leg | None:
    """The leg that somebody answered first, rather than voicemail."""
    answered = _answered(_that_tell(legs))
    return min(answered, key=lambda one: (not one[1].dst_channel, one[0]))[1] if answered else None


def _direction(legs: Sequence[Leg]) -> CallDirection:
    """By the first leg that came from outside or went there."""
    for leg in legs:
        if leg.did or is_from_outside(leg.context) or _goes_through(leg.channel, leg.trunk):
            return "inbound"
        if _goes_out(leg):
            return "outbound"
    return "internal"


def _goes_through(channel: str, trunk: str) -> bool:
    return bool(trunk) and not is_local(channel) and peer_of(channel) == trunk


def _goes_out(leg: Leg) -> bool:
    """Whether a leg went out, if only as far as a trunk that had no line left."""
    dialled = leg.onward_trunk or leg.outbound_number or is_to_outside(leg.context)
    return bool(dialled) or _goes_through(leg.dst_channel, leg.trunk)


def _agent(answering: Leg | None, first: Leg, direction: CallDirection, legs: Sequence[Leg]) -> str:
    if direction == "outbound":
        return _extension(first.channel, first.src, legs)
    if answering is None or _goes_out(answering):
        return ""
    return _extension(answering.dst_channel, answering.dst, legs)


def _extension(channel: str, number: str, legs: Sequence[Leg]) -> str:
    """Whose phone a channel is, of a Local channel the phone behind it, as far as the legs tell.

    Somebody outside is called by the number that the Local channel dialled.
    """
    behind = {
        leg.channel: leg
        for leg in sorted(legs, key=lambda leg: leg.answered_at is not None)
        if is_local(leg.channel) and leg.dst_channel
    }
    while leg := behind.pop(other_half(channel), None):
        if _goes_out(leg):
            break
        channel, number = leg.dst_channel, leg.dst
    return extension_of(channel, number)


def _talk_s(legs: Sequence[Leg]) -> float | None:
    """The time in which at least one of these legs had been answered."""
    spans = sorted(
        (answered_at, answered_at + timedelta(seconds=leg.billsec_s))
        for answered_at, leg in _answered(legs)
        if leg.billsec_s is not None
    )
    if not spans:
        return None
    talk, until = timedelta(), spans[0][0]
    for begun, ended in spans:
        talk += max(ended - max(begun, until), timedelta())
        until = max(until, ended)
    return talk.total_seconds()
