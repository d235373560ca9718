"""Past days are copied to Parquet files, read from there, and reopened when any of their rows changes."""

import os
import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, delete, select, update
from sqlmodel import Session, col

from pbx.analytics import sealing
from pbx.analytics.columns import Columns
from pbx.analytics.datasets import DATASETS, DatasetName
from pbx.analytics.engine import query_columns, rows_of
from pbx.analytics.queues import FigureFilter, queue_totals
from pbx.analytics.sealing import seal_history
from pbx.analytics.trunk_status import trunk_history
from pbx.errors import DataError
from pbx.model.snapshot import Trunk
from pbx.settings import Settings
from pbx.store.engine import reading, writing
from pbx.store.models import (
    AgentEventRow,
    CallNote,
    CallRow,
    LegRow,
    PbxConnection,
    RecordingRow,
    RingRow,
    SealedDay,
    Transcript,
    VisitRow,
)
from pbx.store.snapshots import store_trunk_changes
from tests.unit.store.history_rows import agent_event, call, leg, ring, store, visit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
THIRD_DAY = NOON + timedelta(days=2)
FIRST = int(NOON.timestamp()) // 86_400  # NOON's day, as the number of days since 1970
ALL = {"calls", "queue_visits", "agent_rings", "agent_events", "trunk_calls"}
Sealed = set[tuple[str, int]]


def sealed(engine: Engine) -> Sealed:
    """(dataset, days after the first day) of each sealed day."""
    with reading(engine) as session:
        return {(row.dataset, row.day - FIRST) for row in session.scalars(select(SealedDay)) if row.size_bytes}


def files(settings: Settings, dataset: str = "*") -> list[Path]:
    return sorted(settings.columns_dir.glob(f"1/{dataset}/*"))


def load_columns(
    session: Session, name: DatasetName, connection_id: int, since: datetime, until: datetime, wanted: Collection[str]
) -> Columns:
    return query_columns(session, f"SELECT * FROM {rows_of(session, name, connection_id, wanted, since, until)}")


def columns(engine: Engine, name: DatasetName, since: datetime = NOON, days: float = 2) -> Columns:
    with reading(engine) as session:
        return load_columns(session, name, 1, since, since + timedelta(days=days), DATASETS[name].types)


def rows(found: Columns) -> list[tuple[Any, ...]]:
    """Rows with names instead of their indexes, in the order of time."""
    values = [
        [found.names[name][code] for code in column] if name in found.names else column.tolist()
        for name, column in sorted(found.columns.items())
    ]
    known = [[None if value != value else value for value in column] for column in values]  # NaN is not equal to itself
    return sorted(zip(*known, strict=True), key=str)


@pytest.fixture(autouse=True)
def two_days(engine: Engine) -> None:
    """Seal two days that have a row of each dataset; the third day is today."""
    store(engine, PbxConnection(id=1, host="pbx"))
    for day in (NOON, NOON + timedelta(days=1)):
        number = day.day
        store(engine, call(number, day), visit(day), ring(day), agent_event(day, "Anna", "login"))
        store(engine, leg(number, day, "PJSIP/carrier-1"))
        recording = RecordingRow(id=number, connection_id=1, call_id=number, name=f"{number}", format="wav")
        store(engine, recording)
        store(engine, Transcript(id=number, recording_id=number, engine="e", model="m", language="de"))
        store(engine, CallNote(call_id=number, note="", rating=3))
    assert seal_history(engine, 1, before=THIRD_DAY) == 10


def test_all_past_days_of_all_datasets_are_sealed(engine: Engine, settings: Settings) -> None:
    assert sealed(engine) == {(name, day) for name in ALL for day in (0, 1)}
    assert len(files(settings)) == 5  # one for each dataset, because both days are in March
    assert seal_history(engine, 1, before=THIRD_DAY) == 0


@pytest.mark.parametrize("name", sorted(ALL))
def test_sealed_days_hold_what_the_rows_hold(engine: Engine, name: DatasetName) -> None:
    from_files = rows(columns(engine, name))
    with writing(engine) as session:
        session.execute(delete(SealedDay))
    assert from_files == rows(columns(engine, name))
    assert len(from_files) == 2


MARCH_1 = col(VisitRow.joined_at) == NOON
CALL_1 = col(CallRow.id) == 1
OF_CALL = {"calls", "trunk_calls"}


