"""SQLite uses indexes for the queries that must stay fast with a million calls."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event

from pbx.settings import Settings, load_settings
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.calls import CallFilter, call_agents, call_queues, count_calls, find_calls
from pbx.store.engine import reading

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings() -> Settings:
    return load_settings()


def record_plans(engine: Engine) -> list[str]:
    """A list to which each later query adds its plan."""
    plans: list[str] = []

    def explain(_conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if not statement.startswith(("SELECT", "WITH")):
            return
        plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
        plans.append("\n".join(row[3] for row in plan))

    event.listen(engine, "after_cursor_execute", explain)
    return plans


@pytest.mark.parametrize(
    "call_filter",
    [
        CallFilter(1),
        CallFilter(1, queue="sales"),
        CallFilter(1, since=NOON, until=NOON + timedelta(days=1)),
        CallFilter(1, direction="inbound", queue="sales", state="failed", number="1001"),
    ],
)
def test_every_filter_reads_an_index_in_the_order_of_the_list(engine: Engine, call_filter: CallFilter) -> None:
    plans = record_plans(engine)
    with reading(engine) as session:
        find_calls(session, call_filter, offset=100, limit=50)
        count_calls(session, call_filter)
        call_queues(session, 1)
        call_agents(session, 1)
    list_plans = [plan for plan in plans if "RECURSIVE" in plan or "SETUP" in plan]
    listing, count = (plan for plan in plans if plan not in list_plans)
    *_, queues, agents = list_plans
    assert ("INDEX ix_calls_queue" if call_filter.queue else "INDEX ix_calls_started") in listing
    assert "TEMP B-TREE" not in listing  # SQLite doesn't sort: the index is in this order
    assert "COVERING INDEX" in count
    for name, plan in (("queue", queues), ("agent", agents)):
        assert "SCAN calls" not in plan
        assert plan.count(f"COVERING INDEX ix_calls_{name} (connection_id=? AND {name}>?)") == 2


def test_the_queries_that_the_worker_runs_every_second_read_an_index(engine: Engine) -> None:
    plans = record_plans(engine)
    with reading(engine) as session:
        claims.TRANSCRIPTIONS.workers(session)
        claims.claimed_ids(session, "transcriber-0")
        claims.next_model(session, 1)
        transcriptions.next_transcriptions(session, 1, 5)
    running, waiting = plans[:2], plans[2:]
    assert all("INDEX ix_transcriptions_running" in plan for plan in running)
    for plan in waiting:
        assert "ix_transcriptions_state (connection_id=? AND state=?)" in plan
        assert "FOR ORDER BY" not in plan  # the index has the queue's order
