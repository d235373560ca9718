"""Events of CEL as Asterisk 16 and 22 wrote them, and what they make of a leg."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pbx.asterisk.formats.cdr import UnreadableRow
from pbx.asterisk.formats.cel import CallEvents, add_row, with_events
from pbx.model.call_from_legs import fold_legs, merge_legs
from pbx.model.history import Leg
from tests.unit.sample_legs import ANSWERED, CALLED, CALLER, NOON


def hangup(channel: str, cause: int, source: str = "") -> dict[str, Any]:
    return row("HANGUP", channel, f'{{"hangupcause":{cause},"hangupsource":"{source}","dialstatus":""}}')


def row(name: str, channel: str, extra: str | None = "", peer: str | None = "", local: str = "") -> dict[str, Any]:
    given = {"eventtype": name, "channame": channel, "linkedid": "1.1", "extra": extra, "peer": peer}
    return given | {"eventtime": local or "2026-03-02 12:00:20"}


def told(*rows: dict[str, Any], leg: Leg = ANSWERED, zone: str = "UTC") -> Leg:
    calls: dict[str, CallEvents] = {}
    for one in rows:
        add_row(calls, one)
    return with_events(leg, calls.get("1.1", CallEvents()), ZoneInfo(zone))


def test_the_called_channels_end_tells_cause_and_who_hung_up() -> None:
    ended = told(hangup(CALLED, 16, CALLER), hangup(CALLER, 16, CALLER))
    assert (ended.cause, ended.ended_by) == (16, "caller")
    assert told(hangup(CALLED, 16, CALLED)).ended_by == "called"
    for nobody in ("", "dialplan/builtin"):
        assert told(hangup(CALLED, 16, nobody)).ended_by == ""


def test_the_other_half_of_a_local_channel_tells_the_cause() -> None:
    busy = replace(ANSWERED, answered_at=None, disposition="BUSY")
    rows = hangup(CALLED, 0), hangup(CALLED.replace(";1", ";2"), 17), hangup(CALLER, 16, "dialplan/builtin")
    assert (told(*rows, leg=busy).cause, told(*rows, leg=busy).ended_by) == (17, "")


def test_a_callers_cause_is_only_an_answered_legs() -> None:
    assert told(hangup(CALLED, 0), hangup(CALLER, 16)).cause == 16
    assert told(hangup(CALLED, 0), hangup(CALLER, 16), leg=replace(ANSWERED, answered_at=None)).cause is None
    assert told(hangup(CALLED, 0), leg=replace(ANSWERED, cause=34)).cause == 34


@pytest.mark.parametrize(
    ("local", "zone", "after_s"),
    [
        ("2026-03-02 12:00:20", "UTC", 20),
        ("2026-03-02 13:00:20", "Europe/Berlin", 20),
        ("2026-03-02 14:00:20", "Europe/Berlin", 20),  # the clock's offset was learned in summer
        ("2026-03-02 12:00:20", "Europe/Berlin", 20),  # CEL in UTC, by usegmtime
        ("2026-03-02 18:00:20", "Europe/Berlin", None),  # of another call
    ],
)
def test_bridging_lies_within_its_leg(local: str, zone: str, after_s: int | None) -> None:
    found = told(row("BRIDGE_ENTER", CALLED, local=local), row("BRIDGE_ENTER", CALLER, "", CALLED, local), zone=zone)
    assert found.bridged_at == (None if after_s is None else NOON + timedelta(seconds=after_s))


def test_the_first_bridging_counts_and_only_that_of_the_two() -> None:
    later = row("BRIDGE_ENTER", CALLER, "", CALLED, "2026-03-02 12:00:40")
    first = row("BRIDGE_ENTER", CALLED, "", f"PJSIP/other-1,{CALLER}", "2026-03-02 12:00:10")
    assert told(later, first).bridged_at == NOON + timedelta(seconds=10)
    assert told(row("BRIDGE_ENTER", CALLER, "", "PJSIP/other-1")).bridged_at is None


def test_a_bridging_read_later_is_not_the_first_one() -> None:
    """The pages of a table, and the days that imports read again, begin anywhere within a call."""
    again = row("BRIDGE_ENTER", CALLED, peer=CALLER, local="2026-03-02 12:00:40")
    first = told(row("BRIDGE_ENTER", CALLED, peer=CALLER, local="2026-03-02 12:00:10"))
    assert told(again, leg=first).bridged_at == NOON + timedelta(seconds=10)


def test_talk_begins_with_the_bridge() -> None:
    found = fold_legs([told(row("BRIDGE_ENTER", CALLER, "", CALLED))])
    assert (found.wait_s, found.talk_s) == (20, 40)
    assert (fold_legs([ANSWERED]).wait_s, fold_legs([ANSWERED]).talk_s) == (0, 60)


BLIND = f'{{"extension":"100","context":"elsewhere","bridge_id":"x","transferee_channel_name":"{CALLER}"}}'
ATTENDED = (
    f'{{"bridge1_id":"x","channel2_name":"{CALLED}","bridge2_id":"y","transferee_channel_name":"{CALLER}",'
    '"transfer_target_channel_name":"%s"}'
)


def test_transfers() -> None:
    assert told(row("BLINDTRANSFER", CALLED, BLIND)).transferred_to == "100"
    nobody = BLIND.replace(CALLER, "N/A")
    assert told(row("BLINDTRANSFER", CALLED, nobody)).transferred_to == "100"
    assert told(row("ATTENDEDTRANSFER", CALLED, ATTENDED % "PJSIP/1003-0000001a")).transferred_to == "1003"
    assert told(row("BLINDTRANSFER", "PJSIP/other-1", nobody)).transferred_to == ""
    passed_on = told(row("BLINDTRANSFER", CALLED, BLIND), hangup(CALLED, 16, CALLED))
    assert passed_on.ended_by == ""  # who passes a call on hangs up as well


def test_an_attended_transfers_target_that_is_not_named() -> None:
    spoke = (
        row("BRIDGE_ENTER", CALLER, "", CALLED),
        row("BRIDGE_ENTER", CALLED, "", "Local/100@elsewhere-00000014;1", "2026-03-02 12:00:30"),
    )
    assert told(*spoke, row("ATTENDEDTRANSFER", CALLED, ATTENDED % "N/A")).transferred_to == "100"
    assert told(row("ATTENDEDTRANSFER", CALLED, ATTENDED % "N/A")).transferred_to == ""


def test_reading_the_cdr_again_loses_nothing_of_it() -> None:
    known = told(row("BRIDGE_ENTER", CALLER, "", CALLED), hangup(CALLED, 16, CALLER))
    assert merge_legs(known, "cdr", ANSWERED, "cdr") == known


@pytest.mark.parametrize(
    "row",
    [
        row("HANGUP", CALLED, '{"hangupcause":16,"hangupsou'),  # cut by the column's width
        row("HANGUP", ""),
        row("HANGUP", CALLED) | {"linkedid": None},
        row("BRIDGE_ENTER", CALLER, "", CALLED) | {"eventtime": "0000-00-00 00:00:00"},
        row("BRIDGE_ENTER", CALLER, "", CALLED) | {"eventtime": None},
    ],
)
def test_the_error_of_an_unreadable_row_names_the_reason(row: dict[str, Any]) -> None:
    with pytest.raises(UnreadableRow):
        told(row)


@pytest.mark.parametrize("extra", ["", None, "[]", "null", '{"hangupcause":null}', '{"hangupcause":"many"}'])
def test_nothing_told_is_nothing_known(extra: str | None) -> None:
    assert told(row("HANGUP", CALLED, extra), row("CHAN_START", "", None), row("NEWER", "x")) == ANSWERED
