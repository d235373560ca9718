"""Master.csv: its columns in every configuration, damaged lines, and which lines belong to one call."""

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


def test_a_line_becomes_a_leg() -> None:
    parsed = leg(LINE + UNIQUEID + FILE + b"\r")
    started = datetime(2026, 11, 21, 13, 3, 10, tzinfo=UTC)
    assert (parsed.uniqueid, parsed.linkedid, parsed.sequence) == ("1795266190.328", "1795266190.328", None)
    assert (parsed.started_at, parsed.answered_at, parsed.ended_at) == (
        started,
        started + timedelta(seconds=2),
        started + timedelta(seconds=28),
    )
    assert (parsed.src, parsed.dst, parsed.from_name) == ("+49300660877", "sales", 'José "Pepe" Núñez')
    assert (parsed.channel, parsed.dst_channel) == ("Local/s@caller-0000007f;1", "Local/2004@agents-00000080;1")
    assert parsed.recording_file == "q-sales-+49300660877-20261121-130310-1795266190.328.wav"


def test_the_optional_columns_depend_on_the_configuration() -> None:
    new = b',"","1795266190.100",7'
    assert leg(LINE + UNIQUEID).recording_file == ""
    assert (leg(LINE + UNIQUEID + FILE + new).linkedid, leg(LINE + UNIQUEID + new).sequence) == ("1795266190.100", 7)
    assert leg(LINE + UNIQUEID + b',"a note"').recording_file == ""
    with pytest.raises(UnreadableRow, match="loguniqueid"):
        leg(LINE)


@pytest.mark.parametrize("line", [LINE[:200], b"not a CDR", b'"' + LINE, b"\xff\xfe,,,", LINE.replace(b",28,", b",x,")])
def test_a_damaged_line_is_unreadable(line: bytes) -> None:
    with pytest.raises(UnreadableRow):
        leg(line + UNIQUEID)


def test_an_empty_line_is_skipped() -> None:
    assert [parse_master_csv_line(line) for line in (b"", b"\r", b"\0\0\0")] == [None, None, None]


def linked(*legs: tuple[str, str, str]) -> list[str]:
    """The linkedids of legs given as (uniqueid, channel, dst_channel)."""
    one = leg(LINE + UNIQUEID)
    legs_to_link = [replace(one, linkedid=uid, uniqueid=uid, channel=a, dst_channel=b) for uid, a, b in legs]
    return [parsed.linkedid for parsed in link_legs(legs_to_link)]


def test_legs_that_share_a_channel_belong_to_one_call() -> None:
    caller, agent = "PJSIP/carrier-00000001", "Local/1001@from-queue-00000002"
    assert linked(
        ("1795266190.9", f"{agent};2", "PJSIP/1001-00000003"),
        ("1795266190.10", "PJSIP/1001-00000003", ""),
        ("1795266190.7", caller, f"{agent};1"),
        ("1795266190.8", "PJSIP/1002-00000004", "PJSIP/1003-00000005"),
    ) == ["1795266190.7", "1795266190.7", "1795266190.7", "1795266190.8"]


def test_channel_names_without_a_serial_number_link_no_legs() -> None:
    assert linked(("1795266190.1", "DAHDI/1-1", ""), ("1795266190.2", "DAHDI/1-1", "")) == [
        "1795266190.1",
        "1795266190.2",
    ]


def test_the_same_channel_name_after_a_restart_is_another_channel() -> None:
    one = leg(LINE + UNIQUEID)
    later = replace(
        one,
        linkedid="1795269999.1",
        uniqueid="1795269999.1",
        started_at=one.started_at + timedelta(hours=1),
        ended_at=one.started_at + timedelta(hours=2),
    )
    assert [parsed.linkedid for parsed in link_legs([one, later])] == ["1795266190.328", "1795269999.1"]


def test_an_existing_linkedid_is_kept() -> None:
    one = leg(LINE + UNIQUEID)
    parsed = replace(one, linkedid="1795266100.1")
    assert link_legs([parsed]) == [parsed]
