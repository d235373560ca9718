"""The simulated PBX's events describe the planned calls, and its state agrees with its events."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import pytest

from pbx.asterisk.ami.protocol import Message
from pbx.demo.call_events import INTERNAL_CONTEXT
from pbx.demo.channels import UP
from pbx.demo.company import AGENTS, QUEUES, TRUNKS, PlannedCall
from pbx.demo.queue_counters import counters_at, seconds_between
from pbx.demo.shifts_and_outages import DayClock
from pbx.demo.simulated_asterisk import AmiEvent, SimulatedAsterisk, last_regular_boot, registrations_at, roundtrip_us
from pbx.demo.simulated_history import agent_changes_of_day, calls_of_day, trunk_changes_of_day
from pbx.live.events import LiveHistory
from pbx.model.history import Leg, Ring, Visit
from tests.simulator.asterisk_22 import SimulatedAsterisk22
from tests.simulator.pbx_state import state_at

# A working day with calls of every kind of failure.
DAY = next(
    day
    for day in (date(2026, 11, 16) + timedelta(days=number) for number in range(60))
    if day.weekday() < 5 and {call.cause for call in calls_of_day(day)} == {1, 16, 17, 34}
)
CLOCK = DayClock(DAY)
BOOT = CLOCK.start_at
END = CLOCK.start_at + timedelta(days=1, hours=1)
ASTERISK = SimulatedAsterisk(BOOT)
CALLS = calls_of_day(DAY)


def message(event: AmiEvent) -> Message:
    lines = [
        f"Event: {event.name}",
        f"Privilege: {event.group},all",
        *(f"{key}: {text}" for key, text in event.headers),
    ]
    return Message("\r\n".join(lines).encode())


class RecordedHistory:
    """The history that the app's listener records from events."""

    def __init__(self, events: Iterable[AmiEvent]) -> None:
        history = LiveHistory()
        history.legs.trunks = {trunk.name for trunk in TRUNKS}
        for event in events:
            history.take(message(event), event.at)
        facts = history.take_updates(END + timedelta(hours=1))
        self.visits: dict[str, Visit] = {visit.uniqueid: visit for visit in facts.visits}
        self.rings: list[Ring] = list(facts.rings)
        self.agent_events = list(facts.agent_events)
        self.legs: list[Leg] = list(facts.legs)
        self.busy = history.busy


@pytest.fixture(scope="module")
def events() -> tuple[AmiEvent, ...]:
    return ASTERISK.events_between(BOOT - timedelta(seconds=1), END)


@pytest.fixture(scope="module")
def recorded(events: tuple[AmiEvent, ...]) -> RecordedHistory:
    return RecordedHistory(events)


def of_day(events: Iterable[AmiEvent]) -> list[AmiEvent]:
    """The events of the day's calls only; the next day begins before END."""
    own = {call.linkedid for call in CALLS}
    return [event for event in events if dict(event.headers).get("Linkedid", "") in own]


def test_recorded_visits_are_the_planned_ones(recorded: RecordedHistory) -> None:
    planned = [call for call in CALLS if call.queue]
    assert len(planned) > 200
    for call in planned:
        visit = recorded.visits[call.uniqueid]
        assert (visit.queue, visit.outcome, visit.joined_at) == (call.queue, call.outcome, call.joined_at)
        assert (visit.caller, visit.caller_name, visit.did) == (call.from_number, call.from_name, call.did)
        assert (visit.connected_at, visit.ended_at) == (call.answered_at, call.left_at)
        assert visit.agent == (call.agent.name if call.agent else "")
        assert visit.ended_by == call.ended_by
        assert visit.target == (f"{call.target}@{INTERNAL_CONTEXT}" if call.target else "")
        waited_until = call.answered_at or call.left_at
        assert call.joined_at is not None
        assert waited_until is not None
        assert visit.wait_s == seconds_between(call.joined_at, waited_until)
        assert visit.talk_s == (pytest.approx(call.talk_s, abs=1) if call.answered_at else None)
        assert visit.original_position is not None
        assert (visit.position or 1) <= visit.original_position


