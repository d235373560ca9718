"""Alert rules start and end alerts by the data in the cache, also with stale snapshots and two workers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import repeat

import pytest
from sqlalchemy import Engine

from pbx.model.snapshot import QueueMember, SnapshotPart
from pbx.settings import Settings
from pbx.store.alerts import list_rules, save_rule
from pbx.store.engine import open_engine, writing
from pbx.store.listening_spans import begin_span, prolong_span
from pbx.store.models import AlertRule
from tests.unit.alerts.alert_database import (
    FREE,
    T0,
    add_rule,
    add_sync,
    add_visits,
    alert_changes,
    alerts,
    minutes,
    pbx,
    record_snapshot_of,
    trunk,
    waiting,
)

PAUSED = QueueMember(name="Bo", interface="PJSIP/1002", status=1, paused=True)
AWAY = QueueMember(name="Cy", interface="PJSIP/1003", status=5)
TALKING = QueueMember(name="Di", interface="PJSIP/1004", status=2, in_call=True)


def test_a_long_wait_starts_an_alert_immediately_and_ends_it_after_confirmation(
    engine: Engine, settings: Settings
) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    record_snapshot_of(engine, settings, T0, waiting("sales", 60), waiting("support"))
    assert alert_changes(engine, settings, T0) == []  # 60 s is not above 60 s
    record_snapshot_of(engine, settings, minutes(1), waiting("sales", 61), waiting("support", 20))
    assert alert_changes(engine, settings, minutes(1)) == [("sales", "started")]
    assert (
        alerts(engine)[0].description
        == "The first caller has been waiting for 1 min 1 s, longer than 1 min. 1 caller waiting."
    )
    record_snapshot_of(engine, settings, minutes(2), waiting("sales"))
    assert alert_changes(engine, settings, minutes(2)) == []
    assert alert_changes(engine, settings, minutes(3)) == []  # the same snapshot again confirms nothing
    record_snapshot_of(engine, settings, minutes(3), waiting("sales"))
    assert alert_changes(engine, settings, minutes(3)) == [("sales", "ended")]
    all_alerts = alerts(engine)
    assert [(one.started_at, one.ended_at) for one in all_alerts] == [(minutes(1), minutes(2))]


def test_a_problem_that_returns_before_confirmation_is_the_same_alert(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    for minute, wait_s in enumerate((90, 0, 90, 0, 90)):
        record_snapshot_of(engine, settings, minutes(minute), waiting("sales", wait_s))
        alert_changes(engine, settings, minutes(minute))
    assert [(one.started_at, one.ended_at, one.cleared_at) for one in alerts(engine)] == [(T0, None, None)]


def test_snapshots_seconds_apart_confirm_nothing(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    for second, wait_s in ((0, 90), (3, 0), (6, 0), (30, 0)):
        record_snapshot_of(engine, settings, minutes(second / 60), waiting("sales", wait_s))
        alert_changes(engine, settings, minutes(second / 60))
    assert alerts(engine)[0].ended_at is None
    record_snapshot_of(engine, settings, minutes(33 / 60), waiting("sales", 0))
    assert alert_changes(engine, settings, minutes(33 / 60)) == [("sales", "ended")]


def test_a_rule_for_one_queue_ignores_other_queues(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "longest_wait", 60, "support")
    record_snapshot_of(engine, settings, T0, waiting("sales", 90))
    assert alert_changes(engine, settings, T0) == []


def test_a_stale_snapshot_starts_and_ends_no_alert(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    record_snapshot_of(engine, settings, T0, waiting("sales", 90))
    assert alert_changes(engine, settings, minutes(16)) == []  # snapshots are taken every 5 minutes
    assert alert_changes(engine, settings, minutes(15)) == [("sales", "started")]
    record_snapshot_of(engine, settings, minutes(20), waiting("sales"))
    assert alert_changes(engine, settings, minutes(60)) == []
    assert alerts(engine)[0].cleared_at is None


def test_a_part_missing_from_a_snapshot_changes_no_alert(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    add_rule(engine, settings, "trunk_down", 0)
    record_snapshot_of(engine, settings, T0, waiting("sales", 90), trunk("carrier", "rejected"))
    assert alert_changes(engine, settings, T0) == [("sales", "started"), ("carrier", "started")]
    denied = {"queues": SnapshotPart(state="denied"), "trunks": SnapshotPart(state="failed")}
    for minute in (1, 2):
        record_snapshot_of(engine, settings, minutes(minute), parts=denied)
        assert alert_changes(engine, settings, minutes(minute)) == []


def test_a_removed_queue_ends_its_alert(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "no_agent")
    record_snapshot_of(engine, settings, T0, waiting("sales", 0, ()))
    assert alert_changes(engine, settings, T0) == [("sales", "started")]
    for minute, expected in ((1, []), (2, [("sales", "ended")])):
        record_snapshot_of(engine, settings, minutes(minute))
        assert alert_changes(engine, settings, minutes(minute)) == expected


@pytest.mark.parametrize(
    ("members", "description"),
    [
        ((), "No agent is logged in. 1 caller waiting."),
        ((PAUSED, AWAY), "No agent can take calls: of 2 agents, 1 paused and 1 unreachable. 1 caller waiting."),
        ((AWAY, TALKING), None),
        ((PAUSED, FREE), None),
    ],
)
def test_a_queue_without_an_available_agent_starts_an_alert(
    engine: Engine, settings: Settings, members: tuple[QueueMember, ...], description: str | None
) -> None:
    add_rule(engine, settings, "no_agent")
    record_snapshot_of(engine, settings, T0, waiting("sales", 5, members))
    alert_changes(engine, settings, T0)
    assert [one.description for one in alerts(engine)] == ([description] if description else [])


def test_a_trunk_alert_starts_after_the_threshold_time(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "trunk_down", 10)
    states = ["rejected", "registered", "unregistered", "rejected", "unregistered"]
    for number, state in enumerate(states):
        record_snapshot_of(engine, settings, minutes(5 * number), trunk("carrier", state))
        expected = [("carrier", "started")] if number == 4 else []  # down since minute 10, now it is minute 20
        assert alert_changes(engine, settings, minutes(5 * number)) == expected
    assert alerts(engine)[0].description == "It has been unregistered for 10 min."


def test_time_without_snapshots_does_not_count_as_down(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "trunk_down", 10)
    for minute in (0, 60, 65):
        record_snapshot_of(engine, settings, minutes(minute), trunk("carrier", "unreachable"))
        assert alert_changes(engine, settings, minutes(minute)) == []
    record_snapshot_of(engine, settings, minutes(70), trunk("carrier", "unreachable"))
    assert alert_changes(engine, settings, minutes(70)) == [("carrier", "started")]


def test_time_within_a_listening_span_counts_as_down(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "trunk_down", 10)
    record_snapshot_of(engine, settings, T0, trunk("carrier", "unreachable"))
    with writing(engine) as session:
        span = begin_span(session, pbx(engine, settings).id, T0)
        prolong_span(session, span, minutes(59))
    record_snapshot_of(engine, settings, minutes(60), trunk("carrier", "unreachable"))
    assert alert_changes(engine, settings, minutes(60)) == [("carrier", "started")]


def test_a_trunk_of_unknown_state_starts_and_ends_no_alert(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "trunk_down", 0)
    states = {0: ("unknown", []), 1: ("rejected", [("carrier", "started")]), 2: ("unknown", []), 3: ("unknown", [])}
    for minute, (state, expected) in states.items():
        record_snapshot_of(engine, settings, minutes(minute), trunk("carrier", state))
        assert alert_changes(engine, settings, minutes(minute)) == expected
    assert alerts(engine)[0].cleared_at is None


def test_a_service_level_alert_needs_five_calls_today(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "service_level", 80)
    record_snapshot_of(engine, settings, T0, waiting("sales"))
    add_visits(engine, settings, "sales", minutes(-60 * 24), lost=9)  # yesterday
    add_visits(engine, settings, "sales", T0, 5, 5, 5, lost=1)
    assert alert_changes(engine, settings, minutes(10)) == []  # 3 of 4 is below 80%, but too few calls
    add_visits(engine, settings, "sales", minutes(10), 30)
    assert alert_changes(engine, settings, minutes(20)) == [("sales", "started")]
    description = "Today’s service level is 60.0%, below 80%: 3 of 5 calls answered or abandoned within 20 s."
    assert alerts(engine)[0].description == description
    add_visits(engine, settings, "sales", minutes(30), 1, 1, 1, 1, 1)
    assert alert_changes(engine, settings, minutes(40)) == []  # 8 of 10
    assert alert_changes(engine, settings, minutes(40.6)) == [("sales", "ended")]


def test_a_service_level_is_that_of_the_day_in_the_pbx_time_zone(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoned = settings.model_copy(update={"freepbx_timezone": "Asia/Tokyo"})
    add_rule(engine, zoned, "service_level", 80)
    midnight = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    add_visits(engine, zoned, "sales", datetime(2026, 11, 20, 14, 55, tzinfo=UTC), lost=6)
    assert alert_changes(engine, zoned, datetime(2026, 11, 20, 14, 59, tzinfo=UTC)) == [("sales", "started")]
    assert alert_changes(engine, zoned, midnight) == []
    assert alert_changes(engine, zoned, datetime(2026, 11, 20, 15, 1, tzinfo=UTC)) == [("sales", "ended")]


def test_an_alert_starts_after_several_failed_syncs_in_a_row(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "sync_failing", 3)
    for minute in range(3):
        assert alert_changes(engine, settings, minutes(minute)) == []
        add_sync(engine, settings, minutes(minute), "failed", "The ARI user is refused.")
    assert alert_changes(engine, settings, minutes(3)) == [("", "started")]
    assert alerts(engine)[0].description == "The last 3 syncs failed. The ARI user is refused."
    add_sync(engine, settings, minutes(4), "done")
    assert alert_changes(engine, settings, minutes(4)) == []
    assert alert_changes(engine, settings, minutes(5)) == [("", "ended")]


def test_a_disabled_rule_ends_its_alert_and_starts_no_other(engine: Engine, settings: Settings) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    record_snapshot_of(engine, settings, T0, waiting("sales", 90))
    alert_changes(engine, settings, T0)
    connection_id = pbx(engine, settings).id
    with writing(engine) as session:
        rule = list_rules(session, connection_id)[0]
        save_rule(session, AlertRule(**rule.model_dump() | {"enabled": False}), minutes(1))
    record_snapshot_of(engine, settings, minutes(2), waiting("sales", 90))
    assert alert_changes(engine, settings, minutes(2)) == []
    assert [(one.ended_at, one.start_sent, one.end_sent) for one in alerts(engine)] == [(minutes(1), True, True)]


def test_two_workers_start_and_end_an_alert_once(engine: Engine, settings: Settings, second_engine: Engine) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    for minute, wait_s in ((0, 90), (1, 0), (2, 0)):
        record_snapshot_of(engine, settings, minutes(minute), waiting("sales", wait_s))
        with ThreadPoolExecutor(8) as pool:
            engines = [engine, second_engine] * 8
            found = list(pool.map(alert_changes, engines, repeat(settings), repeat(minutes(minute))))
        assert sum(map(len, found)) == (0 if minute == 1 else 1)
    assert len(alerts(engine)) == 1


def test_without_rules_no_alert_starts(engine: Engine, settings: Settings) -> None:
    record_snapshot_of(engine, settings, T0, waiting("sales", 900, ()))
    assert alert_changes(engine, settings, T0) == []
    assert alerts(engine) == []


@pytest.fixture
def second_engine(settings: Settings) -> Iterator[Engine]:
    opened = open_engine(settings)
    yield opened
    opened.dispose()
