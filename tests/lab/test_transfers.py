"""Attended transfers into a queue as real Asterisk tells them, live and in queue_log: whose visit is whose."""

from dataclasses import dataclass

import pytest

from pbx.asterisk.ami.protocol import AmiParser
from pbx.asterisk.formats.queue_log import parse_queue_log_line
from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.live.events import LiveHistory
from pbx.model.history import Visit
from tests.lab.ami_session import Ami
from tests.lab.queue_asterisk import Caller
from tests.lab.transfer_asterisk import transfer_asterisk
from tests.unit.live.event_feed import LATER, START

# Alone: on a busy machine Asterisk 16 may hear of the hangup before the transfer, and writes COMPLETE… instead.
pytestmark = [pytest.mark.lab, pytest.mark.phones, pytest.mark.alone]


@dataclass(frozen=True)
class Reported:
    """The visits that one Asterisk reported, and their callers."""

    live: list[Visit]
    logged: list[Visit]
    served: Caller
    gives_up: Caller


@pytest.fixture(scope="module", params=[16, 22])
def reported(request: pytest.FixtureRequest) -> Reported:
    """Two callers are put into another queue: one is served there, the other hangs up."""
    with transfer_asterisk(request.param) as (asterisk, phone), Ami(asterisk.host, asterisk.ami_port) as ami:
        ami.login(asterisk.ami_username, asterisk.ami_secret, "on")
        ami.drain()
        callers = []
        for queue, variables in (("second", {}), ("third", {"PATIENCE_S": 6})):
            caller = asterisk.call("first", **variables)
            talk = phone.answer()
            caller.wait_for("CONNECT")
            phone.idle(1.2)
            consult = phone.call(queue)
            phone.idle(1)
            phone.transfer(talk, consult)
            phone.idle(8)
            callers.append(caller)
        raw, log = ami.drain(), asterisk.log_text()
    history, fold, parser = LiveHistory(), QueueLogFold(), AmiParser()
    parser.feed(b"Asterisk Call Manager/5.0\r\n")
    at = START
    for message in parser.feed(raw):
        at += (LATER - LATER * 0.999) if message.event else LATER * 0
        history.take(message, at)
    for line in log.encode().splitlines():
        if (event := parse_queue_log_line(line)) is not None:
            fold.add(event)
    return Reported(list(history.take_updates(at + LATER).visits), list(fold.take(at_end=True).visits), *callers)


@pytest.mark.parametrize("way", ["live", "logged"])
def test_who_is_transferred_into_a_queue_makes_two_visits(reported: Reported, way: str) -> None:
    visits: list[Visit] = getattr(reported, way)
    found = [(one.queue, one.caller, one.outcome, one.agent) for one in visits]
    served, gives_up = reported.served.number, reported.gives_up.number
    assert sorted(found) == sorted(
        [
            ("first", served, "transferred", "Eve Adams"),
            ("second", served, "answered", "Gus Moss"),
            ("first", gives_up, "transferred", "Eve Adams"),
            ("third", gives_up, "abandoned", ""),
        ]
    )
    (second,) = (one for one in visits if one.queue == "second")
    assert second.wait_s == pytest.approx(3, abs=1)
    assert second.talk_s == pytest.approx(2, abs=1)


def test_live_and_queue_log_tell_the_same_visits(reported: Reported) -> None:
    def figures(visits: list[Visit]) -> list[tuple[object, ...]]:
        return sorted((one.uniqueid, one.queue, one.outcome, one.wait_s, one.talk_s, one.target) for one in visits)

    assert figures(reported.live) == figures(reported.logged)
