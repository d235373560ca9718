"""AMI's words: an action that is asked, and the messages of its answer. Pure.

Big items are filled into the forms of `shapes/`: those of real servers, field by field in their order.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pbx.demo.channels import EventHeaders
from pbx.demo.world import World

END = "\r\n"


@dataclass(frozen=True, slots=True)
class ReceivedAction:
    """An action as a client sent it; names of headers in lower case."""

    action: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        return self.headers.get(name, "")

    @property
    def id_line(self) -> EventHeaders:
        action_id = self.get("actionid")
        return (("ActionID", action_id),) if action_id else ()


@dataclass(frozen=True, slots=True)
class PbxMoment:
    """What is asked: the PBX as the story has it at `at`, while its own clock shows `clock_at`."""

    world: World
    at: datetime
    clock_at: datetime


def text(headers: Iterable[tuple[str, str]]) -> str:
    """A message."""
    return END.join(map(": ".join, headers)) + END + END


def event_text(name: str, group: str, headers: Iterable[tuple[str, str]]) -> str:
    """An event of a class, with its headers."""
    return text((("Event", name), ("Privilege", f"{group},all"), *headers))


def reply(ask: ReceivedAction, response: str, *headers: tuple[str, str]) -> str:
    return text((("Response", response), *ask.id_line, *headers))


def refuse(ask: ReceivedAction, why: str) -> str:
    return reply(ask, "Error", ("Message", why))


@lru_cache(maxsize=2)
def _shapes(version: str) -> dict[str, dict[str, str]]:
    blocks = (Path(__file__).parent / "shapes" / f"{version}.txt").read_text(encoding="utf-8").strip().split("\n\n")
    found: dict[str, dict[str, str]] = {}
    for block in blocks:
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())}
        found[fields.pop("Event")] = fields
    return found


def item_of(
    ask: ReceivedAction, moment: PbxMoment, event: str, values: Mapping[str, str], leave: tuple[str, ...] = ()
) -> EventHeaders:
    """A list's item in its form, with these values; without the fields to leave out."""
    form = _shapes(moment.world.version)[event]
    filled = tuple((name, values.get(name, value)) for name, value in form.items() if name not in leave)
    return (("Event", event), *ask.id_line, *filled)


def list_of(ask: ReceivedAction, message: str, done: str, items: Iterable[EventHeaders], *more: tuple[str, str]) -> str:
    told = [text(item) for item in items]
    start = reply(ask, "Success", ("EventList", "start"), ("Message", message))
    end = (("Event", done), *ask.id_line, ("EventList", "Complete"), ("ListItems", str(len(told))), *more)
    return start + "".join(told) + text(end)


def list_of_none(message: str, done: str) -> Callable[[ReceivedAction, PbxMoment], str]:
    return lambda ask, moment: list_of(ask, message, done, ())
