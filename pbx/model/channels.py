"""What a channel's name tells: whose it is, and whether that is a trunk. Pure.

`PJSIP/carrier-0000001a`, `SIP/1001-000003f2`, `IAX2/branch-4211`, `DAHDI/i1/5551234-1`,
`Local/1001@from-queue-000000d1;2`.
"""

import re
from collections.abc import Collection

# What FreePBX puts before an extension it dials by a Local channel: follow-me and ring groups.
_PREFIX = re.compile(r"(?:FMPR-|FMGL-|RG-\w+-)(?=\d)")
_ANALOG = ("DAHDI/", "Zap/", "Khomp/", "KHOMP/")  # drivers of cards, whose phones are known by their ports only
# Lines that are no phones: ISDN, a modem, a paired mobile phone.
_LINE = re.compile(r"(?:DAHDI|Zap)/i\d+/|(?:Dongle|Datacard|Quectel|Mobile)/")
# What Dial is told where it dials a number through a trunk, rather than a phone: `DAHDI/g0/5550101,300,T`.
_NUMBER_DIALLED = re.compile(r"(?!Local/)\w+/[^/,&@]+/(?:(?!sips?:)[a-z]+:)?[+*#\dwW]{2,}(?=[,/:&]|$)")
_FROM_OUTSIDE = ("from-trunk", "from-pstn", "from-did", "from-zaptel", "from-dahdi", "from-analog", "from-digital")
_TO_OUTSIDE = "macro-dialout-"  # trunk, enum and dundi; whatever the trunk's driver


def peer_of(channel: str) -> str:
    """The endpoint or peer whose channel this is; of a Local channel the number it dials; "" where there is none."""
    _, slash, rest = channel.partition("/")
    if not slash:
        return ""
    if "@" in rest:
        return _PREFIX.sub("", rest.partition("@")[0]).rstrip("#")
    return rest.partition("/")[0] if "/" in rest else rest.rpartition("-")[0] or rest


def extension_of(channel: str, number: str) -> str:
    """Whose channel this is, an analog phone's by the number it calls from or was called by: `DAHDI/4-1` tells none."""
    return number if number and channel.startswith(_ANALOG) else peer_of(channel)


def is_local(channel: str) -> bool:
    """Whether it is one of a pair within Asterisk rather than somebody's line."""
    return channel.startswith("Local/")


def other_half(channel: str) -> str:
    """The channel with which a Local channel is a pair; "" for any other."""
    name, _, half = channel.rpartition(";")
    return f"{name};{3 - int(half)}" if is_local(channel) and half in ("1", "2") else ""


def is_from_outside(context: str) -> bool:
    """Whether a dialplan context is one in which FreePBX takes calls from a trunk."""
    return context.startswith(_FROM_OUTSIDE)


def is_to_outside(context: str) -> bool:
    """Whether a dialplan context is one in which FreePBX dials a trunk."""
    return context.startswith(_TO_OUTSIDE)


def dials_a_number(application: str, data: str) -> bool:
    """Whether what an application was told makes it dial a number through a trunk."""
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
    """The trunk through which a leg came in or went out, and the one through which it went on, by its two channels.

    A call that came in and was put through to a number outside holds a line of both, which may be the same trunk's;
    "" for none. Names in `trunks` are trunks. Another peer is one where its own channel is in a context for calls from
    a trunk, or where the leg is known to have come from outside, or to have been dialled to it: AMI lists no trunks of
    DAHDI, Khomp, chan_dongle, or of whatever else FreePBX calls Custom. Some drivers' channels are never phones.
    """
    outside = peer_of(channel) in trunks or is_from_outside(context) or from_outside or bool(_LINE.match(channel))
    dialled = peer_of(dst_channel) in trunks or to_outside or bool(_LINE.match(dst_channel))
    came = peer_of(channel) if outside and not is_local(channel) else ""
    went = peer_of(dst_channel) if dialled and not is_local(dst_channel) else ""
    return (came, went) if came else (went, "")