def test_positions_and_counts_are_those_of_waiting_callers(
    events: tuple[AmiEvent, ...], recorded: RecordedHistory
) -> None:
    waiting: dict[str, list[str]] = {queue.number: [] for queue in QUEUES}
    reported = [one for one in events if one.name in ("QueueCallerJoin", "QueueCallerLeave", "QueueCallerAbandon")]
    longest = 0
    for event in reported:
        fields = dict(event.headers)
        line, uniqueid = waiting[fields["Queue"]], fields["Uniqueid"]
        if event.name == "QueueCallerJoin":
            line.append(uniqueid)
            assert fields["Position"] == fields["Count"] == str(len(line))
        elif event.name == "QueueCallerLeave":
            assert fields["Position"] == str(line.index(uniqueid) + 1)
            line.remove(uniqueid)
            assert fields["Count"] == str(len(line))
        else:
            assert fields["Position"] == str(line.index(uniqueid) + 1)
            assert fields["OriginalPosition"] == str(recorded.visits[uniqueid].original_position)
        longest = max(longest, len(line))
    assert longest > 1
    assert not any(waiting.values())


def test_recorded_missed_rings_are_the_planned_ones(recorded: RecordedHistory) -> None:
    planned = [
        (ring.at + timedelta(seconds=ring.ring_s), ring.agent.name, call.queue, call.uniqueid)
        for call in CALLS
        for ring in call.rings
        if not ring.answered and not ring.cancelled
    ]
    own = {call.uniqueid for call in CALLS}
    reported = [
        (ring.rung_at, ring.agent, ring.queue, ring.uniqueid) for ring in recorded.rings if ring.uniqueid in own
    ]
    assert sorted(reported) == sorted(planned)
    assert all(ring.ring_s == 15.0 for ring in recorded.rings)


def test_recorded_agent_changes_are_the_planned_ones(recorded: RecordedHistory) -> None:
    planned = agent_changes_of_day(DAY)
    assert len(planned) > 50
    next_day = CLOCK.start_at + timedelta(days=1)
    assert [event for event in recorded.agent_events if event.happened_at < next_day] == [*planned]


def test_recorded_legs_of_agents_calls_are_the_planned_ones(recorded: RecordedHistory) -> None:
    dispositions = {17: "BUSY", 34: "CONGESTION", 1: "FAILED"}
    legs = {leg.linkedid: leg for leg in recorded.legs}
    planned = [call for call in CALLS if call.direction != "inbound"]
    assert {call.cause for call in planned} == {1, 16, 17, 34}
    for call in planned:
        leg = legs[call.linkedid]
        expected = "ANSWERED" if call.answered_at else dispositions.get(call.cause, "NO ANSWER")
        assert (leg.disposition, leg.cause, leg.pdd_s) == (expected, call.cause, call.pdd_s)
        assert (leg.trunk, leg.src, leg.dst, leg.did) == (call.trunk, call.from_number, call.to_number, "")
        assert (leg.started_at, leg.answered_at, leg.ended_at) == (call.started_at, call.answered_at, call.ended_at)


def test_legs_of_calls_to_queues_are_their_rings(recorded: RecordedHistory) -> None:
    for call in (call for call in CALLS if call.queue):
        legs = sorted((leg for leg in recorded.legs if leg.linkedid == call.linkedid), key=lambda leg: leg.started_at)
        expected = [ring.agent.extension for ring in call.rings] + [call.target] * bool(call.target)
        assert [leg.dst_channel.partition("-")[0] for leg in legs if leg.dst_channel] == [
            f"PJSIP/{extension}" for extension in expected
        ]
        for leg, ring in zip(legs, call.rings, strict=False):
            assert (leg.trunk, leg.src, leg.did, leg.dst) == (call.trunk, call.from_number, call.did, call.queue)
            assert leg.disposition == ("ANSWERED" if ring.answered else "NO ANSWER")


def test_every_channel_ends_with_a_hangup(events: tuple[AmiEvent, ...], recorded: RecordedHistory) -> None:
    counts = Counter(event.name for event in of_day(events))
    assert counts["Newchannel"] == counts["Hangup"] > 500
    assert not RecordedHistory(of_day(events)).busy


def test_trunk_registrations_change_as_planned(events: tuple[AmiEvent, ...]) -> None:
    reported = [event for event in events if event.name == "Registry"]
    planned = trunk_changes_of_day(DAY)
    assert [(event.at, dict(event.headers)["Status"]) for event in reported] == [
        (at, state) for at, _, state in planned
    ]
    at, trunk, state = planned[0]
    assert registrations_at(at) == {"albion-voice": "Registered", trunk: state}
    assert registrations_at(at - timedelta(milliseconds=1))[trunk] == "Registered"


