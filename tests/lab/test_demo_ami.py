"""The demo PBX's AMI beside Asterisk 16 and 22: the same actions must get answers of the same shape.

A shape is the kind of each message, its fields and their order; where both set-ups differ (how many endpoints, which
queues) it is compared message kind by message kind. What is no fact of a set-up, an error's text, must be the same.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import pairwise

import pytest

from pbx.demo.ami_answers import ACTIONS
from pbx.demo.company import QUEUES
from pbx.settings import Connection
from tests.lab.calls import start_phone_call, start_queue_call
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.simulator.asterisk_22 import RELEASES
from tests.simulator.pbx import SimulatedPbx
from tests.simulator.running import AmiReader, Clock, running_pbx

pytestmark = pytest.mark.lab
Fields = tuple[str, ...]
Message = list[tuple[str, str]]

# Actions of a logged-in client that don't return lists.
WORDS = (
    "Action: Ping",
    "ACTION: ping",
    "Action:Ping",
    "Action: NoSuchAction",
    "Action: Nothing at all",
    "Foo: bar",
    "Action: Login\nUsername: whoever",
    "Action: Challenge\nAuthType: MD5",
    "Action: Challenge",
    "Action: Challenge\nAuthType: SHA",
    "Action: Events\nEventMask: call,agent",
    "Action: Events\nEventMask: on",
    "Action: Events\nEventMask: nonsense",
    "Action: Events",
    "Action: Events\nEventMask: off",
    "Action: Filter\nOperation: Add\nFilter: ^Event: X",
    "Action: Filter\nOperation: Add\nFilter: ^Event: ((",
    "Action: Filter\nOperation: Foo",
    "Action: Filter\nOperation: Add",
    "Action: Getvar",
    "Action: Getvar\nVariable: NOPE",
    "Action: Getvar\nVariable: STRFTIME(1782900000,,%z %s)",
    "Action: Getvar\nVariable: STRFTIME(,,%s.%3q)",
    "Action: Command",
    "Action: Command\nCommand: core show version",
    "Action: Command\nCommand: no such command",
    "Action: CoreSettings",
    "Action: CoreStatus",
    "Action: PJSIPShowEndpoint",
    "Action: PJSIPShowEndpoint\nEndpoint: nobody",
    "Action: QueueStatus\nQueue: nosuch",
    "Action: QueueSummary\nQueue: nosuch",
    f"Action: Ping\nJunk: {'x' * 2000}",
    "Action: Logoff",
)
LISTS = (
    "CoreShowChannels",
    "PJSIPShowEndpoints",
    "PJSIPShowContacts",
    "PJSIPShowRegistrationsOutbound",
    "QueueStatus",
    "QueueSummary",
    "IAXpeerlist",
    "IAXregistry",
    "SIPpeers",
    "SIPshowregistry",
)
# Values that are a server's own, not Asterisk's.
OWN = re.compile(
    r"(?m)^(Challenge|Timestamp|Value|AMIversion|AsteriskVersion|CoreRunUser|CoreRunGroup|CoreHTTPenabled|CoreStartupDate|"
    r"CoreStartupTime|CoreReloadDate|CoreReloadTime|CoreCurrentCalls|CoreProcessedCalls|ListItems): .*$"
)
VERSION_LINE = re.compile(r"Asterisk [\d.]+\S* built by .*")


class Line(AmiReader):
    """A connection to a manager interface, whoever serves it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.host, connection.ami_port)
        self.connection = connection
        self.greeting = self.until(rb"\r\n")

    def send(self, text: str) -> None:
        self.sock.sendall(text.replace("\n", "\r\n").encode() + b"\r\n\r\n")

    def log_in(self) -> bytes:
        password = self.connection.ami_password.get_secret_value()
        self.send(
            f"Action: Login\nActionID: login\nUsername: {self.connection.ami_username}\nSecret: {password}\nEvents: off"
        )
        return self.until(rb"\r\n\r\n")

    def ask(self, text: str) -> bytes:
        """The whole answer to an action: of a list all of it."""
        self.send(f"{text}\nActionID: asked")
        answer = self.until(rb"\r\n\r\n")
        if b"EventList: start" in answer:
            answer += self.until(rb"EventList: Complete.*?\r\n\r\n")
        return answer

    def close(self) -> None:
        self.sock.close()


