"""Lines and rows of queue_log become events, with any content."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pbx import text_encoding
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.formats.queue_log import (
    QueueEvent,
    UnreadableLine,
    callid_epoch_s,
    in_order,
    parse_queue_log_line,
    parse_queue_log_row,
)
from pbx.errors import SettingsError
from pbx.settings import load_settings

AT = 1_795_262_830
BERLIN = ZoneInfo("Europe/Berlin")


def test_a_line_is_an_event() -> None:
    line = f'{AT}|1795262830.6|support|Zoë "Zo" <O\'Brien> 日本|CONNECT|38|1795262830.8|3\r'.encode()
    assert parse_queue_log_line(line) == QueueEvent(
        AT, "1795262830.6", "support", 'Zoë "Zo" <O\'Brien> 日本', "CONNECT", "38|1795262830.8|3"
    )


def test_a_line_without_data_is_an_event_and_an_empty_line_is_skipped() -> None:
    assert parse_queue_log_line(f"{AT}|NONE|NONE|NONE|QUEUESTART|".encode()) == QueueEvent(
        AT, "NONE", "NONE", "NONE", "QUEUESTART", ""
    )
    assert parse_queue_log_line(f"{AT}|NONE|NONE|NONE|CONFIGRELOAD".encode()) is not None
    assert parse_queue_log_line(b"") is None
    assert parse_queue_log_line(b"\r") is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no queue_log at all", "1 fields"),
        (b"1795262830|1795262830.6|support|NONE", "4 fields"),
        (b"yesterday|1|support|NONE|ENTERQUEUE|", "'yesterday' is not a time"),
        (b"nan|1|support|NONE|ENTERQUEUE|", "'nan' is not a time"),
        (b"0|NONE|NONE|NONE|QUEUESTART|", "the time 0 is not a time of this century"),
        (b"17952628301|1|support|NONE|ENTERQUEUE|", "is not a time of this century"),
        (b"1795262830|1|support|NONE||x", "no event is named"),
    ],
)
def test_the_error_of_an_unreadable_line_states_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(UnreadableLine, match=reason.replace("|", r"\|")):
        parse_queue_log_line(line)


def test_bytes_that_are_not_utf_8_stay_readable() -> None:
    event = parse_queue_log_line(b"\0\0\0" + f"{AT}|1|caf".encode() + b"\xe9|NONE|ENTERQUEUE||5\xff5|1")
    assert event is not None
    assert (event.at_s, event.queue, event.data) == (AT, "café", "|5ÿ5|1")


def test_a_bar_in_an_agents_name_shifts_no_fields() -> None:
    event = parse_queue_log_line(f"{AT}|1.2|sales|Ann | Bob|CONNECT|3|1.4|2".encode())
    assert event is not None
    assert (event.agent, event.name, event.data) == ("Ann | Bob", "CONNECT", "3|1.4|2")
    unknown = parse_queue_log_line(f"{AT}|1.2|sales|Ann|NEWEVENT|x".encode())
    assert unknown is not None
    assert (unknown.agent, unknown.name, unknown.data) == ("Ann", "NEWEVENT", "x")


# Each event with its data as app_queue.c writes it: first the newest form, then those of Asterisk 1.2 to 1.8.
@pytest.mark.parametrize(
    "event",
    [
        "CONNECT|5|1795250400.2|3",
        "CONNECT|5|1795250400.2",
        "CONNECT|5",
        "COMPLETEAGENT|5|60|1",
        "COMPLETECALLER|5|60",
        "RINGNOANSWER|10000",
        "RINGNOANSWER|",
        "ABANDON|1|1|20",
        "BLINDTRANSFER|6002|from-internal|5|60|1",
        "TRANSFER|6002|from-internal|5|60",
        "TRANSFER|6002|from-internal",
        "ATTENDEDTRANSFER|BRIDGE|f1b2|5|60|1",
        "ATTENDEDTRANSFER|LINK|SIP/1-00000001|SIP/2-00000002|5|60|1",
        "ADDMEMBER|",
        "ADDMEMBER|PAUSED",
        "REMOVEMEMBER|",
        "PAUSE|Lunch",
        "PAUSE|",
        "PAUSE|PAUSE",
        "UNPAUSE|",
        "PENALTY|7",
        "SYSCOMPAT|",
        "AGENTLOGIN|SIP/7-1",
        "AGENTLOGOFF|SIP/7-1|300",
        "WITHDRAW|1|2|30|sent | to",
    ],
)
@pytest.mark.parametrize("agent", ["Eve | ACME", "Eve|ACME", "EVE|IT|1", "Eve | PAUSE |", "Eve|PAUSE", "|Eve", "Eve|5"])
def test_an_agents_name_may_contain_bars_in_every_event(agent: str, event: str) -> None:
    name, _, data = event.partition("|")
    parsed = parse_queue_log_line(f"{AT}|1.2|sales|{agent}|{event}".encode())
    assert parsed == QueueEvent(AT, "1.2", "sales", agent, name, data)


def test_names_in_other_encodings_stay_distinct_and_readable() -> None:
    def agents(*raw: bytes) -> list[str]:
        events = [parse_queue_log_line(b"%d|1.2|600|%b|CONNECT|5|1.3|3" % (AT, one)) for one in raw]
        return [event.agent for event in events if event is not None]

    assert agents(b"J\xf6rg", b"J\xfcrg", "Jörg".encode()) == ["Jörg", "Jürg", "Jörg"]
    undefined = agents(b"J\x81rg", b"J\x8drg", b"J\x8frg", b"J\x90rg", b"J\x9drg")  # undefined in cp1252
    assert len(set(undefined)) == 5
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(undefined)


def test_each_field_of_a_line_is_decoded_on_its_own() -> None:
    event = parse_queue_log_line(b"%d|1.2|600|J\xc3\xb6rg|PAUSE|Caf\xe9" % AT)
    assert event is not None
    assert (event.agent, event.data) == ("Jörg", "Café")


def test_the_fallback_encoding_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoding, "_fallback", text_encoding.DEFAULT)
    monkeypatch.setenv("PBX_ENCODING", "cp1251")
    load_settings()
    event = parse_queue_log_line(b"%d|1.2|600|\xcb\xe5\xed\xe0|CONNECT|5|1.3|3" % AT)
    assert event is not None
    assert event.agent == "Лена"
    assert Message(b"Event: Newchannel\r\nCallerIDName: \xcb\xe5\xed\xe0\r\n").get("CallerIDName") == "Лена"
    for wrong in ("utf-16", "klingon", "hex", "idna"):
        monkeypatch.setenv("PBX_ENCODING", wrong)
        with pytest.raises(SettingsError, match="PBX_ENCODING"):
            load_settings()


def test_a_byte_order_mark_before_the_time_is_ignored() -> None:
    event = parse_queue_log_line(b"\xef\xbb\xbf%d|1.2|sales|NONE|ENTERQUEUE||555|1\r" % AT)
    assert event is not None
    assert (event.at_s, event.data) == (AT, "|555|1")


@pytest.mark.parametrize(
    "time",
    [
        AT,
        str(AT),
        f"{AT}.834211",
        float(AT) + 0.5,
        b"%d" % AT,
        "2026-11-21 12:07:10.834211",
        datetime.fromisoformat("2026-11-21 12:07:10"),
        datetime(2026, 11, 21, 13, 7, 10, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_a_rows_time_is_read_in_every_form(time: Any) -> None:
    assert parse_queue_log_row(time, "1.2", "sales", "NONE", "ENTERQUEUE", ("", "555", "1")).at_s == AT


def test_a_rows_local_time_is_in_the_pbx_time_zone() -> None:
    assert parse_queue_log_row("2026-11-21 13:07:10", "", "q", "", "PAUSE", (), BERLIN).at_s == AT


@pytest.mark.parametrize("time", [None, "", "0000-00-00 00:00:00", "NULL", 0, float("nan")])
def test_a_row_without_a_time_is_unreadable(time: Any) -> None:
    with pytest.raises(UnreadableLine):
        parse_queue_log_row(time, "1.2", "sales", "NONE", "ENTERQUEUE", ("", "555", "1"))


def test_the_callid_decides_which_repeated_hour_is_meant() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 summer time
    second = first + timedelta(hours=1)  # 02:30 winter time
    for meant in (first, second):
        callid = f"{int(meant.timestamp()) - 20}.7"
        row = parse_queue_log_row("2026-10-25 02:30:00", callid, "sales", "NONE", "CONNECT", ("20",), BERLIN)
        assert row.at_s == int(meant.timestamp())


def test_a_time_in_the_skipped_hour_is_accepted() -> None:
    row = parse_queue_log_row("2026-03-29 02:30:00", "1.2", "sales", "NONE", "CONNECT", (), BERLIN)
    assert abs(row.at_s - int(datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp())) <= 3600


def test_split_and_joined_data_give_the_same_event() -> None:
    split = parse_queue_log_row(AT, "1.2", "sales", None, "ENTERQUEUE", (None, "555", "1", "", None))
    assert split == parse_queue_log_row(AT, "1.2", "sales", "", "ENTERQUEUE", ("|555|1",))
    assert split.data == "|555|1"


def test_a_callid_contains_its_epoch() -> None:
    assert callid_epoch_s("1795262830.12") == AT
    assert callid_epoch_s("pbx-berlin-1795262830.12") == AT
    assert callid_epoch_s("NONE") is None


def test_rows_of_one_second_are_sorted() -> None:
    names = ["COMPLETEAGENT", "CONNECT", "RINGNOANSWER", "ENTERQUEUE", "DID", "QUEUESTART"]
    events = [QueueEvent(AT, "1.2", "q", "a", name, "") for name in names]
    assert [event.name for event in in_order(events)] == [
        "QUEUESTART", "ENTERQUEUE", "DID", "RINGNOANSWER", "CONNECT", "COMPLETEAGENT",
    ]  # fmt: skip
