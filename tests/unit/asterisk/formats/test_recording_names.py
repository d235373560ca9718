"""File names of recordings: every type that FreePBX writes, fields with dashes, times, and other names."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.asterisk.formats.recording_names import RecordingName, epoch_of, leg_of, parse_name, without_format

AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
TAIL = "20231114-231320-1700000000.12"  # the PBX's clock is an hour ahead


@pytest.mark.parametrize(
    ("name", "type_", "direction", "from_number", "to_number"),
    [
        ("out-00493012345-1001", "out", "outbound", "1001", "00493012345"),
        ("in-5550102-+4930123456", "in", "inbound", "+4930123456", "5550102"),
        ("external-1001-03012345678", "external", "inbound", "03012345678", "1001"),
        ("internal-1002-1001", "internal", "internal", "1001", "1002"),
        ("q-6001-+49300495313", "q", "inbound", "+49300495313", "6001"),
        ("rg-600-03012345678", "rg", "inbound", "03012345678", "600"),
        ("exten-1002-1001", "exten", "internal", "1001", "1002"),
        ("exten-1002-03012345678", "exten", "inbound", "03012345678", "1002"),
        ("exten-03012345678-1002", "exten", "outbound", "1002", "03012345678"),
        ("parked-71-+4930123", "parked", "inbound", "+4930123", "71"),
        ("ondemand-1001-1002", "ondemand", "internal", "1002", "1001"),
        ("force-1001-", "force", "unknown", "", "1001"),
        ("madeup-1001-1002", "madeup", "unknown", "1002", "1001"),
    ],
)
def test_each_type_gives_the_direction_and_the_numbers(
    name: str, type_: str, direction: str, from_number: str, to_number: str
) -> None:
    facts = parse_name(f"2023/11/14/{name}-{TAIL}")
    assert (facts.type, facts.direction, facts.from_number, facts.to_number) == (
        type_,
        direction,
        from_number,
        to_number,
    )
    assert facts.uniqueid == "1700000000.12"
    assert facts.started_at == AT


def test_only_the_type_q_has_a_queue() -> None:
    assert parse_name(f"q-sales-1001-{TAIL}").queue == "sales"
    assert parse_name(f"rg-600-1001-{TAIL}").queue == ""


@pytest.mark.parametrize("name", ["8000-8000-always", "conf-8000-1001"])
def test_a_conference_has_a_room_and_no_caller(name: str) -> None:
    facts = parse_name(f"{name}-{TAIL}")
    assert (facts.type, facts.room, facts.from_number, facts.direction) == ("conference", "8000", "", "unknown")


@pytest.mark.parametrize(
    ("dest", "source"),
    [("my-sales-queue", "1001"), ("späti & söhne", "+49 30 1"), ("日本", "anonymous"), ("a  b", "*97"), ("", "")],
)
def test_fields_may_contain_dashes_spaces_and_any_script(dest: str, source: str) -> None:
    facts = parse_name(f"q-{dest}-{source}-{TAIL}")
    assert (facts.to_number, facts.from_number, facts.queue) == (dest, source, dest)


def test_a_system_name_is_part_of_the_uniqueid() -> None:
    facts = parse_name("out-5551-1001-20231114-231320-pbx-berlin-1-1700000000.12")
    assert facts.uniqueid == "pbx-berlin-1-1700000000.12"
    assert facts.started_at == AT
    assert facts.utc_offset_s == 3600


@pytest.mark.parametrize(
    ("written", "offset_s"),
    [
        ("20231114-221320", 0),
        ("20231114-221359", 0),  # the name is created some time after the channel
        ("20231114-222500", 0),
        ("20231115-034320", 5 * 3600 + 1800),  # Kolkata
        ("20231115-035905", 5 * 3600 + 2700),  # Kathmandu, 45 s late
        ("20231114-171320", -5 * 3600),
        ("20231114-171325", -5 * 3600),
        ("20241114-171325", None),  # no clock is so wrong: the uniqueid belongs to another time
    ],
)
def test_the_utc_offset_is_learned_in_steps_of_15_minutes(written: str, offset_s: int | None) -> None:
    assert parse_name(f"out-1-2-{written}-1700000000.12").utc_offset_s == offset_s


def test_without_an_epoch_the_start_time_needs_a_time_zone() -> None:
    name = "out-5551-1001-20230714-231320-unknown"
    assert parse_name(name).started_at is None
    assert parse_name(name, ZoneInfo("Europe/Berlin")).started_at == datetime(2023, 7, 14, 21, 13, 20, tzinfo=UTC)
    assert parse_name(name).utc_offset_s is None


def test_an_impossible_date_gives_no_time() -> None:
    facts = parse_name("out-5551-1001-20231399-999999-x", UTC)
    assert (facts.type, facts.local_time, facts.started_at) == ("out", None, None)


@pytest.mark.parametrize("name", ["", "hello", "a/b/c", "voicemail-1001", "out-1-2-20231114-17", "é\n'\"<b>"])
def test_an_unknown_name_gives_nothing(name: str) -> None:
    assert parse_name(name) == RecordingName()


@pytest.mark.parametrize(
    ("suffix", "leg"),
    [("-r", "r"), ("-t", "t"), ("-in", "r"), ("-out", "t"), ("-rx", "r"), ("-tx", "t"), ("-R.wav", "r"), ("", "")],
)
def test_both_sides_of_a_call_share_one_uniqueid(suffix: str, leg: str) -> None:
    name = f"q-600-1001-{TAIL}{suffix}"
    assert leg_of(name) == leg
    assert parse_name(name).uniqueid == "1700000000.12"
    assert parse_name(name).utc_offset_s == 3600


@pytest.mark.parametrize("name", ["", "-", "r", "in", "out-1-2", f"in-1001-1002-{TAIL}.wav", "checkout", "a-r-b"])
def test_a_side_is_recognized_only_at_the_end_of_a_name(name: str) -> None:
    assert leg_of(name) == ""


@pytest.mark.parametrize(
    ("name", "type_", "direction", "from_number", "to_number", "queue"),
    [
        (f"OUT-00493012345-1001-{TAIL}", "out", "outbound", "1001", "00493012345", ""),
        (f"IN-5550102-+4930123456-{TAIL}", "in", "inbound", "+4930123456", "5550102", ""),
        (f"Q-6001-+49300495313-{TAIL}", "q", "inbound", "+49300495313", "6001", "6001"),
        (f"OUT1001-{TAIL}", "out", "outbound", "1001", "", ""),
        (f"OUT-1001-{TAIL}", "out", "outbound", "1001", "", ""),
        (f"q600-{TAIL}", "q", "inbound", "", "600", "600"),
        (f"g601-{TAIL}", "rg", "inbound", "", "601", ""),
        (TAIL, "", "unknown", "", "", ""),
        (f"{TAIL}-out", "", "unknown", "", "", ""),
        (f"recorded-{TAIL}", "", "unknown", "", "", ""),
        ("1700000000.12", "", "unknown", "", "", ""),
        ("1700000000-1700000000.12", "", "unknown", "", "", ""),
        ("1001_5551_1700000000.12_in", "", "unknown", "", "", ""),
        ("out-1-2-20231114-1700000000.12", "", "unknown", "", "", ""),
    ],
)
def test_a_uniqueid_is_found_in_older_and_other_names(
    name: str, type_: str, direction: str, from_number: str, to_number: str, queue: str
) -> None:
    facts = parse_name(f"2023/11/14/{name}")
    assert (facts.type, facts.direction, facts.from_number, facts.to_number, facts.queue) == (
        type_,
        direction,
        from_number,
        to_number,
        queue,
    )
    assert (facts.uniqueid, facts.started_at) == ("1700000000.12", AT)


@pytest.mark.parametrize("name", ["20231114-231320-1001", "rec-20231114-231320-1001", "20231114-231320-a-r"])
def test_a_number_after_the_date_in_another_name_is_not_a_uniqueid(name: str) -> None:
    """Otherwise all recordings of an extension would belong to one call."""
    assert parse_name(name).uniqueid == ""
    assert parse_name(name, UTC).started_at == datetime(2023, 11, 14, 23, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.wav", "a"), ("a.WAV", "a"), ("a.wav49", "a"), ("a-1700000000.12", "a-1700000000.12"), ("a.b.gsm", "a.b")],
)
def test_a_format_is_removed_and_a_serial_number_stays(file: str, name: str) -> None:
    assert without_format(file) == name


REPEATED_TEXTS = ["-", "1", ".", "-1", "20231114-231320-", "-20231114-231320", "1700000000.", "-r.a", "OUT", "\n", "é"]


@given(st.lists(st.tuples(st.sampled_from(REPEATED_TEXTS), st.integers(1, 60_000)), max_size=4))
@settings(max_examples=60, deadline=500)
def test_long_names_are_parsed_quickly(runs: list[tuple[str, int]]) -> None:
    name = "out-1-2-" + "".join(text * count for text, count in runs)
    parse_name(name)
    leg_of(name)
    without_format(name)
    epoch_of(name)


@given(st.text(alphabet="-.0123456789abcdefqrtOUIN\n", max_size=255))
def test_a_name_of_up_to_255_characters_is_read_completely(head: str) -> None:
    name = f"{head}-{TAIL}"
    assert parse_name(name).uniqueid == ("1700000000.12" if len(name) <= 255 else "")