@pytest.mark.parametrize(
    ("make_change", "datasets"),
    [
        (lambda s: s.execute(update(VisitRow).values(talk_s=9.0).where(MARCH_1)), {"queue_visits"}),
        (lambda s: s.execute(update(VisitRow).values(caller_name="Anna").where(MARCH_1)), {"queue_visits"}),
        (lambda s: s.execute(update(VisitRow).values(ended_by="agent").where(MARCH_1)), {"queue_visits", "calls"}),
        (lambda s: s.execute(delete(VisitRow).where(MARCH_1)), {"queue_visits", "calls"}),
        (lambda s: s.add(visit(NOON + timedelta(hours=3))), {"queue_visits", "calls"}),
        (lambda s: s.add(ring(NOON + timedelta(hours=3))), {"agent_rings"}),
        (lambda s: s.execute(delete(RingRow).where(col(RingRow.rung_at) == NOON)), {"agent_rings"}),
        (lambda s: s.add(agent_event(NOON + timedelta(hours=3), "Anna", "logout")), {"agent_events"}),
        (
            lambda s: s.execute(update(AgentEventRow).values(reason="x").where(col(AgentEventRow.happened_at) == NOON)),
            {"agent_events"},
        ),
        (lambda s: s.execute(update(CallRow).values(did="100").where(CALL_1)), {"calls"}),
        (lambda s: s.execute(update(CallRow).values(transcription="queued").where(CALL_1)), {"calls"}),
        (lambda s: s.execute(update(CallRow).values(started_at=NOON + timedelta(hours=1)).where(CALL_1)), OF_CALL),
        (lambda s: s.execute(update(LegRow).values(cause=17).where(col(LegRow.call_id) == 1)), OF_CALL),
        (lambda s: s.execute(update(LegRow).values(ended_by="called").where(col(LegRow.call_id) == 1)), OF_CALL),
        (lambda s: s.execute(update(Transcript).values(language="en").where(col(Transcript.id) == 1)), {"calls"}),
        (lambda s: s.execute(delete(Transcript).where(col(Transcript.id) == 1)), {"calls"}),
        (lambda s: s.execute(update(CallNote).values(rating=5).where(col(CallNote.call_id) == 1)), {"calls"}),
        (lambda s: s.execute(delete(CallNote).where(col(CallNote.call_id) == 1)), {"calls"}),
        # columns that no dataset contains change nothing
        (lambda s: s.execute(update(CallRow).values(state="failed")), set()),
        (lambda s: s.execute(update(VisitRow).values(interface="PJSIP/1001")), set()),
        (lambda s: s.execute(update(CallNote).values(note="Call back")), set()),
    ],
)
def test_a_change_reopens_only_its_day(
    engine: Engine, make_change: Callable[[Session], object], datasets: set[str]
) -> None:
    with writing(engine) as session:
        make_change(session)
    assert sealed(engine) == {(name, day) for name in ALL for day in (0, 1)} - {(name, 0) for name in datasets}


def test_a_call_or_leg_reopens_the_visits_that_may_be_its_own(engine: Engine) -> None:
    """The visit's `call_id` is that of a call or leg with its uniqueid; the call may have begun the day before."""
    untouched = {("agent_rings", 0), ("agent_events", 0)} | {(name, 1) for name in ALL - {"queue_visits"}}
    store(engine, call(99, NOON + timedelta(hours=3)))
    assert sealed(engine) == untouched | {("trunk_calls", 0)}  # the call has no legs
    seal_history(engine, 1, before=THIRD_DAY)
    store(engine, leg(1, NOON + timedelta(days=1), "PJSIP/carrier-2"))  # belongs to the day of its call
    assert sealed(engine) == untouched


def test_a_row_moved_to_another_day_reopens_both_days(engine: Engine) -> None:
    with writing(engine) as session:
        session.execute(update(RingRow).values(rung_at=NOON + timedelta(hours=1)).where(col(RingRow.rung_at) > NOON))
    assert sealed(engine) == {(name, day) for name in ALL - {"agent_rings"} for day in (0, 1)}


