"""CDR files in every form: rows of several lines, other columns, headers and encodings."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.formats import cel, queue_log
from pbx.asterisk.formats.cdr import Clock, UnreadableRow, parse_cdr_row
from pbx.asterisk.formats.master_csv import (
    ASTERISK_LAYOUT,
    CsvLayout,
    join_lines,
    layout_of,
    link_legs,
    parse_master_csv_line,
)
from pbx.model.channels import peer_of, trunks_of
from pbx.model.history import Leg
from tests.fuzz.mutations import fuzzed

START = datetime(2026, 11, 21, 9, tzinfo=UTC)


def record(number: int = 1, clid: str = '"Eve" <1001>', userfield: str = "", account: str = "") -> bytes:
    """A row as cdr_csv.c writes it: quotes are doubled, line breaks are not escaped."""
    uid = int(START.timestamp()) + 60 * number
    texts = (account, "1001", "1002", "from-internal", clid, f"PJSIP/1001-{number:08x}", f"PJSIP/1002-{number:08x}")
    texts += ("Dial", "PJSIP/1002,20", *(f"2026-11-21 09:{number:02}:{second}" for second in ("00", "05", "59")))
    quoted = ",".join(f'"{one.replace(chr(34), chr(34) * 2)}"' for one in texts)
    return f'{quoted},59,54,"ANSWERED","DOCUMENTATION","{uid}.{number}","{userfield}"\n'.encode()


def legs(data: bytes) -> list[Leg]:
    rows, unfinished = join_lines(data.split(b"\n"))
    assert unfinished in ([], [b""])
    parsed = [parse_master_csv_line(row) for row in rows]
    return [parse_cdr_row(row, Clock(UTC)) for row in parsed if row is not None]


ODD_TEXTS = (
    "Smith,\nJohn",
    "\nSmith",
    "Smith\n",
    "a\r\nb",
    "\n\n\n",
    'a "b\nc" d',
    '"\n"',
    "a\n\nb\nc",
    ",\n,",
    "\r\n",
)


@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_any_field_of_a_row_may_contain_line_breaks(text: str, end: bytes) -> None:
    note = text.replace('"', '""')
    damaged = record(2, clid=f'"{text}" <5550100>', userfield=note, account=text)
    data = b"".join(
        one.removesuffix(b"\n") + end for one in (record(1), damaged, damaged.replace(b"2", b"3"), record(4))
    )
    found = legs(data)
    assert len(found) == 4
    assert [leg.duration_s for leg in found] == [59, 59, 59, 59]
    assert found[1].from_name == " ".join(text.split())
    assert "\n" not in found[1].from_name


@pytest.mark.parametrize("damaged", [record(2)[:60], record(2)[:90], b'"a","quote\n', b'"\n', b'"x","y\n"z","\n'])
def test_a_row_with_unclosed_quotes_damages_no_other_row(damaged: bytes) -> None:
    rows, unfinished = join_lines((record(1) + damaged.rstrip(b"\n") + b"\n" + record(3) + record(4)).split(b"\n"))
    complete = [
        parse_cdr_row(parse_master_csv_line(row) or {}, Clock(UTC)).uniqueid[-1]
        for row in rows
        if row + b"\n" in map(record, (1, 3, 4))
    ]
    assert (complete, unfinished) == (["1", "3", "4"], [])


def test_an_incomplete_row_is_left_for_later() -> None:
    complete = record(1, clid='"a\nb" <1>')
    for cut in range(1, len(complete) - 1):
        *lines, rest = complete[:cut].split(b"\n")
        rows, unfinished = join_lines(lines)
        assert not rows
        assert sum(len(line) + 1 for line in unfinished) + len(rest) == cut


def test_an_unclosed_quote_is_limited_in_size() -> None:
    rows, unfinished = join_lines([b'"', *[b"x" * 100] * 5000])
    assert max(map(len, rows)) < 70_000
    assert sum(map(len, unfinished)) < 70_000


CUSTOM = (  # cdr_custom.conf.sample: clid is first, and linkedid has no separate column
    b'"""Eve"" <1001>","1001","1002","from-internal","PJSIP/1001-00000001","PJSIP/1002-00000002","Dial",'
    b'"PJSIP/1002,20","2026-11-21 09:00:00","2026-11-21 09:00:05","2026-11-21 09:01:00","60","55","ANSWERED",'
    b'"DOCUMENTATION","","1795251600.1","",1'
)


