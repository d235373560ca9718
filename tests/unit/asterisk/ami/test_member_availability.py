"""Which queue members are available, as app_queue.c decides it and as in replies that real PBXs sent."""

from datetime import UTC, datetime, timedelta

import pytest

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.ami.snapshot import parse_queues, with_wrap_up
from pbx.model.snapshot import Queue, QueueMember
from tests.unit.asterisk.ami.replay_server import empty_pbx_with, replay, reported_answers


def queue_of(answers: dict[str, bytes]) -> Queue:
    with (
        replay(empty_pbx_with(answers), version=16, prefix="bare-") as server,
        AmiClient.connect(server.connection()) as client,
    ):
        (queue,) = take_snapshot(client, ["queues"]).queues
    return queue


def test_a_member_of_unknown_state_is_available_and_one_in_wrap_up_is_not() -> None:
    """The replayed PBX's clock shows 1795250400, five seconds after Eve's last call."""
    queue = queue_of(reported_answers("01-queue-status-zero.ami"))
    assert {member.name: member.available for member in queue.members} == {"Outside Desk, Berlin": True, "Eve": False}
    assert queue.agents_available == 1


def member(**headers: object) -> Message:
    values = {"Queue": "1", "Location": "DAHDI/1", "Status": 1, "Paused": 0, "LastCall": 0, "Wrapuptime": 0} | headers
    return Message("\r\n".join(["Event: QueueMember", *(f"{key}: {value}" for key, value in values.items())]).encode())


@pytest.mark.parametrize(
    ("headers", "available"),
    [  # is_member_available() in app_queue.c of Asterisk 16 and 22
        *(({"Status": status}, status in (0, 1)) for status in range(9)),
        ({"Status": 0, "Paused": 1}, False),
        ({"Status": 1, "Paused": 1}, False),
        ({"LastCall": 941, "Wrapuptime": 60}, False),
        ({"LastCall": 940, "Wrapuptime": 60}, True),
        ({"LastCall": 999, "Wrapuptime": 0}, True),
        ({"LastCall": 0, "Wrapuptime": 60}, True),
        ({"LastCall": 1500, "Wrapuptime": 60}, False),  # the clock has been set back since
        ({"LastCall": 1500}, True),
        ({"LastCall": 999, "Wrapuptime": -60}, True),
        ({"LastCall": 999, "Wrapuptime": "9" * 5000}, True),
        ({"LastCall": 995, "Wrapuptime": 60, "Status": 0}, False),
    ],
)
def test_a_members_availability_is_that_of_app_queue(headers: dict[str, object], available: bool) -> None:
    queue_params = Message(b"Event: QueueParams\r\nQueue: 1")
    (queue,) = parse_queues([queue_params, member(**headers)], datetime.fromtimestamp(1000, UTC))
    assert queue.members[0].available is available


def idle_member(name: str, seconds_since_call: int | None, **fields: object) -> QueueMember:
    last_call_at = None if seconds_since_call is None else NOW - timedelta(seconds=seconds_since_call)
    values = {"name": name, "interface": name, "status": 1, "last_call_at": last_call_at} | fields
    return QueueMember.model_validate(values)


NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ready", "available"),
    [(3, {"a", "b", "c", "d"}), (2, {"b", "c"}), (1, {"c"}), (0, {"c"}), (9, {"a", "b", "c", "d"})],
)
def test_the_number_of_ready_members_shows_who_is_in_the_queues_wrap_up_time(ready: int, available: set[str]) -> None:
    """d, whose state is unknown, was called after a. c had no call, so c can't be in wrap-up."""
    members = (idle_member("a", 9), idle_member("b", 50), idle_member("c", None), idle_member("d", 5, status=0))
    queue = with_wrap_up(Queue(name="q", members=members), ready, NOW)
    assert {member.name for member in queue.members if member.available} == available


def test_the_number_of_ready_members_does_not_affect_members_that_cannot_be_in_the_queues_wrap_up() -> None:
    members = (idle_member("own", 9, wrapup_s=5), idle_member("long ago", 4000), idle_member("paused", 9, paused=True))
    queue = Queue(name="q", members=members)
    assert with_wrap_up(queue, 0, NOW) == queue
