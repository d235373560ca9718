"""CEL events, as Asterisk 16 and 22 wrote them, complete the legs of their call."""

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


def leg_with_rows(*rows: dict[str, Any], leg: Leg = ANSWERED, timezone: str = "UTC") -> Leg:
    calls: dict[str, CallEvents] = {}
    for one in rows:
        add_row(calls, one)
    return with_events(leg, calls.get("1.1", CallEvents()), ZoneInfo(timezone))


def test_the_called_channels_hangup_gives_the_cause_and_who_hung_up() -> None:
    ended = leg_with_rows(hangup(CALLED, 16, CALLER), hangup(CALLER, 16, CALLER))
    assert (ended.cause, ended.ended_by) == (16, "caller")
    assert leg_with_rows(hangup(CALLED, 16, CALLED)).ended_by == "called"
    for nobody in ("", "dialplan/builtin"):
        assert leg_with_rows(hangup(CALLED, 16, nobody)).ended_by == ""


def test_the_other_half_of_a_local_channel_gives_the_cause() -> None:
    busy = replace(ANSWERED, answered_at=None, disposition="BUSY")
    rows = hangup(CALLED, 0), hangup(CALLED.replace(";1", ";2"), 17), hangup(CALLER, 16, "dialplan/builtin")
    assert (leg_with_rows(*rows, leg=busy).cause, leg_with_rows(*rows, leg=busy).ended_by) == (17, "")


def test_the_callers_cause_counts_only_for_an_answered_leg() -> None:
    assert leg_with_rows(hangup(CALLED, 0), hangup(CALLER, 16)).cause == 16
    assert leg_with_rows(hangup(CALLED, 0), hangup(CALLER, 16), leg=replace(ANSWERED, answered_at=None)).cause is None
    assert leg_with_rows(hangup(CALLED, 0), leg=replace(ANSWERED, cause=34)).cause == 34


@pytest.mark.parametrize(
    ("local", "timezone", "after_s"),
    [
        ("2026-03-02 12:00:20", "UTC", 20),
        ("2026-03-02 13:00:20", "Europe/Berlin", 20),
        ("2026-03-02 14:00:20", "Europe/Berlin", 20),  # the clock's offset was learned in summer
        ("2026-03-02 12:00:20", "Europe/Berlin", 20),  # CEL in UTC, by usegmtime
        ("2026-03-02 18:00:20", "Europe/Berlin", None),  # belongs to another call
    ],
)
def test_a_bridge_counts_only_within_its_leg(local: str, timezone: str, after_s: int | None) -> None:
    found = leg_with_rows(
        row("BRIDGE_ENTER", CALLED, local=local), row("BRIDGE_ENTER", CALLER, "", CALLED, local), timezone=timezone
    )
    assert found.bridged_at == (None if after_s is None else NOON + timedelta(seconds=after_s))


def test_only_the_first_bridge_between_the_two_channels_counts() -> None:
    later = row("BRIDGE_ENTER", CALLER, "", CALLED, "2026-03-02 12:00:40")
    first = row("BRIDGE_ENTER", CALLED, "", f"PJSIP/other-1,{CALLER}", "2026-03-02 12:00:10")
    assert leg_with_rows(later, first).bridged_at == NOON + timedelta(seconds=10)
    assert leg_with_rows(row("BRIDGE_ENTER", CALLER, "", "PJSIP/other-1")).bridged_at is None


def test_a_bridge_read_later_does_not_replace_the_first_one() -> None:
    """The pages of a table, and the days that an import reads again, can start in the middle of a call."""
    again = row("BRIDGE_ENTER", CALLED, peer=CALLER, local="2026-03-02 12:00:40")
    first = leg_with_rows(row("BRIDGE_ENTER", CALLED, peer=CALLER, local="2026-03-02 12:00:10"))
    assert leg_with_rows(again, leg=first).bridged_at == NOON + timedelta(seconds=10)


def test_talk_time_starts_with_the_bridge() -> None:
    found = fold_legs([leg_with_rows(row("BRIDGE_ENTER", CALLER, "", CALLED))])
    assert (found.wait_s, found.talk_s) == (20, 40)
    assert (fold_legs([ANSWERED]).wait_s, fold_legs([ANSWERED]).talk_s) == (0, 60)


BLIND = f'{{"extension":"100","context":"elsewhere","bridge_id":"x","transferee_channel_name":"{CALLER}"}}'
ATTENDED = (
    f'{{"bridge1_id":"x","channel2_name":"{CALLED}","bridge2_id":"y","transferee_channel_name":"{CALLER}",'
    '"transfer_target_channel_name":"%s"}'
)


def test_transfer_events_give_the_target() -> None:
    assert leg_with_rows(row("BLINDTRANSFER", CALLED, BLIND)).transferred_to == "100"
    nobody = BLIND.replace(CALLER, "N/A")
    assert leg_with_rows(row("BLINDTRANSFER", CALLED, nobody)).transferred_to == "100"
    assert leg_with_rows(row("ATTENDEDTRANSFER", CALLED, ATTENDED % "PJSIP/1003-0000001a")).transferred_to == "1003"
    assert leg_with_rows(row("BLINDTRANSFER", "PJSIP/other-1", nobody)).transferred_to == ""
    transferred = leg_with_rows(row("BLINDTRANSFER", CALLED, BLIND), hangup(CALLED, 16, CALLED))
    assert transferred.ended_by == ""  # the transferring channel also hangs up


def test_an_attended_transfers_missing_target_is_found_by_its_bridge() -> None:
    bridges = (
        row("BRIDGE_ENTER", CALLER, "", CALLED),
        row("BRIDGE_ENTER", CALLED, "", "Local/100@elsewhere-00000014;1", "2026-03-02 12:00:30"),
    )
    assert leg_with_rows(*bridges, row("ATTENDEDTRANSFER", CALLED, ATTENDED % "N/A")).transferred_to == "100"
    assert leg_with_rows(row("ATTENDEDTRANSFER", CALLED, ATTENDED % "N/A")).transferred_to == ""


def test_reading_the_cdr_again_keeps_what_cel_added() -> None:
    leg_with_details = leg_with_rows(row("BRIDGE_ENTER", CALLER, "", CALLED), hangup(CALLED, 16, CALLER))
    assert merge_legs(leg_with_details, "cdr", ANSWERED, "cdr") == leg_with_details


@pytest.mark.parametrize(
    "row",
    [
        row("HANGUP", CALLED, '{"hangupcause":16,"hangupsou'),  # truncated by the column's width
        row("HANGUP", ""),
        row("HANGUP", CALLED) | {"linkedid": None},
        row("BRIDGE_ENTER", CALLER, "", CALLED) | {"eventtime": "0000-00-00 00:00:00"},
        row("BRIDGE_ENTER", CALLER, "", CALLED) | {"eventtime": None},
    ],
)
def test_a_damaged_row_is_unreadable(row: dict[str, Any]) -> None:
    with pytest.raises(UnreadableRow):
        leg_with_rows(row)


@pytest.mark.parametrize("extra", ["", None, "[]", "null", '{"hangupcause":null}', '{"hangupcause":"many"}'])
def test_events_without_details_change_nothing(extra: str | None) -> None:
    assert leg_with_rows(row("HANGUP", CALLED, extra), row("CHAN_START", "", None), row("NEWER", "x")) == ANSWERED
