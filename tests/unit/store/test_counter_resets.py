"""When the PBX's counters began anew: seen between two looks, whoever took them."""

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


def look(seconds: float, uptime_s: int | None = None, **counters: tuple[int, int]) -> Snapshot:
    queues = tuple(Queue(name=name, completed=done, abandoned=gone) for name, (done, gone) in counters.items())
    system = System(version="22", uptime_s=uptime_s)
    return Snapshot(taken_at=at(seconds), took_ms=1, system=system, queues=queues, parts={})


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    with writing(engine) as session:
        session.add_all([PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other")])


def found(engine: Engine, **wanted: Any) -> list[Reset]:
    with reading(engine) as session:
        return resets_of(session, 1, at(-1000), at(100_000), **wanted)


def test_counters_that_grow_or_stay_are_no_reset() -> None:
    assert resets_between(look(0, 500, sales=(3, 1)), look(60, 560, sales=(4, 1))) == []
    assert resets_between(look(0, 500, sales=(0, 0)), look(60, 559, sales=(0, 0), new=(0, 0))) == []
    assert resets_between(look(0, 500, sales=(3, 0)), look(60, 560)) == []  # the queue is gone


def test_a_counter_that_fell_is_one() -> None:
    before = look(0, sales=(3, 1), support=(2, 2), quiet=(0, 0))
    (one,) = resets_between(before, look(60, sales=(1, 1), support=(2, 2), quiet=(0, 0)))
    assert (one.at, one.queue) == (at(60), "sales")
    assert resets_between(before, look(60, sales=(3, 0), support=(0, 0), quiet=(0, 0))) == [Reset(at(60), ALL_RESET)]


def test_a_restart_is_told_by_its_start_and_not_by_the_clock() -> None:
    fallen = look(600, 100, sales=(0, 0))
    assert resets_between(look(0, 50, sales=(3, 1)), fallen) == [Reset(at(500), RESTARTED)]
    assert resets_between(look(0, 50), look(10_000, 9_000)) == [Reset(at(1_000), RESTARTED)]  # up longer than before
    assert resets_between(look(0, 5_000), look(60, 1_460)) == []  # the PBX's clock was set back by an hour
    assert resets_between(look(0, None), look(60, 10)) == []


def test_looks_of_watch_and_of_collect_note_it_once(engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, 1, look(0, 500, sales=(3, 1), support=(1, 0)))
        store_latest(session, 1, look(10, 510, sales=(4, 1), support=(1, 0)))
        store_latest(session, 1, look(20, 520, sales=(0, 0), support=(1, 0)))
        record_snapshot(session, 1, look(23, 523, sales=(0, 0), support=(1, 0)))
        store_latest(session, 1, look(15, 515, sales=(4, 1), support=(1, 0)))  # an older one
        record_snapshot(session, 1, look(60, 560, sales=(1, 0), support=(1, 0)))
        store_latest(session, 1, look(100, 20, sales=(0, 0), support=(0, 0)))
        record_snapshot(session, 1, look(103, 22, sales=(0, 0), support=(0, 0)))
        store_latest(session, 2, look(103, 22, sales=(0, 0), support=(0, 0)))
    assert [(reset.at, reset.queue) for reset in found(engine)] == [(at(20), "sales"), (at(80), "")]
    assert [reset.at for reset in found(engine, queue="support")] == [at(80)]
    with reading(engine) as session:
        assert resets_of(session, 1, at(21), at(80)) == []
        assert resets_of(session, 2, at(-1000), at(1000)) == []
