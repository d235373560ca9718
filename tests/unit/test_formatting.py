"""Durations, times and sizes are formatted as texts."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pbx.formatting import (
    ago_text,
    count_text,
    duration_text,
    moment_text,
    plural,
    position_text,
    service_level_text,
    size_text,
    start_of_day,
    sync_text,
    zone_of,
    zone_text,
)
from tests.paths import ROOT

NOW = datetime(2026, 7, 1, 9, 0, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-3, "0 s"),
        (0, "0 s"),
        (7.4, "7 s"),
        (83, "1 min 23 s"),
        (490, "8 min 10 s"),
        (1020, "17 min"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (3 * 86_400 + 4 * 3600 + 59, "76 h"),
        (108_000, "30 h"),
    ],
)
def test_durations_have_hours_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.9, "0:07"), (83, "1:23"), (3723, "1:02:03")])
def test_positions_in_a_recording_have_colons(seconds: float, text: str) -> None:
    assert position_text(seconds) == text


@pytest.mark.parametrize(
    ("noun", "plural_noun"),
    [
        ("call", "calls"),
        ("transcribed call", "transcribed calls"),
        ("number called", "numbers called"),
        ("call in queue", "calls in queue"),
        ("call of an agent", "calls of an agent"),
        ("entry", "entries"),
        ("day", "days"),
        ("match", "matches"),
    ],
)
def test_nouns_have_plurals(noun: str, plural_noun: str) -> None:
    assert plural(noun) == plural_noun
    assert (count_text(1, noun), count_text(6, noun)) == (f"1 {noun}", f"6 {plural_noun}")


NOUNS = r"""count_text\((?:[^()]|\([^()]*\))*?,\s*["']([^"']+)["']\)"""


def test_every_counted_noun_has_a_correct_plural() -> None:
    """Fails for a noun whose plural doesn't end in s: check its plural and add it to the test above."""
    sources = [path for folder in ("pages", "pbx") for path in (ROOT / folder).rglob("*.py")]
    nouns = {noun for path in sources for noun in re.findall(NOUNS, path.read_text())}
    assert len(nouns) > 20
    irregular = {noun: plural(noun) for noun in nouns if plural(noun) != f"{noun}s"}
    assert irregular == {}


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=40), "40 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=5), "5 d ago"),
        (-timedelta(seconds=9), "just now"),
    ],
)
def test_the_time_since_an_event_is_rounded(ago: timedelta, text: str) -> None:
    assert ago_text(NOW - ago, NOW) == text


def test_a_time_is_local_and_has_a_day_only_if_needed() -> None:
    assert moment_text(NOW, BERLIN, NOW, seconds=True) == "11:00:30"
    assert moment_text(NOW - timedelta(hours=12), BERLIN, NOW) == "30 Jun 23:00"
    assert moment_text(NOW - timedelta(days=400), BERLIN, NOW) == "27 May 2025 11:00"
    assert moment_text(None, BERLIN, NOW) == "–"


def test_the_zone_is_the_setting_else_the_pbxs_offset_else_utc() -> None:
    assert zone_text(zone_of("Europe/Berlin", 0), NOW) == "Europe/Berlin"
    assert zone_text(zone_of(None, 7200), NOW) == "UTC+02:00"
    assert zone_text(zone_of(None, None), NOW) == "UTC"


def test_the_local_day_starts_at_local_midnight() -> None:
    assert start_of_day(NOW, BERLIN) == datetime(2026, 6, 30, 22, 0, tzinfo=UTC)
    after = datetime(2026, 10, 26, 9, 0, tzinfo=UTC)  # clocks went back on the 25th
    assert start_of_day(after, BERLIN, 6) == datetime(2026, 10, 19, 22, 0, tzinfo=UTC)


def test_sizes_and_counts_have_units() -> None:
    assert [size_text(n) for n in (None, 812, 160_044, 1_240_000)] == ["–", "812 B", "160 KB", "1.2 MB"]
    assert [count_text(n, "call") for n in (0, 1, 1234)] == ["0 calls", "1 call", "1,234 calls"]


def test_the_result_of_a_sync_is_summarized() -> None:
    assert sync_text({}) == "0 new recordings (0 on the PBX)"
    numbers = {"listed": 1431, "new": 12, "waiting": 1, "empty": 0, "failed": [{"name": "a"}, {"name": "b"}]}
    assert sync_text(numbers) == "12 new recordings (1,431 on the PBX), 1 waiting, 2 failed"


def test_a_service_level_without_calls_is_not_available() -> None:
    assert service_level_text(87.5, 20, 8) == "88% within 20 s"
    assert service_level_text(0.0, 20, 0) == "n/a"
    assert service_level_text(0.0, 0, 8) == "–"
