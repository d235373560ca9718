"""Attended transfers into a queue on real Asterisk give the caller two visits, live and in queue_log."""

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

# Alone, because on a busy machine Asterisk 16 may notice the hang-up before the transfer and write COMPLETE….
pytestmark = [pytest.mark.lab, pytest.mark.phones, pytest.mark.alone]


@dataclass(frozen=True)
class StoredVisits:
    """The visits of one Asterisk from live events and from queue_log, and their callers."""

    live: list[Visit]
    logged: list[Visit]
    served: Caller
    abandoning: Caller


@pytest.fixture(scope="module", params=[16, 22])
def stored(request: pytest.FixtureRequest) -> StoredVisits:
    """Transfer two callers to another queue, where an agent answers one and the other hangs up."""
    with transfer_asterisk(request.param) as (asterisk, phone), Ami(asterisk.host, asterisk.ami_port) as ami:
        ami.login(asterisk.ami_username, asterisk.ami_secret, "on")
        ami.drain()
        callers = []
        for queue, variables in (("second", {}), ("third", {"PATIENCE_S": 6})):
            caller = asterisk.call("first", **variables)
            answered = phone.answer()
            caller.wait_for("CONNECT")
            phone.idle(1.2)
            consultation = phone.call(queue)
            phone.idle(1)
            phone.transfer(answered, consultation)
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
    return StoredVisits(list(history.take_updates(at + LATER).visits), list(fold.take(at_end=True).visits), *callers)


@pytest.mark.parametrize("source", ["live", "logged"])
def test_a_transferred_caller_has_a_visit_in_each_queue(stored: StoredVisits, source: str) -> None:
    visits: list[Visit] = getattr(stored, source)
    figures = [(one.queue, one.caller, one.outcome, one.agent) for one in visits]
    served, abandoning = stored.served.number, stored.abandoning.number
    assert sorted(figures) == sorted(
        [
            ("first", served, "transferred", "Eve Adams"),
            ("second", served, "answered", "Gus Moss"),
            ("first", abandoning, "transferred", "Eve Adams"),
            ("third", abandoning, "abandoned", ""),
        ]
    )
    (second,) = (one for one in visits if one.queue == "second")
    assert second.wait_s == pytest.approx(3, abs=1)
    assert second.talk_s == pytest.approx(2, abs=1)


def test_live_and_logged_visits_are_the_same(stored: StoredVisits) -> None:
    def figures(visits: list[Visit]) -> list[tuple[object, ...]]:
        return sorted((one.uniqueid, one.queue, one.outcome, one.wait_s, one.talk_s, one.target) for one in visits)

    assert figures(stored.live) == figures(stored.logged)
