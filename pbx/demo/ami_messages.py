"""AMI messages: an action from a client and the messages that answer it. Pure.

The templates of long list items have the fields of a real server in their order.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pbx.demo.channels import EventHeaders
from pbx.demo.simulated_asterisk import SimulatedAsterisk

END = "\r\n"


@dataclass(frozen=True, slots=True)
class ReceivedAction:
    """An action as a client sent it. Header names are in lower case."""

    action: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The value of a header, "" if it is missing."""
        return self.headers.get(name, "")

    @property
    def id_line(self) -> EventHeaders:
        """The ActionID, which all messages of the answer repeat, if the client sent one."""
        action_id = self.get("actionid")
        return (("ActionID", action_id),) if action_id else ()


@dataclass(frozen=True, slots=True)
class PbxMoment:
    """The PBX at the moment `at`, when its own clock shows `clock_at`."""

    release: "Release"
    asterisk: SimulatedAsterisk
    at: datetime
    clock_at: datetime


AmiAnswer = Callable[[ReceivedAction, PbxMoment], str]


@dataclass(frozen=True, eq=False)
class Release:
    """A release of Asterisk: what differs between releases in the PBX's messages."""

    version: str
    ami_version: str
    list_items: Path  # the templates of long list items, separated by empty lines
    empty_fields: frozenset[str]  # of the templates; the release has no values for them
    actions: Mapping[str, AmiAnswer]  # by name in lower case, without those that a session answers
    asterisk_class: type[SimulatedAsterisk] = SimulatedAsterisk


def message_text(headers: Iterable[tuple[str, str]]) -> str:
    """A message that consists of these headers."""
    return END.join(map(": ".join, headers)) + END + END


def event_text(name: str, group: str, headers: Iterable[tuple[str, str]]) -> str:
    """An event of the class `group` with these headers."""
    return message_text((("Event", name), ("Privilege", f"{group},all"), *headers))


def reply(action: ReceivedAction, response: str, *headers: tuple[str, str]) -> str:
    """The response to an action."""
    return message_text((("Response", response), *action.id_line, *headers))


def refuse(action: ReceivedAction, message: str) -> str:
    """The error response to an action."""
    return reply(action, "Error", ("Message", message))


@lru_cache
def _templates(file: Path) -> dict[str, dict[str, str]]:
    """The fields of each event with their usual values."""
    found: dict[str, dict[str, str]] = {}
    for block in file.read_text(encoding="utf-8").strip().split("\n\n"):
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())}
        found[fields.pop("Event")] = fields
    return found


def list_item(
    action: ReceivedAction, moment: PbxMoment, event: str, values: Mapping[str, str], omit: tuple[str, ...] = ()
) -> EventHeaders:
    """A list item: the template of the event, filled with these values, without the fields in `omit`."""
    release = moment.release
    values = {**values, **dict.fromkeys(release.empty_fields, "")}
    template = _templates(release.list_items)[event]
    filled = tuple((name, values.get(name, value)) for name, value in template.items() if name not in omit)
    return (("Event", event), *action.id_line, *filled)


def list_answer(
    action: ReceivedAction, message: str, done: str, items: Iterable[EventHeaders], *more: tuple[str, str]
) -> str:
    """A list as the answer to an action: a response, the items, and the event `done` with `more` headers."""
    texts = [message_text(item) for item in items]
    start = reply(action, "Success", ("EventList", "start"), ("Message", message))
    end = (("Event", done), *action.id_line, ("EventList", "Complete"), ("ListItems", str(len(texts))), *more)
    return start + "".join(texts) + message_text(end)


def empty_list_answer(message: str, done: str) -> AmiAnswer:
    """A function that answers an action with a list that has no items."""
    return lambda action, moment: list_answer(action, message, done, ())
