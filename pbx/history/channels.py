"""What a channel's name tells: whose it is, and whether that is a trunk. Pure.

`PJSIP/carrier-0000001a`, `SIP/1001-000003f2`, `IAX2/branch-4211`, `DAHDI/i1/5551234-1`,
`Local/1001@from-queue-000000d1;2`.
"""

import re
from collections.abc import Collection

# What FreePBX puts before an extension it dials by a Local channel: follow-me and ring groups.
_PREFIX = re.compile(r"(?:FMPR-|FMGL-|RG-\w+-)(?=\d)")
_FROM_OUTSIDE = ("from-trunk", "from-pstn", "from-did", "from-zaptel", "from-dahdi")


def peer_of(channel: str) -> str:
    """The endpoint or peer whose channel this is; of a Local channel the number it dials; "" where there is none."""
    _, slash, rest = channel.partition("/")
    if not slash:
        return ""
    if "@" in rest:
        return _PREFIX.sub("", rest.partition("@")[0]).rstrip("#")
    return rest.partition("/")[0] if "/" in rest else rest.rpartition("-")[0] or rest


def is_local(channel: str) -> bool:
    """Whether it is one of a pair within Asterisk rather than somebody's line."""
    return channel.startswith("Local/")


def is_from_outside(context: str) -> bool:
    """Whether a dialplan context is one in which FreePBX takes calls from a trunk."""
    return context.startswith(_FROM_OUTSIDE)


def trunks_of(channel: str, dst_channel: str, context: str, trunks: Collection[str]) -> tuple[str, str]:
    """The trunk through which a leg came in or went out, and the one through which it went on, by its two channels.

    A call that came in and was put through to a number outside holds a line of both, which may be the same trunk's;
    "" for none. Names in `trunks` are trunks. Another peer is one where its own channel is in a context for calls from
    a trunk.
    """
    outside = not is_local(channel) and (peer_of(channel) in trunks or is_from_outside(context))
    came = peer_of(channel) if outside else ""
    went = peer_of(dst_channel) if not is_local(dst_channel) and peer_of(dst_channel) in trunks else ""
    return (came, went) if came else (went, "")
