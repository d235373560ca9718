"""Importers with mutated queue_log and CDR data: each line is parsed or refused, and no other error is raised."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.formats import master_csv, queue_log
from pbx.asterisk.formats.cdr import Clock, UnreadableRow, learn_clock, local_moment, parse_cdr_row
from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.model.history import Visit
from tests.fuzz.mutations import EDGE_CASES, fuzzed, mutated, mutated_fields
from tests.unit.asterisk.formats.sample_queue_logs import T, write_days

ZONES = [ZoneInfo(name) for name in ("UTC", "America/Los_Angeles", "Pacific/Kiritimati", "Europe/London")]
LOG = [line.encode().rstrip() for line in write_days(60)] + [
    f"{T}|NONE|NONE|NONE|QUEUESTART|".encode(),
    f'{T}|1795262830.6|support|Zoë "Zo" <O\'Brien> 日本|CONNECT|38|1795262830.8|3'.encode(),
    f"{T}|1795262830.6|sales|Ann|ATTENDEDTRANSFER|BRIDGE|x|3|60|1".encode(),
    f"{T}|1795262830.6|sales|Ann|EXITWITHKEY|1|2|3|40".encode(),
]
CSV = [
    b'"","+49300660877","sales","queue","""Jos\xc3\xa9 ""Pepe"" N\xc3\xba\xc3\xb1ez"" <+49300660877>",'
    b'"Local/s@caller-0000007f;1","Local/2004@agents-00000080;1","Queue","sales,t,,,600","2026-11-21 13:03:10",'
    b'"2026-11-21 13:03:12","2026-11-21 13:03:38",28,26,"ANSWERED","DOCUMENTATION","1795266190.328",'
    b'"q-sales-+49300660877-20261121-130310-1795266190.328.wav","","1795266190.328",7',
    b'"","1001","5551","from-internal","""Eve"" <1001>","PJSIP/1001-00000001","PJSIP/trunk-00000002","Dial","",'
    b'"2026-11-21 13:03:10",,"2026-11-21 13:03:38",28,0,"NO ANSWER","DOCUMENTATION","1795266190.1"',
]


def check_visit(visit: Visit) -> None:
    for span_s in (visit.wait_s, visit.ring_s, visit.talk_s):
        assert span_s is None or 0 <= span_s < 1e9
    assert visit.ended_at is None or visit.ended_at >= visit.joined_at
    assert visit.connected_at is None or visit.connected_at >= visit.joined_at


@fuzzed
@given(st.lists(mutated(LOG, changes=3) | mutated_fields(LOG[0].split(b"|"), b"|"), max_size=30))
def test_mutated_lines_of_queue_log_are_parsed_or_refused(lines: list[bytes]) -> None:
    fold = QueueLogFold()
    for line in lines:
        try:
            event = queue_log.parse_queue_log_line(line)
        except queue_log.UnreadableLine:
            continue
        if event is not None:
            assert datetime.fromtimestamp(event.at_s, UTC).year >= 2000
            fold.add(event)
    for visit in fold.take(at_end=True).visits:
        check_visit(visit)


@fuzzed
@given(st.binary(max_size=400) | mutated([b"\n".join(LOG[:20])]), st.lists(st.integers(0, 300), max_size=8))
def test_lines_are_the_same_however_the_file_is_split(data: bytes, cuts: list[int]) -> None:
    offsets = [0, *sorted(cuts), len(data)]
    all_lines, rest = [], b""
    for start, end in pairwise(offsets):
        lines, rest = queue_log.split_lines(rest, data[start:end])
        all_lines += lines
    assert [*all_lines, rest] == data.split(b"\n")


VALUE = st.none() | st.integers() | st.floats() | st.datetimes() | st.text(max_size=20) | st.sampled_from(EDGE_CASES)


@fuzzed
@given(VALUE, VALUE, VALUE, st.lists(VALUE, max_size=5), st.sampled_from(ZONES))
def test_rows_of_any_types_are_parsed_or_refused(
    time: object, callid: object, event: object, data: list[object], zone: ZoneInfo
) -> None:
    try:
        parsed = queue_log.parse_queue_log_row(time, callid, "sales", "Ann", event, data, zone)
    except queue_log.UnreadableLine:
        return
    fold = QueueLogFold()
    fold.add(parsed)
    for visit in fold.take(at_end=True).visits:
        check_visit(visit)


def check_row(row: dict[str, object], clock: Clock) -> None:
    """Check the values of a row that can be parsed."""
    try:
        leg = parse_cdr_row(row, clock)
    except UnreadableRow:
        return
    for at in (leg.started_at, leg.answered_at, leg.ended_at):
        assert at is None or (at.tzinfo is not None and 1970 <= at.year < 10_000)
    for span_s in (leg.duration_s, leg.billsec_s):
        assert span_s is None or 0 <= span_s < 1e10
    assert "\0" not in "".join((leg.src, leg.dst, leg.channel, leg.from_name, leg.recording_file))
    assert master_csv.link_legs([leg, leg])[0].linkedid


@fuzzed
@given(mutated(CSV, changes=4) | mutated_fields(CSV[0].split(b","), b","), st.sampled_from(ZONES), st.booleans())
def test_mutated_lines_of_master_csv_are_parsed_or_refused(line: bytes, zone: ZoneInfo, certain: bool) -> None:
    try:
        row = master_csv.parse_master_csv_line(line)
    except UnreadableRow:
        return
    if row is not None:
        check_row(row, Clock(zone, certain))
        check_row(row, learn_clock([row], zone, certain=certain))


@pytest.mark.parametrize("column", ["start", "answer", "end", "duration", "billsec", "uniqueid", "sequence", "clid"])
@pytest.mark.parametrize("value", EDGE_CASES, ids=lambda value: repr(value[:20]))
def test_edge_cases_in_a_row_are_parsed_or_refused(column: str, value: bytes) -> None:
    row = master_csv.parse_master_csv_line(CSV[0])
    assert row is not None
    for zone in ZONES:
        for certain in (True, False):
            check_row(row | {column: value}, Clock(zone, certain))
            check_row(row | {column: value}, learn_clock([row | {column: value}], None, certain=certain))


@given(VALUE)
def test_any_value_is_parsed_to_a_local_time_or_none(value: object) -> None:
    local = local_moment(value)
    assert local is None or (local.tzinfo is None and local.year >= 1990)