def messages(raw: bytes) -> list[Message]:
    blocks = raw.decode("utf-8", "replace").strip("\r\n").split("\r\n\r\n")
    return [
        [(name, text) for name, _, text in (line.partition(": ") for line in block.split("\r\n"))] for block in blocks
    ]


def shape(message: Message) -> tuple[str, Fields]:
    """The kind of a message, and its fields; of an endless row of the same one."""
    fields = [name.rstrip(":") for name, _ in message]
    return f"{message[0][0]}: {message[0][1]}", tuple(dict.fromkeys(fields))


def blurred(raw: bytes) -> str:
    """An answer without what is a server's own."""
    return VERSION_LINE.sub("Asterisk X", OWN.sub(r"\1: X", raw.decode().replace("\r", "")))


@pytest.fixture
def sides(server: LabServer) -> Iterator[tuple[Line, Line]]:
    """Asterisk, and the demo PBX that says it is the same."""
    with running_pbx(RELEASES[server.version]) as (pbx, clock):
        busy(pbx, clock)
        lines = Line(server.connection()), Line(pbx.connection())
        yield lines
        for line in lines:
            line.close()


def busy(pbx: SimulatedPbx, clock: Clock) -> None:
    """Move on to a moment at which somebody waits, somebody talks and somebody pauses."""
    for _ in range(2000):
        queues = [pbx.asterisk.queue(queue, clock.at) for queue in QUEUES]
        paused = any(member.paused for queue in queues for member in queue.members)
        if paused and any(queue.callers for queue in queues):
            return
        clock.at += timedelta(seconds=20)
    raise AssertionError("nobody ever waits")


def test_the_greeting_and_what_is_refused_before_a_login(sides: tuple[Line, Line]) -> None:
    real, demo = sides
    assert demo.greeting == real.greeting
    for text in (
        "Action: Ping",
        "Foo: bar",
        "Action: QueueStatus",
        "Action: Challenge",
        "Action: Challenge\nAuthType: md5",
    ):
        assert blurred(demo.ask(text)) == blurred(real.ask(text)), text
    assert demo.log_in() == real.log_in()


@pytest.mark.parametrize("proof", ["Secret: wrong", "AuthType: MD5\nKey: 0", "AuthType: SHA\nSecret: wrong"])
@pytest.mark.parametrize("who", ["", "nobody"])
def test_whoever_is_refused_hears_the_same(sides: tuple[Line, Line], who: str, proof: str) -> None:
    reported = []
    for line in sides:
        line.ask("Action: Challenge\nAuthType: MD5")
        line.send(f"Action: Login\nActionID: x\nUsername: {who or line.connection.ami_username}\n{proof}")
        reported.append(line.rest())
    assert reported[0] == reported[1]
    assert b"Authentication failed" in reported[0]


def test_words_are_the_same(sides: tuple[Line, Line]) -> None:
    real, demo = sides
    for line in sides:
        line.log_in()
    differing = {}
    for text in WORDS:
        there, here = blurred(real.ask(text)), blurred(demo.ask(text))
        if there != here:
            differing[text[:80]] = (there, here)
    assert not differing


def kinds(answer: list[Message]) -> dict[str, set[Fields]]:
    found: dict[str, set[Fields]] = {}
    for message in answer:
        kind, fields = shape(message)
        found.setdefault(kind, set()).add(fields)
    return found


def followers(answer: list[Message]) -> set[tuple[str, str]]:
    """Which kind of message comes after which."""
    names = [shape(message)[0] for message in answer]
    return set(pairwise(names))


