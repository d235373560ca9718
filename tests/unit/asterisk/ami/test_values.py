"""Values of AMI headers: escapes, round-trip times, numbers and times."""

from datetime import UTC, datetime, timedelta

import pytest

from pbx.asterisk.ami import values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("O\\'Brien", "O'Brien"),
        ('\\"Zo\\"', '"Zo"'),
        ("a\\\\b", "a\\b"),
        ("a\\nb", "a\nb"),
        ("Zoë 🎉", "Zoë 🎉"),
        ("x\\", "x\\"),
    ],
)
def test_unescape_removes_backslashes(text: str, expected: str) -> None:
    assert values.unescape(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1276", 1.276), ("N/A", None), ("0", None), ("", None), ("OK (12 ms)", 12.0), ("LAGGED (2100 ms)", 2100.0)],
)
def test_roundtrip_ms_reads_microseconds_and_peer_statuses(text: str, expected: float | None) -> None:
    assert values.roundtrip_ms(text) == expected


def test_numbers_and_times_are_parsed_and_invalid_ones_become_the_default() -> None:
    assert (values.integer("12"), values.integer("N/A"), values.integer("")) == (12, 0, 0)
    assert (values.decimal("33.3"), values.decimal("")) == (33.3, None)
    assert (values.seconds("01:02:03"), values.seconds("100:00:00"), values.seconds("x")) == (3723, 360_000, 0)
    assert [values.integer(text) for text in ("9" * 30, "9" * 5000, "-" + "9" * 30)] == [0, 0, 0]
    assert [values.decimal(text) for text in ("nan", "inf", "-inf", "1e400", "9" * 30)] == [None] * 5
    assert [values.duration_s(text) for text in ("2.5", "0", "-3600", "nan", "")] == [2.5, 0.0, None, None, None]
    assert [values.seconds(text) for text in ("9" * 30 + ":00:00", "9" * 5000 + ":0:0")] == [0, 0]
    assert values.moment("1795249022") == datetime(2026, 11, 21, 8, 17, 2, tzinfo=UTC)
    assert [values.moment(text) for text in ("0", "", "x", "9" * 30)] == [None] * 4
    assert [values.without_placeholder(text) for text in ("<unknown>", "(null)", "-none-", "1001")] == [
        "",
        "",
        "",
        "1001",
    ]
    assert values.utc_offset("+0530") == timedelta(hours=5, minutes=30)
    assert values.utc_offset("-0330") == -timedelta(hours=3, minutes=30)
    assert values.utc_offset("IST") is None