def test_cdr_custom_is_recognized_by_its_columns() -> None:
    (leg,) = legs(CUSTOM)
    assert (leg.src, leg.dst, leg.from_name, leg.uniqueid) == ("1001", "1002", "Eve", "1795251600.1")
    assert (leg.started_at, leg.duration_s, leg.billsec_s, leg.disposition) == (START, 60, 55, "ANSWERED")
    (other,) = legs(CUSTOM.replace(b"1795251600.1", b"1795251700.7") + b',"1795251600.1"')
    assert other.linkedid == "1795251600.1"


HEADER = "calldate,clid,src,dst,channel,dstchannel,lastapp,duration,billsec,disposition,uniqueid,linkedid"
VALUES = ["2026-11-21 09:00:00", '"Eve" <1001>', "1001", "1002", "PJSIP/1001-1", "PJSIP/1002-2", "Dial", "60", "55"]
VALUES += ["ANSWERED", "1795251600.1", "1795251600.1"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("names", [HEADER, HEADER.upper(), "\ufeff" + HEADER])
def test_a_header_names_the_columns(delimiter: str, names: str) -> None:
    header = names.replace(",", delimiter).encode()
    if delimiter != "\t":
        header = b"\xef\xbb\xbf" * names.startswith("\ufeff") + b'"' + header.removeprefix(b"\xef\xbb\xbf") + b'"'
        header = header.replace(delimiter.encode(), f'"{delimiter}"'.encode())
    layout = layout_of(header)
    assert (layout.columns, layout.delimiter, layout.missing) == (tuple(HEADER.split(",")), delimiter, "")
    quoted = VALUES if delimiter == "\t" else [f'"{value.replace(chr(34), chr(34) * 2)}"' for value in VALUES]
    row = parse_master_csv_line(delimiter.join(quoted).encode(), layout)
    assert row is not None
    leg = parse_cdr_row(row, Clock(UTC))
    assert (leg.from_name, leg.started_at, leg.billsec_s) == ("Eve", START, 55)
    assert parse_master_csv_line(header, layout) is None  # as in concatenated files
    with pytest.raises(UnreadableRow, match="columns"):
        parse_master_csv_line(b"x", layout)


def test_a_header_without_required_columns_names_the_missing_one() -> None:
    assert layout_of(b"calldate,src,dst,channel,duration").missing == "uniqueid"
    assert layout_of(b"uniqueid,src,dst,channel,duration").missing == "calldate"
    assert layout_of(record()) == ASTERISK_LAYOUT == CsvLayout()


def test_names_in_latin_1_and_utf_8_are_decoded() -> None:
    def name(raw: bytes) -> str:
        row = parse_master_csv_line(record(clid='"NAME" <1>').replace(b"NAME", raw))
        return parse_cdr_row(row or {}, Clock(UTC)).from_name

    assert [name(raw) for raw in (b"J\xc3\xb6rg", b"J\xf6rg", b"J\xfcrg")] == ["Jörg", "Jörg", "Jürg"]


@pytest.mark.parametrize(
    ("clid", "name"),
    [
        ('"Eve" <1001>', "Eve"),
        ("Eve <1001>", "Eve"),
        ('"Eve "E" Adams" <1>', 'Eve "E" Adams'),
        ('"' + "A" * 78, "A" * 78),  # 79 bytes in total
        ('"A name of so many letters" <+4930', "A name of so many letters"),
        ('"A name of so many letters" <', "A name of so many letters"),
        ('"A name of so many letters"', "A name of so many letters"),
        ('"A <B> C" <55>', "A <B> C"),
        ("5550100", ""),
        ("<5550100>", ""),
        ('"" <5550100>', ""),
        ("", ""),
    ],
)
def test_a_callers_name_is_read_even_if_clid_is_truncated(clid: str, name: str) -> None:
    row = parse_master_csv_line(record(clid=clid))
    assert row is not None
    assert parse_cdr_row(row, Clock(UTC)).from_name == name


def test_a_call_with_rows_from_before_and_after_an_upgrade_is_one_call() -> None:
    """Some rows have a linkedid and others don't; the rows without one take it from the others."""
    one = legs(record(1))[0]

    def leg(uid: str, linkedid: str, channel: str, to: str) -> Leg:
        return Leg(**{name: getattr(one, name) for name in one.__slots__} | {
            "uniqueid": uid, "linkedid": linkedid or uid, "channel": channel, "dst_channel": to,
        })  # fmt: skip

    caller = leg("1795251600.5", "1795251600.5", "SIP/carrier-00000001", "Local/1@q-00000001;1")
    agent = leg("1795251600.2", "", "Local/1@q-00000001;2", "SIP/1-00000002")
    assert [one.linkedid for one in link_legs([caller, agent], {"1795251600.5"})] == ["1795251600.5"] * 2
    assert [one.linkedid for one in link_legs([caller, agent])] == ["1795251600.2"] * 2
    both = {"1795251600.5", "1795251600.2"}
    assert [one.linkedid for one in link_legs([caller, agent], both)] == ["1795251600.5", "1795251600.2"]


REPEATED_TEXTS = st.sampled_from(
    [" ", '"', "<", ">", "-", "|", ",", ".", "\\", "\t", "\n", '" <', "a ", "9", ".9", "PAUSE|", ";1", "\xff"]
)


@fuzzed
@given(REPEATED_TEXTS, REPEATED_TEXTS, REPEATED_TEXTS, st.integers(1, 20_000))
def test_parsing_time_is_linear_in_the_length_of_the_text(first: str, run: str, last: str, count: int) -> None:
    """Each pattern applied to external text is linear: 60,000 characters of any kind take less than a second."""
    text = first + run * (60_000 // len(run)) + last
    unfinished = process_time()
    for value in (text, f'"{text}', f'"{text}" <1>', text[:count]):
        row = {"uniqueid": "1795251600.1", "calldate": "2026-11-21 09:00:00", "clid": value, "channel": value}
        row |= {"dstchannel": value, "lastapp": "Queue", "lastdata": value, "linkedid": value, "duration": value}
        with suppress(UnreadableRow):
            leg = parse_cdr_row(row | {"duration": "1"}, Clock(UTC))
            link_legs([leg, leg])
        peer_of(value)
        trunks_of(value, value, value, ())
        for line in (value, f"1795251600|1.2|600|{value}|CONNECT|5|x|3", f"1795251600|1.2|600|Eve|{value}|CONNECT"):
            with suppress(queue_log.UnreadableLine):
                queue_log.parse_queue_log_line(line.encode("latin-1"))
        lines = record(clid=value.replace("\n", " ")).decode("utf-8", "replace") + value
        join_lines(lines.encode().split(b"\n"))
        layout_of(value.encode())
        with suppress(UnreadableRow):
            cel.add_row({}, {"eventtype": "HANGUP", "channame": value, "linkedid": value, "extra": value})
    assert process_time() - unfinished < 5


def test_a_linkedid_with_5000_digits_is_accepted() -> None:
    (one,) = legs(record(1))
    leg = Leg(**{name: getattr(one, name) for name in one.__slots__} | {"linkedid": "1795251600." + "9" * 5000})
    assert link_legs([leg])[0].linkedid == leg.linkedid
    assert leg.started_at == START + timedelta(minutes=1)