@pytest.mark.parametrize("action", LISTS)
def test_lists_have_the_same_messages(sides: tuple[Line, Line], server: LabServer, action: str) -> None:
    real, demo = sides
    for line in sides:
        line.log_in()
    with ExitStack() as calls:  # what is to be listed must be there
        if action == "CoreShowChannels":
            calls.callback(start_phone_call(server, "1002").hangup)
        elif action == "QueueStatus":
            waiting = start_queue_call(server, "support")
            calls.callback(waiting.hangup)
            wait_until("the caller is in the queue", lambda: bool(waiting.queue_events))
        there, here = messages(real.ask(f"Action: {action}")), messages(demo.ask(f"Action: {action}"))
    assert here[0] == there[0]
    ours, theirs = kinds(here), kinds(there)
    for kind, fields in ours.items():
        assert fields <= theirs.get(kind, set()), kind
    if len(here) > 2:
        assert set(ours) == set(theirs)
        # More than one of a kind may be here where there is one there; a queue without callers may be the last.
        also = {(kind, kind) for kind in theirs} | {("Event: QueueMember", "Event: QueueStatusComplete")}
        also |= {("Event: QueueEntry", "Event: QueueStatusComplete"), ("Event: QueueMember", "Event: QueueParams")}
        assert followers(here) <= followers(there) | also
    if here[-1][0][0] == "Event":
        counted = [len(answer) - 2 for answer in (there, here)]
        if action == "PJSIPShowRegistrationsOutbound":  # secrets aren't counted
            counted = [count // 2 for count in counted]
        assert [dict(answer[-1])["ListItems"] for answer in (there, here)] == [str(count) for count in counted]


@pytest.mark.parametrize(("there", "here"), [("1001", "201"), ("1003", "224"), ("carrier", "albion-voice")])
def test_an_endpoint_has_the_same_details(sides: tuple[Line, Line], there: str, here: str) -> None:
    real, demo = sides
    for line in sides:
        line.log_in()
    theirs = messages(real.ask(f"Action: PJSIPShowEndpoint\nEndpoint: {there}"))
    ours = messages(demo.ask(f"Action: PJSIPShowEndpoint\nEndpoint: {here}"))
    if here == "albion-voice":  # the demo's trunk authenticates itself only
        theirs = [message for message in theirs if message[0][1] != "IdentifyDetail"]
    assert [shape(message) for message in ours] == [shape(message) for message in theirs]


def test_values_are_of_the_same_form(sides: tuple[Line, Line]) -> None:
    """Fields that are always integers there are integers here; so are decimals, words and empty fields."""
    real, demo = sides
    for line in sides:
        line.log_in()
    for action in (
        "QueueStatus",
        "PJSIPShowContacts",
        "PJSIPShowEndpoints",
        "PJSIPShowRegistrationsOutbound",
        "CoreStatus",
    ):
        theirs, ours = (forms(messages(line.ask(f"Action: {action}"))) for line in sides)
        for (kind, name), seen in ours.items():
            allowed = theirs.get((kind, name), seen)
            if allowed == {"number"} or allowed == {"decimal"} or allowed == {"yes or no"}:
                assert seen <= allowed, (action, kind, name, seen)
    assert real is not demo


def forms(answer: list[Message]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for message in answer:
        for name, text in message[1:]:
            found.setdefault((shape(message)[0], name), set()).add(form_of(text))
    return found


def form_of(text: str) -> str:
    if re.fullmatch(r"-?\d+", text):
        return "number"
    if re.fullmatch(r"-?\d+\.\d+", text):
        return "decimal"
    return "yes or no" if text.lower() in ("yes", "no", "true", "false") else "words"


def test_every_action_it_serves_is_compared() -> None:
    compared = {name.lower() for name in LISTS} | {
        found[1].lower() for text in WORDS if (found := re.match(r"(?i)action: *(\w+)", text))
    }
    assert ACTIONS.keys() <= compared
