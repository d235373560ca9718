"""The demo company's days: plausible, and always the same."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import mean

import pytest

from pbx.demo.company import AGENTS, QUEUES, STAFF, TRUNKS, PlannedCall
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.shifts_and_outages import DayClock, shifts_of_day
from pbx.demo.simulated_history import (
    agent_changes_of_day,
    calls_between,
    calls_of_day,
    local_day,
    recorded_calls,
    trunk_changes_of_day,
)

MONDAY = date(2026, 11, 16)
DAYS = [MONDAY + timedelta(days=day) for day in range(14)]
EARLIER_DAYS = [day - timedelta(weeks=30) for day in DAYS]
CHANGES_OF_CLOCKS = [date(2026, 3, 29), date(2026, 10, 25)]
WORKING = [day for day in DAYS if day.weekday() < 5]
Span = tuple[datetime, datetime]


def busy_spans(calls: list[PlannedCall]) -> dict[str, list[Span]]:
    """By extension, the times when its phone rang or was on a call."""
    spans: dict[str, list[Span]] = {}
    for call in calls:
        for ring in call.rings:
            spans.setdefault(ring.agent.extension, []).append((ring.at, ring.at + timedelta(seconds=ring.ring_s)))
        if call.agent is not None:
            span = call.answered_at or call.started_at, call.left_at or call.ended_at
            begun_at = call.started_at if call.direction != "inbound" else span[0]
            spans.setdefault(call.agent.extension, []).append((begun_at, span[1]))
        if call.direction == "internal":
            spans.setdefault(call.to_number, []).append((call.started_at, call.ended_at))
        if call.target and call.left_at is not None:
            spans.setdefault(call.target, []).append((call.left_at, call.ended_at))
    return spans


def test_another_process_simulates_the_same_day() -> None:
    code = "import datetime, pbx.demo.simulated_history as h; print(h.calls_of_day(datetime.date(2026, 11, 18)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.rstrip("\n") == str(calls_of_day(date(2026, 11, 18)))


def test_two_mondays_differ() -> None:
    assert [call.from_number for call in calls_of_day(MONDAY)] != [
        call.from_number for call in calls_of_day(MONDAY + timedelta(days=7))
    ]


@pytest.mark.parametrize("day", [*DAYS[:7], *CHANGES_OF_CLOCKS])
def test_the_times_of_a_call_are_in_order(day: date) -> None:
    clock = DayClock(day)
    calls = calls_of_day(day)
    assert [call.started_at for call in calls] == sorted(call.started_at for call in calls)
    for call in calls:
        moments = [call.started_at, call.joined_at, *(ring.at for ring in call.rings), call.answered_at, call.left_at]
        known = [moment for moment in [*moments, call.ended_at] if moment is not None]
        assert known == sorted(known), call
        assert clock.start_at <= call.started_at < clock.start_at + timedelta(seconds=clock.length_s)
        assert call.uniqueid.startswith(f"{int(call.started_at.timestamp())}.")
        assert call.ended_at > call.started_at


@pytest.mark.parametrize("days", [[*DAYS, *CHANGES_OF_CLOCKS], EARLIER_DAYS], ids=["autumn", "spring"])
def test_no_phone_has_two_calls_at_the_same_time(days: list[date]) -> None:
    calls = [call for day in days for call in calls_of_day(day)]
    spans = busy_spans(calls)
    assert set(spans) == {phone.extension for phone in (*AGENTS, *STAFF)}
    for extension, taken in spans.items():
        assert all(one[1] <= two[0] for one, two in pairwise(sorted(taken))), extension


def test_no_agent_is_rung_while_logged_out_or_paused() -> None:
    for day in DAYS:
        shifts = {shift.agent: shift for shift in shifts_of_day(day)}
        for call in calls_of_day(day):
            for ring in call.rings:
                second = (ring.at - DayClock(day).start_at).total_seconds()
                assert shifts[ring.agent].free(second), (ring, shifts[ring.agent])
                assert call.queue in ring.agent.queues


def test_every_channel_has_its_own_uniqueid() -> None:
    calls = [call for day in DAYS for call in calls_of_day(day)]
    serials = [call.serial for call in calls]
    assert len(set(serials)) == len(serials)
    assert all(serial % 16 == 0 and len(call.rings) <= 13 for serial, call in zip(serials, calls, strict=True))


@pytest.mark.parametrize("day", WORKING)
def test_a_working_day_is_plausible(day: date) -> None:
    calls = calls_of_day(day)
    visits = [call for call in calls if call.queue]
    outcomes = Counter(call.outcome for call in visits)
    assert 250 <= len(calls) <= 400
    assert 0.02 <= outcomes["abandoned"] / len(visits) <= 0.13
    assert outcomes["transferred"] / len(visits) <= 0.08
    assert set(outcomes) <= {"answered", "abandoned", "timeout", "transferred"}
    waits = [
        (call.answered_at - call.joined_at).total_seconds() for call in visits if call.answered_at and call.joined_at
    ]
    assert 3 <= mean(waits) <= 40
    assert max(waits) <= 200
    assert 0.6 <= sum(wait <= 20 for wait in waits) / len(waits) <= 0.97
    missed = [ring for call in visits for ring in call.rings if not ring.answered and not ring.cancelled]
    assert 3 <= len(missed) <= 60
    assert {call.trunk for call in calls} == {"", *(trunk.name for trunk in TRUNKS)}


def test_the_hours_have_two_peaks_and_a_weekend_is_quiet() -> None:
    hours = Counter(DayClock(day).hour_of((call.started_at - DayClock(day).start_at).total_seconds()) // 1
                    for day in WORKING for call in calls_of_day(day))  # fmt: skip
    assert sorted(hours, key=lambda hour: -hours[hour])[:2] == [10, 14]
    assert all(hours[hour] for hour in range(24)), "there are calls at night too"
    assert len(calls_of_day(DAYS[5])) < 0.85 * len(calls_of_day(MONDAY))


def test_some_abandoned_callers_call_again_or_are_called_back() -> None:
    again = back = 0
    for day in DAYS:
        calls = calls_of_day(day)
        for lost in (call for call in calls if call.outcome == "abandoned"):
            later = [call for call in calls if call.started_at > lost.ended_at]
            again += any(call.from_number == lost.from_number for call in later)
            back += any(call.to_number == lost.from_number for call in later)
    lost_calls = sum(call.outcome == "abandoned" for day in DAYS for call in calls_of_day(day))
    assert 0.2 <= again / lost_calls <= 0.8
    assert 0.03 <= back / lost_calls <= 0.5


def test_calls_over_an_unregistered_trunk_fail_with_a_cause() -> None:
    failed = [call for day in DAYS for call in calls_of_day(day) if call.cause == 34]
    assert failed
    for call in failed:
        changes = [one for one in trunk_changes_of_day(local_day(call.started_at)) if one[0] <= call.started_at]
        assert call.trunk == changes[-1][1]
        assert changes[-1][2] != "Registered"
    assert {call.cause for day in DAYS for call in calls_of_day(day)} == {1, 16, 17, 34}


@pytest.mark.parametrize("day", DAYS)
def test_changes_of_trunks_and_agents_alternate(day: date) -> None:
    states = [state == "Registered" for _, _, state in trunk_changes_of_day(day)]
    assert states == [False, True] * (len(states) // 2)
    assert states
    by_agent: dict[tuple[str, str], list[str]] = {}
    for change in agent_changes_of_day(day):
        by_agent.setdefault((change.agent, change.queue), []).append(change.kind)
        assert bool(change.reason) == (change.kind == "pause")
    for kinds in by_agent.values():
        assert kinds == ["login", *["pause", "unpause"] * ((len(kinds) - 2) // 2), "logout"]


def test_numbers_are_reserved_for_drama() -> None:
    outside = {call.from_number for day in DAYS for call in calls_of_day(day) if call.direction == "inbound"}
    outside |= {call.did for day in DAYS for call in calls_of_day(day) if call.did}
    drama = ("07700900", "02079460", "01134960", "01174960", "01214960", "01314960", "01414960", "01614960", "01914980")
    assert all(number.startswith(drama) and len(number) == 11 for number in outside)
    assert len(outside) > 300


def test_twelve_calls_have_recordings_that_fit_their_scripts() -> None:
    now = datetime(2026, 11, 20, 15, tzinfo=UTC)
    calls = recorded_calls(now)
    assert sorted(call.recording for call in calls) == sorted(SAMPLE_RECORDINGS)
    assert [call.started_at for call in calls] == sorted((call.started_at for call in calls), reverse=True)
    for call in calls:
        assert call.talk_s == pytest.approx(SAMPLE_RECORDINGS[call.recording].duration_s, abs=0.002)
        assert call.queue == SAMPLE_RECORDINGS[call.recording].queue
        assert call.ended_at < now
    newest = next(call for call in reversed(calls_of_day(local_day(now))) if call.recording)
    assert recorded_calls(newest.ended_at - timedelta(seconds=1))[0] != newest
    assert recorded_calls(newest.ended_at + timedelta(seconds=1))[0] == newest


def test_a_period_has_the_calls_that_overlap_it() -> None:
    all_calls = calls_of_day(MONDAY)
    from_at, to_at = all_calls[100].started_at, all_calls[120].started_at
    found = list(calls_between(from_at, to_at))
    assert found == [call for call in all_calls if call.started_at < to_at and call.ended_at >= from_at]
    assert len(found) > 20


def test_the_company_has_3_queues_12_agents_and_2_trunks() -> None:
    assert (len(QUEUES), len(AGENTS), len(TRUNKS), len(SAMPLE_RECORDINGS)) == (3, 12, 2, 12)
    assert [trunk.flaps for trunk in TRUNKS] == [False, True]
