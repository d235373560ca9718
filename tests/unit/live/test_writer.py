"""The writer of live events keeps them while the database is locked, slow or refuses writes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.errors import DataError
from pbx.live import writer as event_writer
from pbx.live.events import LiveUpdates
from pbx.live.writer import EventWriter
from pbx.model.history import Visit
from pbx.settings import Settings
from pbx.store.engine import reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.models import ListeningSpan, VisitRow
from tests.unit.asterisk.ami.replay_server import wait_until

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def visit(number: int, outcome: str = "in_progress") -> Visit:
    return Visit(f"1.{number}", "sales", START + timedelta(seconds=number), outcome=outcome)  # type: ignore[arg-type]


def visits(engine: Engine) -> dict[str, str]:
    with reading(engine) as session:
        return {row.uniqueid: row.outcome for row in session.exec(select(VisitRow))}


@pytest.fixture
def writer(engine: Engine, settings: Settings) -> Iterator[EventWriter]:
    writer = EventWriter(engine, required_connection(engine, settings).id, limit=5)
    yield writer
    writer.close()


def test_the_listener_never_waits_for_the_database(engine: Engine, writer: EventWriter) -> None:
    writer.begin(START)
    with writing(engine):  # another program holds the database
        assert all(writer.add(LiveUpdates([visit(number)]), START) for number in range(5))
        assert not writer.add(LiveUpdates([visit(5)]), START)  # the limit of 5 is reached
        assert not writer.has_room
        writer.end(START + timedelta(seconds=4), "too much")
        assert visits(engine) == {}
    wait_until(lambda: writer.waiting == 0)
    assert len(visits(engine)) == 5
    with reading(engine) as session:
        (span,) = session.exec(select(ListeningSpan)).all()
    assert (span.end_reason, span.listened_until) == ("too much", START + timedelta(seconds=4))


def test_refused_updates_are_retried_and_the_latest_one_is_stored(
    engine: Engine, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise DataError("The disk is gone.", "Bring it back.")

    writer.begin(START)
    with monkeypatch.context() as patch:
        patch.setattr(event_writer, "store_visits", refuse)
        writer.add(LiveUpdates([visit(1), visit(2)]), START)
        wait_until(lambda: "disk is gone" in writer.fault)
        writer.add(LiveUpdates([visit(1, "abandoned")]), START)
    wait_until(lambda: writer.waiting == 0 and not writer.fault)
    assert visits(engine) == {"1.1": "abandoned", "1.2": "in_progress"}
    assert writer.dropped == 0


def test_an_unexpected_error_drops_only_its_batch(
    engine: Engine, writer: EventWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(event_writer, "store_visits", fail)
        writer.add(LiveUpdates([visit(1)]), START)
        wait_until(lambda: writer.dropped == 1)
    writer.add(LiveUpdates([visit(2)]), START)
    wait_until(lambda: writer.waiting == 0)
    assert visits(engine) == {"1.2": "in_progress"}
