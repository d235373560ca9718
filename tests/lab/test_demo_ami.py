"""The demo PBX's AMI compared with Asterisk 16 and 22: the same action must get a reply of the same shape.

The shape of a message is its kind and its fields in order. Lists, whose length depends on the set-up (how many
endpoints, which queues), are compared by kind of message. Texts that don't depend on the set-up, such as errors, must
be the same.
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
from tests.simulator.running_pbx import AmiReader, Clock, running_pbx
from tests.simulator.simulated_pbx import SimulatedPbx

pytestmark = pytest.mark.lab
Fields = tuple[str, ...]
Message = list[tuple[str, str]]

# Actions of a logged-in client that don't return lists.
ACTIONS_WITHOUT_LISTS = (
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
# Fields whose values depend on the server, not on Asterisk.
SERVER_VALUES = re.compile(
    r"(?m)^(Challenge|Timestamp|Value|AMIversion|AsteriskVersion|CoreRunUser|CoreRunGroup|CoreHTTPenabled|CoreStartupDate|"
    r"CoreStartupTime|CoreReloadDate|CoreReloadTime|CoreCurrentCalls|CoreProcessedCalls|ListItems): .*$"
)
VERSION_LINE = re.compile(r"Asterisk [\d.]+\S* built by .*")


class AmiConnection(AmiReader):
    """A connection to the AMI of Asterisk or of the demo PBX."""

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

    def request(self, text: str) -> bytes:
        """Send an action and return the complete reply, including all items of a list."""
        self.send(f"{text}\nActionID: request")
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
    """The kind of a message, and its field names without repetitions."""
    fields = [name.rstrip(":") for name, _ in message]
    return f"{message[0][0]}: {message[0][1]}", tuple(dict.fromkeys(fields))


def normalized(raw: bytes) -> str:
    """A reply without the values that depend on the server."""
    return VERSION_LINE.sub("Asterisk X", SERVER_VALUES.sub(r"\1: X", raw.decode().replace("\r", "")))


@pytest.fixture
def sides(server: LabServer) -> Iterator[tuple[AmiConnection, AmiConnection]]:
    """Connections to Asterisk and to a demo PBX of the same version, at a busy moment."""
    with running_pbx(RELEASES[server.version]) as (pbx, clock):
        move_to_busy_moment(pbx, clock)
        lines = AmiConnection(server.connection()), AmiConnection(pbx.connection())
        yield lines
        for line in lines:
            line.close()


def move_to_busy_moment(pbx: SimulatedPbx, clock: Clock) -> None:
    """Advance the clock until a caller waits and an agent is paused."""
    for _ in range(2000):
        queues = [pbx.asterisk.queue(queue, clock.at) for queue in QUEUES]
        paused = any(member.paused for queue in queues for member in queue.members)
        if paused and any(queue.callers for queue in queues):
            return
        clock.at += timedelta(seconds=20)
    raise AssertionError("no moment with a waiting caller and a paused agent")


def test_the_greeting_and_refusals_before_a_login_are_the_same(sides: tuple[AmiConnection, AmiConnection]) -> None:
    real, demo = sides
    assert demo.greeting == real.greeting
    for text in (
        "Action: Ping",
        "Foo: bar",
        "Action: QueueStatus",
        "Action: Challenge",
        "Action: Challenge\nAuthType: md5",
    ):
        assert normalized(demo.request(text)) == normalized(real.request(text)), text
    assert demo.log_in() == real.log_in()


@pytest.mark.parametrize("proof", ["Secret: wrong", "AuthType: MD5\nKey: 0", "AuthType: SHA\nSecret: wrong"])
@pytest.mark.parametrize("username", ["", "nobody"])
def test_refused_logins_get_the_same_reply(
    sides: tuple[AmiConnection, AmiConnection], username: str, proof: str
) -> None:
    replies = []
    for line in sides:
        line.request("Action: Challenge\nAuthType: MD5")
        line.send(f"Action: Login\nActionID: x\nUsername: {username or line.connection.ami_username}\n{proof}")
        replies.append(line.rest())
    assert replies[0] == replies[1]
    assert b"Authentication failed" in replies[0]


def test_replies_without_lists_are_the_same(sides: tuple[AmiConnection, AmiConnection]) -> None:
    real, demo = sides
    for line in sides:
        line.log_in()
    differing = {}
    for text in ACTIONS_WITHOUT_LISTS:
        asterisk_reply, demo_reply = normalized(real.request(text)), normalized(demo.request(text))
        if asterisk_reply != demo_reply:
            differing[text[:80]] = (asterisk_reply, demo_reply)
    assert not differing


def kinds(answer: list[Message]) -> dict[str, set[Fields]]:
    """The fields of each kind of message in a reply."""
    by_kind: dict[str, set[Fields]] = {}
    for message in answer:
        kind, fields = shape(message)
        by_kind.setdefault(kind, set()).add(fields)
    return by_kind


def followers(answer: list[Message]) -> set[tuple[str, str]]:
    """The pairs of kinds of consecutive messages."""
    names = [shape(message)[0] for message in answer]
    return set(pairwise(names))


@pytest.mark.parametrize("action", LISTS)
def test_lists_have_the_same_messages(
    sides: tuple[AmiConnection, AmiConnection], server: LabServer, action: str
) -> None:
    real, demo = sides
    for line in sides:
        line.log_in()
    with ExitStack() as calls:  # the list needs an entry
        if action == "CoreShowChannels":
            calls.callback(start_phone_call(server, "1002").hangup)
        elif action == "QueueStatus":
            waiting = start_queue_call(server, "support")
            calls.callback(waiting.hangup)
            wait_until("the caller is in the queue", lambda: bool(waiting.queue_events))
        asterisk_reply = messages(real.request(f"Action: {action}"))
        demo_reply = messages(demo.request(f"Action: {action}"))
    assert demo_reply[0] == asterisk_reply[0]
    demo_kinds, asterisk_kinds = kinds(demo_reply), kinds(asterisk_reply)
    for kind, fields in demo_kinds.items():
        assert fields <= asterisk_kinds.get(kind, set()), kind
    if len(demo_reply) > 2:
        assert set(demo_kinds) == set(asterisk_kinds)
        # The demo may repeat a kind that Asterisk has once, and its last queue may have no callers.
        allowed = {(kind, kind) for kind in asterisk_kinds} | {("Event: QueueMember", "Event: QueueStatusComplete")}
        allowed |= {("Event: QueueEntry", "Event: QueueStatusComplete"), ("Event: QueueMember", "Event: QueueParams")}
        assert followers(demo_reply) <= followers(asterisk_reply) | allowed
    if demo_reply[-1][0][0] == "Event":
        item_counts = [len(answer) - 2 for answer in (asterisk_reply, demo_reply)]
        if action == "PJSIPShowRegistrationsOutbound":  # messages with secrets aren't counted
            item_counts = [count // 2 for count in item_counts]
        assert [dict(answer[-1])["ListItems"] for answer in (asterisk_reply, demo_reply)] == [
            str(count) for count in item_counts
        ]


@pytest.mark.parametrize(
    ("asterisk_endpoint", "demo_endpoint"), [("1001", "201"), ("1003", "224"), ("carrier", "albion-voice")]
)
def test_endpoints_have_the_same_detail_messages(
    sides: tuple[AmiConnection, AmiConnection], asterisk_endpoint: str, demo_endpoint: str
) -> None:
    real, demo = sides
    for line in sides:
        line.log_in()
    asterisk_messages = messages(real.request(f"Action: PJSIPShowEndpoint\nEndpoint: {asterisk_endpoint}"))
    demo_messages = messages(demo.request(f"Action: PJSIPShowEndpoint\nEndpoint: {demo_endpoint}"))
    if demo_endpoint == "albion-voice":  # the demo's trunk has no identify section
        asterisk_messages = [message for message in asterisk_messages if message[0][1] != "IdentifyDetail"]
    assert [shape(message) for message in demo_messages] == [shape(message) for message in asterisk_messages]


def test_values_have_the_same_format(sides: tuple[AmiConnection, AmiConnection]) -> None:
    """Fields that are always integers, decimals or yes-or-no in Asterisk are so in the demo."""
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
        asterisk_formats, demo_formats = (formats(messages(line.request(f"Action: {action}"))) for line in sides)
        for (kind, name), seen in demo_formats.items():
            allowed = asterisk_formats.get((kind, name), seen)
            if allowed == {"number"} or allowed == {"decimal"} or allowed == {"yes or no"}:
                assert seen <= allowed, (action, kind, name, seen)
    assert real is not demo


def formats(answer: list[Message]) -> dict[tuple[str, str], set[str]]:
    """The formats of each field's values, by kind of message and field."""
    by_field: dict[tuple[str, str], set[str]] = {}
    for message in answer:
        for name, text in message[1:]:
            by_field.setdefault((shape(message)[0], name), set()).add(format_of(text))
    return by_field


def format_of(text: str) -> str:
    if re.fullmatch(r"-?\d+", text):
        return "number"
    if re.fullmatch(r"-?\d+\.\d+", text):
        return "decimal"
    return "yes or no" if text.lower() in ("yes", "no", "true", "false") else "words"


def test_every_action_of_the_demo_is_compared() -> None:
    compared = {name.lower() for name in LISTS} | {
        found[1].lower() for text in ACTIONS_WITHOUT_LISTS if (found := re.match(r"(?i)action: *(\w+)", text))
    }
    assert ACTIONS.keys() <= compared
