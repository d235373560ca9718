"""Makes text from outside sources safe to store in any database.

A caller can put anything into a number or a name. PostgreSQL rejects NUL, and index entries longer than 2,700 bytes.
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar

from pbx.model.history import AgentEvent, Leg, Ring, Visit

_Fact = TypeVar("_Fact", Visit, Ring, AgentEvent, Leg)
MAX_TEXT_BYTES = 255  # in UTF-8; Asterisk limits its own names to 80, its uniqueids to 150
_KINDS = (Visit, Ring, AgentEvent, Leg)
_TEXTS = {kind.__name__: tuple(one.name for one in fields(kind) if one.type is str) for kind in _KINDS}
_SAFE_LENGTH = MAX_TEXT_BYTES // 4  # characters that always fit, at 4 bytes each in UTF-8


def bounded_text(text: str) -> str:
    """Return the text without NUL, cut to MAX_TEXT_BYTES."""
    text = text.replace("\0", "")
    return (
        text if len(text) <= _SAFE_LENGTH else text.encode("utf-8", "ignore")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
    )


def bounded(facts: Iterable[_Fact]) -> list[_Fact]:
    """Return the facts with all their texts passed through `bounded_text`."""
    return [_bounded(fact) for fact in facts]


def _bounded(fact: _Fact) -> _Fact:
    texts = [(name, getattr(fact, name)) for name in _TEXTS[type(fact).__name__]]
    odd = {name: bounded_text(text) for name, text in texts if len(text) > _SAFE_LENGTH or "\0" in text}
    return replace(fact, **odd) if odd else fact  # type: ignore[arg-type]
