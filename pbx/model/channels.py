"""Reads the name of a channel: whose channel it is, and whether it belongs to a trunk.

Examples: `PJSIP/carrier-0000001a`, `SIP/1001-000003f2`, `IAX2/branch-4211`, `DAHDI/i1/5551234-1`,
`Local/1001@from-queue-000000d1;2`.
"""

import re
from collections.abc import Collection

# Prefixes that FreePBX adds to an extension dialled through a Local channel, for follow-me and ring groups.
_PREFIX = re.compile(r"(?:FMPR-|FMGL-|RG-\w+-)(?=\d)")
_ANALOG = ("DAHDI/", "Zap/", "Khomp/", "KHOMP/")  # drivers of cards, which identify a phone only by its port
# Channels that are never phones: ISDN, a modem, a paired mobile phone.
_LINE = re.compile(r"(?:DAHDI|Zap)/i\d+/|(?:Dongle|Datacard|Quectel|Mobile)/")
# The arguments of Dial when it dials a number through a trunk rather than a phone: `DAHDI/g0/5550101,300,T`.
_NUMBER_DIALLED = re.compile(r"(?!Local/)\w+/[^/,&@]+/(?:(?!sips?:)[a-z]+:)?[+*#\dwW]{2,}(?=[,/:&]|$)")
_FROM_OUTSIDE = ("from-trunk", "from-pstn", "from-did", "from-zaptel", "from-dahdi", "from-analog", "from-digital")
_TO_OUTSIDE = "macro-dialout-"  # trunk, enum and dundi, with any driver


def peer_of(channel: str) -> str:
    """Return the endpoint or peer of a channel; for a Local channel, the number it dials; "" if there is none."""
    _, slash, rest = channel.partition("/")
    if not slash:
        return ""
    if "@" in rest:
        return _PREFIX.sub("", rest.partition("@")[0]).rstrip("#")
    return rest.partition("/")[0] if "/" in rest else rest.rpartition("-")[0] or rest


def extension_of(channel: str, number: str) -> str:
    """Return the extension of a channel: `number` for analog channels, whose names (`DAHDI/4-1`) don't contain it."""
    return number if number and channel.startswith(_ANALOG) else peer_of(channel)


def is_local(channel: str) -> bool:
    """Return whether a channel is one half of a pair inside Asterisk rather than a line."""
    return channel.startswith("Local/")


def other_half(channel: str) -> str:
    """Return the other half of a Local channel; "" for other channels."""
    name, _, half = channel.rpartition(";")
    return f"{name};{3 - int(half)}" if is_local(channel) and half in ("1", "2") else ""


def is_from_outside(context: str) -> bool:
    """Return whether FreePBX uses this dialplan context for calls from a trunk."""
    return context.startswith(_FROM_OUTSIDE)


def is_to_outside(context: str) -> bool:
    """Return whether FreePBX uses this dialplan context to dial a trunk."""
    return context.startswith(_TO_OUTSIDE)


def dials_a_number(application: str, data: str) -> bool:
    """Return whether an application with these arguments (`data`) dials a number through a trunk."""
    return application == "Dial" and _NUMBER_DIALLED.match(data) is not None


def trunks_of(
    channel: str,
    dst_channel: str,
    context: str,
    trunks: Collection[str],
    *,
    from_outside: bool = False,
    to_outside: bool = False,
) -> tuple[str, str]:
    """Return the trunk that a leg came in or went out through, and the trunk that an inbound leg was forwarded through.

    Each is "" if there is none. An inbound call that is forwarded to an outside number occupies a line of each trunk,
    and these can be the same trunk.

    `trunks`: names of known trunks. Any other peer counts as a trunk if its channel is in a context for calls from a
    trunk, or if the leg is known to come from outside (`from_outside`) or to be dialled to the outside (`to_outside`),
    because AMI doesn't list trunks of DAHDI, Khomp, chan_dongle and others that FreePBX calls Custom. Channels of some
    drivers are never phones, so they always count as trunks.
    """
    outside = peer_of(channel) in trunks or is_from_outside(context) or from_outside or bool(_LINE.match(channel))
    dialled = peer_of(dst_channel) in trunks or to_outside or bool(_LINE.match(dst_channel))
    came = peer_of(channel) if outside and not is_local(channel) else ""
    went = peer_of(dst_channel) if dialled and not is_local(dst_channel) else ""
    return (came, went) if came else (went, "")