def test_events_minute_by_minute_equal_the_events_of_the_hour(events: tuple[AmiEvent, ...]) -> None:
    at, pieces = CLOCK.second_of(10), []
    begun_at = CLOCK.at(at)
    for minute in range(60):
        since = begun_at + timedelta(minutes=minute)
        pieces += ASTERISK.events_between(since, since + timedelta(minutes=1))
    assert pieces == [event for event in events if begun_at < event.at <= begun_at + timedelta(hours=1)]
    assert len(pieces) > 300


def state_from(events: Iterable[AmiEvent], at: datetime) -> dict[str, int]:
    """The state of every channel at a moment, calculated from the events."""
    states: dict[str, int] = {}
    for event in events:
        headers = dict(event.headers)
        if event.at > at:
            break
        if event.name in ("Newchannel", "Newstate"):
            states[headers["Channel"]] = int(headers["ChannelState"])
        elif event.name == "Hangup":
            del states[headers["Channel"]]
    return states


@pytest.mark.parametrize("hour", [3.2, 9.5, 10.4, 10.7, 12.9, 14.3, 14.6, 21.5])
def test_state_agrees_with_events(events: tuple[AmiEvent, ...], hour: float) -> None:
    at = CLOCK.at(CLOCK.second_of(hour))
    state = state_at(at, BOOT)
    assert {channel.name: channel.state for channel in state.channels} == state_from(events, at)
    before = [event for event in events if event.at <= at]
    for queue in state.queues:
        number = queue.queue.number
        counts = Counter(event.name for event in before if dict(event.headers).get("Queue") == number)
        assert queue.counters.completed == counts["AgentComplete"]
        assert queue.counters.abandoned == counts["QueueCallerAbandon"]
        assert len(queue.callers) == counts["QueueCallerJoin"] - counts["QueueCallerLeave"]
        assert [waiter.position for waiter in queue.callers] == list(range(1, len(queue.callers) + 1))
        assert len(queue.members) == counts["QueueMemberAdded"] - counts["QueueMemberRemoved"]
        for member in queue.members:
            member_events = [
                dict(event.headers)
                for event in before
                if event.name in ("QueueMemberStatus", "QueueMemberPause", "QueueMemberAdded")
                and dict(event.headers)["Queue"] == number
                and dict(event.headers)["MemberName"] == member.agent.name
            ]
            last = member_events[-1]
            reported = (last["Status"], last["Paused"], last["PausedReason"])
            assert reported == (str(member.status), str(int(member.paused)), member.reason)


def test_counters_are_calculated_as_in_app_queue() -> None:
    """Moving averages and service levels, calculated step by step for one queue's day."""
    number, level_s = QUEUES[0].number, QUEUES[0].service_level_s
    moments: list[tuple[datetime, int, PlannedCall]] = []
    for call in (call for call in CALLS if call.queue == number):
        assert call.left_at is not None
        moments += [(call.left_at, 1, call), *([(call.answered_at, 0, call)] if call.answered_at else [])]
    hold_s = talk_s = completed = abandoned = in_level = early = 0
    for _, ended, call in sorted(moments, key=lambda one: one[:2]):
        assert call.joined_at is not None
        assert call.left_at is not None
        if not ended and call.answered_at:
            new = int(call.answered_at.timestamp()) - int(call.joined_at.timestamp())
            hold_s = new if completed + abandoned == 0 else ((hold_s << 2) - hold_s + new) >> 2
        elif call.answered_at:
            new = int(call.left_at.timestamp()) - int(call.answered_at.timestamp())
            completed += 1
            talk_s = new if completed == 1 else ((talk_s << 2) - talk_s + new) >> 2
            in_level += int(call.answered_at.timestamp()) - int(call.joined_at.timestamp()) <= level_s
        else:
            abandoned += 1
            early += int(call.left_at.timestamp()) - int(call.joined_at.timestamp()) <= level_s
    counted = counters_at(SimulatedAsterisk(CLOCK.start_at), number, CLOCK.start_at + timedelta(hours=23, minutes=59))
    assert (counted.completed, counted.abandoned) == (completed, abandoned)
    assert (counted.hold_s, counted.talk_s) == (hold_s, talk_s)
    assert counted.service_level_perf == pytest.approx(100 * in_level / completed)
    assert counted.service_level_perf2 == pytest.approx(100 * (in_level + early) / (completed + abandoned))


