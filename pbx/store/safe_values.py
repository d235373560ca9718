"""Texts that the outside decides, as every database takes them.

A caller's number, a name of an agent or a channel: whoever calls may write anything into it. PostgreSQL takes no NUL,
and an entry of an index only up to 2,700 bytes.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar

from pbx.model.history import AgentEvent, Leg, Ring, Visit

Fact = TypeVar("Fact", Visit, Ring, AgentEvent, Leg)
MOST_BYTES = 255  # in UTF-8; Asterisk's own names have 80, its uniqueids 150
_KINDS = (Visit, Ring, AgentEvent, Leg)
_TEXTS = {kind.__name__: tuple(one.name for one in fields(kind) if one.type is str) for kind in _KINDS}
_SURE = MOST_BYTES // 4  # so many characters have no more


def bounded_text(text: str) -> str:
    """The text without NUL, and no more of it than there is room for."""
    text = text.replace("\0", "")
    return text if len(text) <= _SURE else text.encode("utf-8", "ignore")[:MOST_BYTES].decode("utf-8", "ignore")


def bounded(facts: Iterable[Fact]) -> list[Fact]:
    """The facts with all their texts bounded."""
    return [_bounded(fact) for fact in facts]


def _bounded(fact: Fact) -> Fact:
    texts = [(name, getattr(fact, name)) for name in _TEXTS[type(fact).__name__]]
    odd = {name: bounded_text(text) for name, text in texts if len(text) > _SURE or "\0" in text}
    return replace(fact, **odd) if odd else fact  # type: ignore[arg-type]
