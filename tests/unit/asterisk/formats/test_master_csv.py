"""Master.csv: its columns in every configuration, broken lines, and which lines are one call."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pbx.asterisk.formats.cdr import Clock, UnreadableRow, parse_cdr_row
from pbx.asterisk.formats.master_csv import link_legs, parse_master_csv_line
from pbx.model.history import Leg

# As Asterisk 22 wrote it.
LINE = (
    '"","+49300660877","sales","queue","""José ""Pepe"" Núñez"" <+49300660877>","Local/s@caller-0000007f;1",'
    '"Local/2004@agents-00000080;1","Queue","sales,t,,,600","2026-11-21 13:03:10","2026-11-21 13:03:12",'
    '"2026-11-21 13:03:38",28,26,"ANSWERED","DOCUMENTATION"'
).encode()
UNIQUEID = b',"1795266190.328"'
FILE = b',"q-sales-+49300660877-20261121-130310-1795266190.328.wav"'
UTC_CLOCK = Clock(UTC)


def leg(line: bytes) -> Leg:
    row = parse_master_csv_line(line)
    assert row is not None
    return parse_cdr_row(row, UTC_CLOCK)


def test_a_line() -> None:
    told = leg(LINE + UNIQUEID + FILE + b"\r")
    began = datetime(2026, 11, 21, 13, 3, 10, tzinfo=UTC)
    assert (told.uniqueid, told.linkedid, told.sequence) == ("1795266190.328", "1795266190.328", None)
    assert (told.started_at, told.answered_at, told.ended_at) == (
        began,
        began + timedelta(seconds=2),
        began + timedelta(seconds=28),
    )
    assert (told.src, told.dst, told.from_name) == ("+49300660877", "sales", 'José "Pepe" Núñez')
    assert (told.channel, told.dst_channel) == ("Local/s@caller-0000007f;1", "Local/2004@agents-00000080;1")
    assert told.recording_file == "q-sales-+49300660877-20261121-130310-1795266190.328.wav"


def test_the_columns_that_are_asked_for() -> None:
    new = b',"","1795266190.100",7'
    assert leg(LINE + UNIQUEID).recording_file == ""
    assert (leg(LINE + UNIQUEID + FILE + new).linkedid, leg(LINE + UNIQUEID + new).sequence) == ("1795266190.100", 7)
    assert leg(LINE + UNIQUEID + b',"a note"').recording_file == ""
    with pytest.raises(UnreadableRow, match="loguniqueid"):
        leg(LINE)


@pytest.mark.parametrize("line", [LINE[:200], b"not a CDR", b'"' + LINE, b"\xff\xfe,,,", LINE.replace(b",28,", b",x,")])
def test_broken_lines(line: bytes) -> None:
    with pytest.raises(UnreadableRow):
        leg(line + UNIQUEID)


def test_an_empty_line_is_none() -> None:
    assert [parse_master_csv_line(line) for line in (b"", b"\r", b"\0\0\0")] == [None, None, None]


def linked(*legs: tuple[str, str, str]) -> list[str]:
    """The linkedids of legs given as (uniqueid, channel, dst_channel)."""
    one = leg(LINE + UNIQUEID)
    made = [replace(one, linkedid=uid, uniqueid=uid, channel=a, dst_channel=b) for uid, a, b in legs]
    return [told.linkedid for told in link_legs(made)]


def test_legs_that_share_a_channel_are_one_call() -> None:
    caller, agent = "PJSIP/carrier-00000001", "Local/1001@from-queue-00000002"
    assert linked(
        ("1795266190.9", f"{agent};2", "PJSIP/1001-00000003"),
        ("1795266190.10", "PJSIP/1001-00000003", ""),
        ("1795266190.7", caller, f"{agent};1"),
        ("1795266190.8", "PJSIP/1002-00000004", "PJSIP/1003-00000005"),
    ) == ["1795266190.7", "1795266190.7", "1795266190.7", "1795266190.8"]


def test_names_without_a_serial_number_link_nothing() -> None:
    assert linked(("1795266190.1", "DAHDI/1-1", ""), ("1795266190.2", "DAHDI/1-1", "")) == [
        "1795266190.1",
        "1795266190.2",
    ]


def test_the_same_name_after_a_restart_is_another_channel() -> None:
    one = leg(LINE + UNIQUEID)
    later = replace(
        one,
        linkedid="1795269999.1",
        uniqueid="1795269999.1",
        started_at=one.started_at + timedelta(hours=1),
        ended_at=one.started_at + timedelta(hours=2),
    )
    assert [told.linkedid for told in link_legs([one, later])] == ["1795266190.328", "1795269999.1"]


def test_a_linkedid_that_is_told_stays() -> None:
    one = leg(LINE + UNIQUEID)
    told = replace(one, linkedid="1795266100.1")
    assert link_legs([told]) == [told]