def test_counters_continue_over_days_and_restart_with_asterisk() -> None:
    at = CLOCK.at(CLOCK.second_of(11))
    long_ago = SimulatedAsterisk(at - timedelta(days=20))
    completed = sum(
        1
        for day in range(21)
        for call in calls_of_day(DAY - timedelta(days=day))
        if call.queue == "601" and call.answered_at and call.left_at and call.left_at <= at
        if call.started_at >= long_ago.booted_at
    )
    assert counters_at(long_ago, "601", at).completed == completed > 1500
    now = SimulatedAsterisk(at)
    assert counters_at(now, "601", at) == counters_at(now, "601", at + timedelta(milliseconds=1))
    assert counters_at(now, "601", at).completed == 0
    assert not now.channels_at(at), "a restart ends the calls"
    assert now.events_between(at - timedelta(hours=1), at) == ()
    after = counters_at(now, "601", at + timedelta(hours=1))
    assert 0 < after.completed < 60
    assert all(member.calls_taken == 0 for queue in QUEUES for member in now.queue(queue, at).members)
    assert any(now.queue(queue, at).members for queue in QUEUES), "members stay over a restart"


def test_the_state_of_a_moment_is_always_the_same() -> None:
    at = CLOCK.at(CLOCK.second_of(14.4))
    assert state_at(at, BOOT) == state_at(at, BOOT)
    assert state_at(at, BOOT) != state_at(at + timedelta(minutes=5), BOOT)


def test_the_name_of_a_recording_is_reported_before_the_caller_joins(events: tuple[AmiEvent, ...]) -> None:
    recorded = [call for call in CALLS if call.recording]
    assert len(recorded) == 2
    for call in recorded:
        call_events = [event for event in events if dict(event.headers).get("Uniqueid") == call.uniqueid]
        names = [event.name for event in call_events]
        assert names.index("MixMonitorStart") < names.index("QueueCallerJoin")
        reported = next(dict(event.headers)["Value"] for event in call_events if event.name == "VarSet")
        assert reported.startswith(f"/var/spool/asterisk/monitor/{DAY:%Y/%m/%d}/q-60")
        assert reported.endswith(f"-{call.uniqueid}.wav")


def test_only_asterisk_22_reports_the_sip_status_of_a_refused_call() -> None:
    busy = next(call for call in CALLS if call.cause == 17)
    for asterisk, reported in ((ASTERISK, None), (SimulatedAsterisk22(BOOT), "486")):
        events = asterisk.events_between(busy.started_at - timedelta(seconds=1), busy.ended_at)
        ended = [dict(event.headers) for event in events if event.name == "Hangup"]
        assert {one.get("TechCause") for one in ended if one["Linkedid"] == busy.linkedid} == {reported}


def test_the_regular_restart_is_on_sundays() -> None:
    at = datetime(2026, 11, 18, 10, tzinfo=UTC)
    assert last_regular_boot(at) == datetime(2026, 11, 15, 4, tzinfo=UTC)
    assert last_regular_boot(datetime(2026, 11, 15, 3, 59, tzinfo=UTC)) == datetime(2026, 11, 8, 4, tzinfo=UTC)
    assert last_regular_boot(last_regular_boot(at)) == last_regular_boot(at)
    assert last_regular_boot(datetime(2026, 7, 8, 10, tzinfo=UTC)) == datetime(2026, 7, 5, 3, tzinfo=UTC)


def test_round_trips_stay_in_bounds() -> None:
    times = [roundtrip_us("201", CLOCK.start_at + timedelta(minutes=minute)) for minute in range(500)]
    assert 1_000 < min(times) < max(times) < 15_000
    assert len(set(times)) > 300
    assert {agent.extension for agent in AGENTS} < set(state_at(CLOCK.start_at, BOOT).devices)


def test_connected_channels_share_a_bridge() -> None:
    channels = ASTERISK.channels_at(CLOCK.at(CLOCK.second_of(10.5)))
    talking = Counter(channel.bridge for channel in channels if channel.bridge)
    assert talking
    assert set(talking.values()) == {2}
    assert all(channel.state == UP for channel in channels if channel.bridge)
