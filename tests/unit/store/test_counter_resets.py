"""A reset of the PBX's counters is detected between two snapshots."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from pbx.model.snapshot import Queue, Snapshot, System
from pbx.store.counter_resets import ALL_RESET, RESTARTED, Reset, resets_between, resets_of
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection
from pbx.store.snapshots import record_snapshot, store_latest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def snapshot_at(seconds: float, uptime_s: int | None = None, **counters: tuple[int, int]) -> Snapshot:
    queues = tuple(Queue(name=name, completed=done, abandoned=gone) for name, (done, gone) in counters.items())
    system = System(version="22", uptime_s=uptime_s)
    return Snapshot(taken_at=at(seconds), took_ms=1, system=system, queues=queues, parts={})


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    with writing(engine) as session:
        session.add_all([PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other")])


def stored_resets(engine: Engine, **filters: Any) -> list[Reset]:
    with reading(engine) as session:
        return resets_of(session, 1, at(-1000), at(100_000), **filters)


def test_counters_that_grow_or_stay_the_same_are_no_reset() -> None:
    assert resets_between(snapshot_at(0, 500, sales=(3, 1)), snapshot_at(60, 560, sales=(4, 1))) == []
    assert resets_between(snapshot_at(0, 500, sales=(0, 0)), snapshot_at(60, 559, sales=(0, 0), new=(0, 0))) == []
    assert resets_between(snapshot_at(0, 500, sales=(3, 0)), snapshot_at(60, 560)) == []  # the queue was removed


def test_a_counter_that_fell_is_a_reset() -> None:
    before = snapshot_at(0, sales=(3, 1), support=(2, 2), quiet=(0, 0))
    (reset,) = resets_between(before, snapshot_at(60, sales=(1, 1), support=(2, 2), quiet=(0, 0)))
    assert (reset.at, reset.queue) == (at(60), "sales")
    assert resets_between(before, snapshot_at(60, sales=(3, 0), support=(0, 0), quiet=(0, 0))) == [
        Reset(at(60), ALL_RESET)
    ]


def test_a_restart_is_detected_by_the_start_time_and_not_by_the_clock() -> None:
    after_restart = snapshot_at(600, 100, sales=(0, 0))
    assert resets_between(snapshot_at(0, 50, sales=(3, 1)), after_restart) == [Reset(at(500), RESTARTED)]
    longer_up = snapshot_at(10_000, 9_000)  # its uptime is longer than before
    assert resets_between(snapshot_at(0, 50), longer_up) == [Reset(at(1_000), RESTARTED)]
    assert resets_between(snapshot_at(0, 5_000), snapshot_at(60, 1_460)) == []  # the PBX's clock went back an hour
    assert resets_between(snapshot_at(0, None), snapshot_at(60, 10)) == []


def test_listener_and_collect_store_a_reset_once(engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot_at(0, 500, sales=(3, 1), support=(1, 0)))
        store_latest(session, 1, snapshot_at(10, 510, sales=(4, 1), support=(1, 0)))
        store_latest(session, 1, snapshot_at(20, 520, sales=(0, 0), support=(1, 0)))
        record_snapshot(session, 1, snapshot_at(23, 523, sales=(0, 0), support=(1, 0)))
        store_latest(session, 1, snapshot_at(15, 515, sales=(4, 1), support=(1, 0)))  # older than the latest
        record_snapshot(session, 1, snapshot_at(60, 560, sales=(1, 0), support=(1, 0)))
        store_latest(session, 1, snapshot_at(100, 20, sales=(0, 0), support=(0, 0)))
        record_snapshot(session, 1, snapshot_at(103, 22, sales=(0, 0), support=(0, 0)))
        store_latest(session, 2, snapshot_at(103, 22, sales=(0, 0), support=(0, 0)))
    assert [(reset.at, reset.queue) for reset in stored_resets(engine)] == [(at(20), "sales"), (at(80), "")]
    assert [reset.at for reset in stored_resets(engine, queue="support")] == [at(80)]
    with reading(engine) as session:
        assert resets_of(session, 1, at(21), at(80)) == []
        assert resets_of(session, 2, at(-1000), at(1000)) == []
