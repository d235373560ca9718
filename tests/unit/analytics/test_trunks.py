"""Trunk figures from the cache: seizures derived from legs, concurrency, causes and registration."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine

from pbx.analytics.call_lists import SeizureSelection, selected_seizures
from pbx.analytics.formulas.registration import Registration
from pbx.analytics.formulas.trunks import CauseCount
from pbx.analytics.trunk_status import trunk_registration
from pbx.analytics.trunks import (
    busy_hour,
    by_trunk,
    cause_counts,
    trunk_intervals,
    trunk_totals,
)
from pbx.model.snapshot import Snapshot, SnapshotPart, Trunk, TrunkState
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection
from pbx.store.snapshots import record_snapshot
from tests.unit.store.history_rows import call, leg, read_both_ways, store

ZONE = timezone(timedelta(hours=2))
MIDNIGHT = datetime(2026, 3, 2, tzinfo=ZONE)
NEXT = MIDNIGHT + timedelta(days=1)
OUT, IN = "PJSIP/1001-00000001", "PJSIP/carrier-00000002"


def at(minutes: float) -> datetime:
    return MIDNIGHT.astimezone(UTC) + timedelta(minutes=minutes)


def outbound(number: int, minutes: float, lasted_s: float | None = 60.0, **values: Any) -> list[Any]:
    values = {"duration_s": lasted_s, "billsec_s": lasted_s} | values
    trunk = values.get("trunk", "carrier")
    return [
        call(number, at(minutes), "outbound"),
        leg(number, at(minutes), OUT, f"PJSIP/{trunk}-{number:08x}", **values),
    ]


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other"))


def test_a_days_figures_equal_those_calculated_by_hand(engine: Engine) -> None:
    store(
        engine,
        *outbound(1, 60, 120.0, pdd_s=2.0),
        *outbound(2, 61, 60.0, pdd_s=4.0),  # concurrent with the first
        *outbound(3, 62, 10.0, disposition="BUSY", billsec_s=0.0),  # starts when the first ends
        *outbound(4, 63, 5.0, disposition="FAILED", billsec_s=0.0, cause=21),  # rejected by the called user
        *outbound(5, 64, 5.0, disposition="CONGESTION", billsec_s=0.0, cause=34),
        *outbound(6, 65, 60.0, trunk="backup"),
        *outbound(7, 66, 60.0, trunk=""),  # no trunk: internal
    )
    found = read_both_ways(engine, lambda session: trunk_totals(session, 1, "carrier", MIDNIGHT, NEXT))
    assert (found.seizures, found.answered, found.outbound) == (5, 2, 5)
    assert found.asr.parts_text() == "2 of 5"
    assert found.ner.parts_text() == "4 of 5"
    assert found.acd.value == 90
    assert found.pdd.value == 3
    assert (found.concurrency_peak, found.busy_s) == (2, 200)
    with reading(engine) as session:
        assert trunk_totals(session, 1, None, MIDNIGHT, NEXT).seizures == 6
        assert {name: f.seizures for name, f in by_trunk(session, 1, MIDNIGHT, NEXT).items()} == {
            "backup": 1,
            "carrier": 5,
        }
        assert trunk_totals(session, 2, None, MIDNIGHT, NEXT).seizures == 0
        counts = cause_counts(session, 1, "carrier", MIDNIGHT, NEXT)
    assert counts == [
        CauseCount(None, "ANSWERED", 2),
        CauseCount(None, "BUSY", 1),
        CauseCount(21, "FAILED", 1),
        CauseCount(34, "CONGESTION", 1),
    ]


def test_a_seizure_without_a_recorded_end_is_in_no_ratio(engine: Engine) -> None:
    store(
        engine,
        *outbound(1, 60),
        *outbound(2, 61, None, disposition="UNKNOWN"),  # the listener was disconnected when it ended
        *outbound(3, 62, None, disposition="UNKNOWN", cause=16),
        *outbound(4, 63, None, disposition="", billsec_s=None),  # still ringing
    )
    found = read_both_ways(engine, lambda session: trunk_totals(session, 1, "carrier", MIDNIGHT, NEXT))
    assert (found.seizures, found.open) == (4, 3)
    assert (found.asr.parts_text(), found.ner.parts_text(), found.ner_upper.parts_text()) == ("1 of 1",) * 3


def test_without_a_cause_a_failed_call_may_have_been_rejected(engine: Engine) -> None:
    store(
        engine,
        *outbound(1, 60),
        *outbound(2, 61, 1.0, disposition="FAILED", billsec_s=0.0),  # as the CDR records it
        *outbound(3, 62, 1.0, disposition="FAILED", billsec_s=0.0, cause=38),  # network out of order
        *outbound(4, 63, 1.0, disposition="CONGESTION", billsec_s=0.0),
    )
    found = read_both_ways(engine, lambda session: trunk_totals(session, 1, "carrier", MIDNIGHT, NEXT))
    assert found.unsure == 1
    assert (found.ner.parts_text(), found.ner_upper.parts_text()) == ("1 of 4", "2 of 4")


def test_a_call_that_rings_several_agents_is_one_seizure(engine: Engine) -> None:
    # One inbound channel rings three phones for 20 s each. The third one answers, and the conversation lasts 100 s.
    rows = [
        leg(1, at(0), IN, "PJSIP/1001-3", disposition="NO ANSWER", duration_s=20.0, billsec_s=0.0),
        leg(1, at(20 / 60), IN, "PJSIP/1002-4", disposition="BUSY", duration_s=20.0, billsec_s=0.0),
        leg(1, at(40 / 60), IN, "PJSIP/1003-5", duration_s=120.0, billsec_s=100.0),
    ]
    store(engine, call(1, at(0)), *rows)
    found = read_both_ways(engine, lambda session: trunk_totals(session, 1, "carrier", MIDNIGHT, NEXT))
    assert (found.seizures, found.answered, found.outbound, found.concurrency_peak) == (1, 1, 0, 1)
    assert found.busy_s == 160  # 0:00 to 2:40
    assert found.acd.value == 100


def test_a_call_forwarded_to_its_own_trunk_is_two_seizures(engine: Engine) -> None:
    store(engine, call(1, at(0)), leg(1, at(0), IN), leg(1, at(1), IN, "PJSIP/carrier-00000009"))
    found = read_both_ways(engine, lambda session: trunk_totals(session, 1, "carrier", MIDNIGHT, NEXT))
    assert (found.seizures, found.outbound, found.concurrency_peak) == (2, 1, 1)


def test_a_call_forwarded_between_trunks_uses_a_line_of_each(engine: Engine) -> None:
    same, other = "PJSIP/carrier-00000009", "PJSIP/backup-0000000a"
    store(engine, call(1, at(0)), leg(1, at(0), IN, same, onward_trunk="carrier", pdd_s=3.0))
    store(engine, call(2, at(60)), leg(2, at(60), IN, other, onward_trunk="backup", disposition="BUSY"))
    found = read_both_ways(engine, lambda session: by_trunk(session, 1, MIDNIGHT, NEXT))
    carrier, backup = found["carrier"], found["backup"]
    assert (carrier.seizures, carrier.outbound, carrier.concurrency_peak, carrier.busy_s) == (3, 1, 2, 180)
    assert (backup.seizures, backup.outbound, backup.answered, backup.busy_s) == (1, 1, 0, 60)


def test_each_channel_of_an_isdn_span_is_an_outbound_seizure(engine: Engine) -> None:
    """DAHDI names its channels after the span, the number and a counter."""
    channels = ("DAHDI/i1/5550101-1a", "DAHDI/i1/5550102-1b")
    store(engine, call(1, at(0)), *(leg(1, at(0), "PJSIP/1001-1", channel, trunk="i1") for channel in channels))
    found = read_both_ways(engine, lambda session: by_trunk(session, 1, MIDNIGHT, NEXT))["i1"]
    assert (found.seizures, found.outbound) == (2, 2)


def test_a_call_over_midnight_uses_its_trunk_on_both_days(engine: Engine) -> None:
    store(engine, *outbound(1, 1430, 1200.0))  # 23:50 to 00:10
    days = read_both_ways(
        engine,
        lambda session: trunk_intervals(session, 1, None, MIDNIGHT, MIDNIGHT + timedelta(days=2), ZONE, "day"),
    )
    assert [(day.figures.seizures, day.figures.busy_s, day.figures.concurrency_peak) for day in days] == [
        (1, 600, 1),
        (0, 600, 1),
    ]
    with reading(engine) as session:
        second = trunk_totals(session, 1, None, NEXT, NEXT + timedelta(days=1))
    assert (second.seizures, second.busy_s) == (0, 600)


def test_the_busy_hour_shows_the_lines_needed(engine: Engine) -> None:
    # Three calls of 30 min from 10:00 and one from 10:30 to 11:30: 3 × 0.5 + 0.5 = 2 erlang from 10:00 to 11:00.
    store(engine, *(row for i in range(3) for row in outbound(i, 600, 1800.0)), *outbound(9, 630, 3600.0))
    found = read_both_ways(engine, lambda session: busy_hour(session, 1, None, MIDNIGHT, NEXT, ZONE))
    assert found is not None
    assert found.start_at == at(600)
    assert found.traffic.value == 2
    assert found.figures.concurrency_peak == 3
    assert found.lines_needed == 7  # Erlang's table: at 1% blocking, 7 lines carry 2.50 E and 6 carry 1.91 E
    with reading(engine) as session:
        assert busy_hour(session, 1, None, NEXT, NEXT + timedelta(days=1), ZONE) is None


def test_a_call_in_progress_is_open_and_uses_a_line(engine: Engine) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    started_at = now - timedelta(minutes=10)
    in_progress = {"disposition": "", "duration_s": None, "billsec_s": None}
    store(engine, call(1, started_at, "outbound"), leg(1, started_at, OUT, "PJSIP/carrier-1", **in_progress))
    store(
        engine,
        call(2, started_at, "outbound"),
        leg(2, started_at, OUT, "PJSIP/carrier-2", answered_at=started_at, **in_progress),
    )
    with reading(engine) as session:
        found = trunk_totals(session, 1, None, started_at, started_at + timedelta(minutes=5))
    assert (found.seizures, found.open, found.answered) == (2, 1, 1)
    assert found.asr.parts_text() == "1 of 1"
    assert (found.busy_s, found.concurrency_peak) == (600, 2)


def test_a_call_without_a_recorded_end_uses_no_line(engine: Engine) -> None:
    """The listener was disconnected when the call ended: it was answered, but its duration is unknown."""
    started_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    lost = {"answered_at": started_at, "duration_s": None, "billsec_s": None}
    store(engine, call(1, started_at, "outbound"), leg(1, started_at, OUT, "PJSIP/carrier-1", **lost))
    with reading(engine) as session:
        found = trunk_totals(session, 1, None, started_at, started_at + timedelta(minutes=5))
        selection = (session, 1, None, started_at, started_at + timedelta(minutes=5), SeizureSelection())
        _, (seizure,) = selected_seizures(*selection, offset=0, limit=9)
    assert (found.answered, found.busy_s, found.concurrency_peak, found.acd.value) == (1, 0, 0, None)
    assert (seizure.disposition, seizure.duration_s, seizure.billsec_s) == ("ANSWERED", None, None)


def test_hours_without_seizures_are_not_applicable(engine: Engine) -> None:
    with reading(engine) as session:
        hours = trunk_intervals(session, 1, None, MIDNIGHT, NEXT, ZONE, "hour")
        assert by_trunk(session, 1, MIDNIGHT, NEXT) == {}
        assert cause_counts(session, 1, None, MIDNIGHT, NEXT) == []
    assert len(hours) == 24
    assert {hour.figures.asr.percent_text() for hour in hours} == {"n/a"}


def snapshot_of(minutes: float, state: TrunkState) -> Snapshot:
    trunks = (Trunk(name="carrier", tech="PJSIP", state=state),)
    return Snapshot(taken_at=at(minutes), trunks=trunks, parts={"trunks": SnapshotPart()})


def test_registration_counts_only_observed_time(engine: Engine) -> None:
    states: list[tuple[float, TrunkState]] = [(-1, "registered"), (1, "registered"), (2, "rejected"), (3, "registered")]
    states += [(4, "registered"), (30, "rejected"), (31, "registered")]  # a gap of 26 minutes
    with writing(engine) as session:
        for minutes, state in states:
            record_snapshot(session, 1, snapshot_of(minutes, state))
    with reading(engine) as session:
        found = trunk_registration(session, 1, "carrier", MIDNIGHT, at(31), 60)
        nothing = trunk_registration(session, 1, "other", MIDNIGHT, at(31), 60)
    # Observed from midnight to 00:04 and from 00:30 to 00:31; rejected from 00:02 to 00:03 and at 00:30.
    assert found == Registration(registered_s=180, observed_s=300, flaps=2, period_s=1860)
    assert nothing.uptime.percent_text() == "n/a"