def test_a_change_that_is_rolled_back_reopens_nothing(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as session:
            session.add(visit(NOON))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(sealed(engine)) == 10


def test_sealed_and_open_days_are_read_together(engine: Engine) -> None:
    changed = NOON + timedelta(hours=1)
    store(engine, visit(changed, queue="help", caller="+49 30 1"), visit(THIRD_DAY, queue="help"))
    found = columns(engine, "queue_visits", days=3)
    names = [found.names["queue"][code] for code in found["queue"]]
    assert sorted(zip(found["at_s"].tolist(), names, strict=True)) == [
        (int(NOON.timestamp()), "sales"),
        (int(NOON.timestamp()) + 3600, "help"),
        (int(NOON.timestamp()) + 86_400, "sales"),
        (int(THIRD_DAY.timestamp()), "help"),
    ]


def test_only_the_period_is_read(engine: Engine) -> None:
    assert len(columns(engine, "queue_visits", days=1)) == 1  # the second visit is outside the period
    assert len(columns(engine, "queue_visits", NOON + timedelta(seconds=1), days=1 - 1 / 86_400)) == 0
    with reading(engine) as session:
        assert len(load_columns(session, "queue_visits", 2, NOON, THIRD_DAY, ["queue"])) == 0


def test_only_a_reading_session_keeps_its_rows(engine: Engine) -> None:
    until = NOON + timedelta(hours=9)

    def load(session: Session) -> Columns:
        return load_columns(session, "queue_visits", 1, NOON, until, ["queue"])

    with reading(engine) as session:
        rows = [rows_of(session, "queue_visits", 1, ["queue"], NOON, until) for _ in range(2)]
        assert rows[0] == rows[1]
    with writing(engine) as session:
        assert len(load(session)) == 1
        session.add(visit(NOON + timedelta(hours=3)))
        session.flush()
        assert len(load(session)) == 2


def test_sealing_ends_early_when_it_is_stopped(engine: Engine) -> None:
    stop = threading.Event()
    stop.set()
    assert seal_history(engine, 1, stop) == 0
    assert seal_history(engine, 1) > 4 * (datetime.now(UTC) - NOON).days  # includes empty days
    assert seal_history(engine, 1) == 0


def test_a_changed_day_is_sealed_again_without_its_old_rows(engine: Engine, settings: Settings) -> None:
    (before,) = files(settings, "queue_visits")
    with writing(engine) as session:
        session.execute(update(VisitRow).values(queue="help").where(MARCH_1))
    assert seal_history(engine, 1, before=THIRD_DAY) == 1
    found = columns(engine, "queue_visits")
    assert sorted(found.names["queue"][code] for code in found["queue"]) == ["help", "sales"]
    assert before in files(settings, "queue_visits")  # a page may still be reading it
    long_ago = before.stat().st_mtime - 3600
    os.utime(before, (long_ago, long_ago))
    store(engine, visit(NOON + timedelta(hours=1)))
    assert seal_history(engine, 1, before=THIRD_DAY) == 2
    assert before not in files(settings, "queue_visits")


def test_a_row_that_changes_while_its_day_is_copied_leaves_the_day_open(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = sealing.read_rows

    def read_and_change(session: Session, *more: Any) -> Any:
        found = read(session, *more)
        store(engine, ring(NOON + timedelta(hours=5)))
        return found

    store(engine, ring(NOON + timedelta(hours=2)), ring(NOON + timedelta(days=1, hours=2)))
    with monkeypatch.context() as patched:
        patched.setattr(sealing, "read_rows", read_and_change)
        assert seal_history(engine, 1, before=THIRD_DAY) == 1
    assert ("agent_rings", 0) not in sealed(engine)
    assert ("agent_rings", 1) in sealed(engine)
    assert len(columns(engine, "agent_rings")) == 5


def test_two_workers_may_seal_days_of_one_month(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower worker read an older state of the day that the faster one seals meanwhile."""
    read = sealing.read_rows

    def read_slowly(session: Session, *more: Any) -> Any:
        monkeypatch.setattr(sealing, "read_rows", read)
        found = read(session, *more)
        store(engine, ring(NOON + timedelta(hours=5)))
        seal_history(engine, 1, before=THIRD_DAY)
        return found

    store(engine, ring(NOON + timedelta(hours=2)), ring(NOON + timedelta(days=1, hours=2)))
    monkeypatch.setattr(sealing, "read_rows", read_slowly)
    seal_history(engine, 1, before=THIRD_DAY)
    assert len(columns(engine, "agent_rings")) == 5
    assert {("agent_rings", 0), ("agent_rings", 1)} <= sealed(engine)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_deleted_and_cut_files_are_not_read(
    engine: Engine, settings: Settings, damage: Callable[[Path], object]
) -> None:
    (path,) = files(settings, "queue_visits")
    damage(path)
    assert len(columns(engine, "queue_visits")) == 2
    assert seal_history(engine, 1, before=THIRD_DAY) == 2
    assert len(columns(engine, "queue_visits")) == 2
    assert len(sealed(engine)) == 10


def test_a_file_damaged_in_place_is_deleted_and_made_again(engine: Engine, settings: Settings) -> None:
    (path,) = files(settings, "queue_visits")
    good = path.read_bytes()
    path.write_bytes(good[:4] + bytes(len(good) - 12) + good[-8:])
    with pytest.raises(DataError, match="damaged") as error:
        columns(engine, "queue_visits")
    assert "Reload the page" in error.value.fix
    assert not path.exists()
    assert len(columns(engine, "queue_visits")) == 2
    assert seal_history(engine, 1, before=THIRD_DAY) == 2


def test_a_file_deleted_while_a_page_reads_it_is_a_clear_error(engine: Engine, settings: Settings) -> None:
    wanted = FigureFilter(1, NOON, THIRD_DAY)
    with reading(engine) as session:
        load_columns(session, "queue_visits", 1, NOON, THIRD_DAY, ["visit_id"])
        for path in files(settings):
            path.unlink()
        with pytest.raises(DataError, match="deleted or damaged"):
            load_columns(session, "queue_visits", 1, NOON, THIRD_DAY, ["visit_id"])
    with reading(engine) as session:
        assert queue_totals(session, wanted).offered == 2


def test_files_are_private_and_written_completely_or_not_at_all(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any, file: Any, **__: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    store(engine, ring(NOON + timedelta(hours=2)))
    before = files(settings)
    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", fail)
        assert seal_history(engine, 1, before=THIRD_DAY) == 0
    assert "The agent_rings of 2026-03 can't be copied" in caplog.text
    assert files(settings) == before
    assert len(columns(engine, "agent_rings")) == 3
    assert seal_history(engine, 1, before=THIRD_DAY) == 1


def test_a_call_that_seized_a_trunk_after_midnight_counts_on_that_day(engine: Engine) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    store(
        engine, call(50, midnight - timedelta(seconds=5)), leg(50, midnight + timedelta(seconds=5), "PJSIP/carrier-5")
    )
    for _ in range(2):
        assert sorted(columns(engine, "trunk_calls", midnight, days=1)["call_id"].tolist()) == [2, 50]
        seal_history(engine, 1, before=THIRD_DAY)


def test_trunk_states_are_sealed_and_reopened_with_their_day(engine: Engine) -> None:
    def record_state(minutes: float, state: str) -> None:
        trunk = Trunk(name="carrier", tech="PJSIP", state=state, channels=2)
        with writing(engine) as session:
            store_trunk_changes(session, 1, NOON + timedelta(minutes=minutes), [trunk])

    def states_and_minutes() -> list[tuple[str, int]]:
        with reading(engine) as session:
            points = trunk_history(session, 1, "carrier", NOON, NOON + timedelta(days=1))
        return [(point.state, round((point.taken_at - NOON).total_seconds() / 60)) for point in points]

    record_state(1, "registered")
    record_state(60 * 13, "rejected")  # on the next day
    assert states_and_minutes() == (expected := [("registered", 1), ("rejected", 60 * 13)])
    assert seal_history(engine, 1, before=THIRD_DAY) == 2
    assert states_and_minutes() == expected
    record_state(5, "unreachable")
    assert ("trunk_samples", 1) in sealed(engine)
    assert ("trunk_samples", 0) not in sealed(engine)
    assert states_and_minutes() == [expected[0], ("unreachable", 5), expected[1]]


def test_a_day_with_many_names_is_sealed_completely(engine: Engine) -> None:
    """A scanner can dial 70,000 different numbers in a day."""
    dialled = NOON + timedelta(hours=1)
    numbers = {f"00{n:06}": f"{n}.9" for n in range(70_000)}
    store(engine, *(visit(dialled, uniqueid=one, did=did, outcome="abandoned") for did, one in numbers.items()))
    from_rows = rows(columns(engine, "queue_visits"))
    assert seal_history(engine, 1, before=THIRD_DAY) > 0
    assert rows(columns(engine, "queue_visits")) == from_rows
    assert len(from_rows) == 70_002


@pytest.mark.parametrize("value", [255, 65_536, 2**31, 2**40, 2**62])
def test_a_number_of_any_size_is_sealed_unchanged(engine: Engine, value: int) -> None:
    with writing(engine) as session:
        session.connection().execute(update(LegRow).values(cause=value))
    assert seal_history(engine, 1, before=THIRD_DAY) > 0
    assert columns(engine, "trunk_calls")["cause"].tolist() == [value, value]
