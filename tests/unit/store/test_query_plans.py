"""How SQLite answers the questions that must stay quick at a million calls."""

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


def explained(engine: Engine) -> list[str]:
    """The plans of the queries to come."""
    plans: list[str] = []

    def explain(_conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if not statement.startswith(("SELECT", "WITH")):
            return
        plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
        plans.append("\n".join(row[3] for row in plan))

    event.listen(engine, "after_cursor_execute", explain)
    return plans


@pytest.mark.parametrize(
    "wanted",
    [
        CallFilter(1),
        CallFilter(1, queue="sales"),
        CallFilter(1, since=NOON, until=NOON + timedelta(days=1)),
        CallFilter(1, direction="inbound", queue="sales", state="failed", number="1001"),
    ],
)
def test_every_filter_reads_the_index_in_its_order(engine: Engine, wanted: CallFilter) -> None:
    plans = explained(engine)
    with reading(engine) as session:
        find_calls(session, wanted, offset=100, limit=50)
        count_calls(session, wanted)
        call_queues(session, 1)
        call_agents(session, 1)
    names = [plan for plan in plans if "RECURSIVE" in plan or "SETUP" in plan]
    listing, count = (plan for plan in plans if plan not in names)
    *_, queues, agents = names
    assert ("INDEX ix_calls_queue" if wanted.queue else "INDEX ix_calls_started") in listing
    assert "TEMP B-TREE" not in listing  # no sorting: the index has the order
    assert "COVERING INDEX" in count
    for name, plan in (("queue", queues), ("agent", agents)):
        assert "SCAN calls" not in plan
        assert plan.count(f"COVERING INDEX ix_calls_{name} (connection_id=? AND {name}>?)") == 2


def test_what_is_asked_of_the_speech_queue_every_second_reads_an_index(engine: Engine) -> None:
    plans = explained(engine)
    with reading(engine) as session:
        claims.TRANSCRIPTIONS.workers(session)
        claims.claimed_ids(session, "transcriber-0")
        claims.next_model(session, 1)
        transcriptions.next_transcriptions(session, 1, 5)
    at_work, waiting = plans[:2], plans[2:]
    assert all("INDEX ix_transcriptions_running" in plan for plan in at_work)
    for plan in waiting:
        assert "ix_transcriptions_state (connection_id=? AND state=?)" in plan
        assert "FOR ORDER BY" not in plan  # the index has the queue's order
