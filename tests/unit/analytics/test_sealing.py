# """Packed days are deleted when any row of their day changes, and packed again later."""
# 
# import sqlite3
# from collections.abc import Callable
# from datetime import UTC, datetime, timedelta
# from typing import Any
# 
# import pytest
# from pbx.analytics.packed_days import delete_packs, load_columns, number_key, pack_days
# from pbx.analytics.packing_job import pack_history
# from sqlalchemy import Engine, delete, event, select, update
# from sqlmodel import Session, col
# 
# from pbx.analytics.agents import agent_figures
# from pbx.analytics.formulas.queues import OUTCOMES
# from pbx.analytics.queues import FigureFilter
# from pbx.analytics.trunk_status import trunk_history
# from pbx.model.snapshot import Trunk
# from pbx.store.engine import reading, writing
# from pbx.store.models import AgentEventRow, CallRow, DayPack, LegRow, PbxConnection, RingRow, VisitRow
# from pbx.store.snapshots import store_trunk_changes
# from tests.unit.both_databases import sqlite_only
# from tests.unit.store.history_rows import agent_event, call, leg, ring, store, visit
# 
# NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# FIRST = int(NOON.timestamp()) // 86_400  # NOON's day, as the number of days since 1970
# ALL_KINDS = {"visits", "rings", "agent_events", "calls", "conversations", "seizures"}
# CALL_KINDS = {"calls", "conversations", "seizures"}
# 
# 
# def packed(engine: Engine) -> set[tuple[str, int]]:
#     """(kind, days after the first day) of each pack."""
#     with reading(engine) as session:
#         return {(row.kind, row.day - FIRST) for row in session.scalars(select(DayPack))}
# 
# 
# @pytest.fixture(autouse=True)
# def two_days(engine: Engine) -> None:
#     """Pack two days that have a row of each kind; the third day is today."""
#     store(engine, PbxConnection(id=1, host="pbx"))
#     for day in (NOON, NOON + timedelta(days=1)):
#         number = day.day
#         store(engine, call(number, day), visit(day), ring(day), agent_event(day, "Anna", "login"))
#         store(engine, leg(number, day, "PJSIP/carrier-1"))
#     with writing(engine) as session:
#         assert pack_days(session, 1, NOON + timedelta(days=2)) == 12
# 
# 
# def test_all_kinds_of_all_past_days_are_packed(engine: Engine) -> None:
#     assert packed(engine) == {(kind, day) for kind in ALL_KINDS for day in (0, 1)}
#     with writing(engine) as session:
#         assert pack_days(session, 1, NOON + timedelta(days=2)) == 0
# 
# 
# @pytest.mark.parametrize(
#     ("make_change", "kinds"),
#     [
#         (
#             lambda s: s.execute(update(VisitRow).values(talk_s=9.0).where(col(VisitRow.joined_at) == NOON)),
#             {"visits"},
#         ),
#         (lambda s: s.execute(delete(VisitRow).where(col(VisitRow.joined_at) == NOON)), {"visits"}),
#         (lambda s: s.add(visit(NOON + timedelta(hours=3))), {"visits"}),
#         (lambda s: s.add(ring(NOON + timedelta(hours=3))), {"rings"}),
#         (lambda s: s.execute(delete(RingRow).where(col(RingRow.rung_at) == NOON)), {"rings"}),
#         (lambda s: s.add(agent_event(NOON + timedelta(hours=3), "Anna", "logout")), {"agent_events"}),
#         (
#             lambda s: s.execute(update(AgentEventRow).values(reason="x").where(col(AgentEventRow.happened_at) == NOON)),
#             {"agent_events"},
#         ),
#         (
#             lambda s: s.execute(update(CallRow).values(did="100").where(col(CallRow.started_at) == NOON)),
#             CALL_KINDS,
#         ),
#         (lambda s: s.add(call(99, NOON + timedelta(hours=3))), CALL_KINDS),
#         (lambda s: s.add(leg(1, NOON, "PJSIP/carrier-2")), {"seizures"}),
#         (lambda s: s.execute(update(LegRow).values(cause=17).where(col(LegRow.started_at) == NOON)), {"seizures"}),
#         (lambda s: s.execute(delete(LegRow).where(col(LegRow.started_at) == NOON)), {"seizures"}),
#         # a leg on the next day belongs to the day of its call
#         (lambda s: s.add(leg(1, NOON + timedelta(days=1), "PJSIP/carrier-2")), {"seizures"}),
#         # columns that no report reads change nothing
#         (lambda s: s.execute(update(CallRow).values(state="failed", transcription="queued")), set()),
#         (lambda s: s.execute(update(VisitRow).values(caller_name="Anna")), set()),
#     ],
# )
# def test_a_change_deletes_only_the_packs_of_its_day(
#     engine: Engine, make_change: Callable[[Session], object], kinds: set[str]
# ) -> None:
#     with writing(engine) as session:
#         make_change(session)
#     assert packed(engine) == {(kind, day) for kind in ALL_KINDS for day in (0, 1)} - {(kind, 0) for kind in kinds}
# 
# 
# def test_a_row_moved_to_another_day_deletes_the_packs_of_both_days(engine: Engine) -> None:
#     with writing(engine) as session:
#         session.execute(update(VisitRow).values(joined_at=NOON).where(col(VisitRow.joined_at) > NOON))
#     assert packed(engine) == {(kind, day) for kind in ALL_KINDS - {"visits"} for day in (0, 1)}
# 
# 
# def test_a_change_that_is_rolled_back_deletes_no_pack(engine: Engine) -> None:
#     def fail() -> None:
#         with writing(engine) as session:
#             session.add(visit(NOON))
#             session.flush()
#             raise RuntimeError
# 
#     with pytest.raises(RuntimeError):
#         fail()
#     assert len(packed(engine)) == 12
# 
# 
# def test_packed_and_unpacked_days_are_read_together(engine: Engine) -> None:
#     today = NOON + timedelta(days=2)
#     store(engine, visit(NOON + timedelta(hours=1), queue="help", caller="+49 30 1"), visit(today, queue="help"))
#     with reading(engine) as session:
#         found = load_columns(session, "visits", 1, NOON, today + timedelta(days=1))
#         names = [found.names["queue"][code] for code in found.columns["queue"]]
#     assert sorted(zip(found.columns["at"].tolist(), names, strict=True)) == [
#         (int(NOON.timestamp()), "sales"),
#         (int(NOON.timestamp()) + 3600, "help"),
#         (int(NOON.timestamp()) + 86_400, "sales"),
#         (int(today.timestamp()), "help"),
#     ]
# 
# 
# def test_only_the_period_is_read(engine: Engine) -> None:
#     with reading(engine) as session:
#         assert (
#             len(load_columns(session, "visits", 1, NOON, NOON + timedelta(days=1))) == 1
#         )  # the second visit is outside the period
#         assert len(load_columns(session, "visits", 1, NOON + timedelta(seconds=1), NOON + timedelta(days=1))) == 0
#         assert len(load_columns(session, "visits", 2, NOON, NOON + timedelta(days=9))) == 0
# 
# 
# def test_only_a_reading_session_caches_its_columns(engine: Engine) -> None:
#     until = NOON + timedelta(hours=9)
#     with reading(engine) as session:
#         assert load_columns(session, "visits", 1, NOON, until) is load_columns(session, "visits", 1, NOON, until)
#     with writing(engine) as session:
#         assert len(load_columns(session, "visits", 1, NOON, until)) == 1
#         session.add(visit(NOON + timedelta(hours=3)))
#         session.flush()
#         assert len(load_columns(session, "visits", 1, NOON, until)) == 2
# 
# 
# def test_packing_continues_a_few_days_at_a_time(engine: Engine) -> None:
#     with writing(engine) as session:
#         delete_packs(session, 1)
#         assert pack_days(session, 1, NOON + timedelta(days=2), limit=3) == 3
#         assert pack_days(session, 1, NOON + timedelta(days=2), limit=100) == 9
#     with writing(engine) as session:
#         delete_packs(session, 1)
#     days = (datetime.now(UTC) - NOON).days
#     assert pack_history(engine, 1) >= 6 * days  # includes empty days, which are then not read again
#     assert pack_history(engine, 1) == 0
# 
# 
# @pytest.mark.parametrize("written", ["+49 30 1234567", "030/1234567", "000493012345 67", "(030) 123 45 67"])
# def test_different_notations_of_a_number_have_one_key(written: str) -> None:
#     assert number_key(written) == number_key("+49301234567")
# 
# 
# def test_different_numbers_have_different_keys() -> None:
#     keys = [number_key(written) for written in ("1001", "11001", "01001", "100", "4930123456", "4930123457")]
#     assert len(set(keys)) == len(keys)
#     assert number_key("") == number_key("anonymous") == 0
# 
# 
# def test_trunk_states_are_packed_and_deleted_with_their_day(engine: Engine) -> None:
#     def record_state(minutes: float, state: str) -> None:
#         trunk = Trunk(name="carrier", tech="PJSIP", state=state, channels=2)
#         with writing(engine) as session:
#             store_trunk_changes(session, 1, NOON + timedelta(minutes=minutes), [trunk])
# 
#     def states_and_minutes() -> list[tuple[str, int]]:
#         with reading(engine) as session:
#             points = trunk_history(session, 1, "carrier", NOON, NOON + timedelta(days=1))
#         return [(point.state, round((point.taken_at - NOON).total_seconds() / 60)) for point in points]
# 
#     record_state(1, "registered")
#     record_state(60 * 13, "rejected")  # on the next day
#     assert states_and_minutes() == (rows := [("registered", 1), ("rejected", 60 * 13)])
#     with writing(engine) as session:
#         assert pack_days(session, 1, NOON + timedelta(days=2)) == 2
#     assert states_and_minutes() == rows
#     record_state(5, "unreachable")
#     assert packed(engine) >= {("trunk_samples", 1)}
#     assert ("trunk_samples", 0) not in packed(engine)
#     assert states_and_minutes() == [rows[0], ("unreachable", 5), rows[1]]
# 
# 
# def test_a_day_with_more_names_than_two_bytes_can_count_is_packed_completely(engine: Engine) -> None:
#     """A scanner can dial 70,000 different numbers in a day."""
#     dialled = NOON + timedelta(hours=1)
#     numbers = {f"00{n:06}": f"{n}.9" for n in range(70_000)}
#     visits = [visit(dialled, uniqueid=one, did=did, agent=did, outcome="abandoned") for did, one in numbers.items()]
#     store(engine, *visits, *(ring(dialled, agent=did) for did in numbers))
#     answers = []
#     for packed_first in (False, True):
#         if packed_first:
#             assert pack_history(engine, 1) > 0
#             assert pack_history(engine, 1) == 0
#         with reading(engine) as session:
#             found = load_columns(session, "visits", 1, NOON, NOON + timedelta(hours=2))
#             rings = agent_figures(session, FigureFilter(1, NOON, NOON + timedelta(hours=2)))
#             named = [found.names["did"][code] for code in found.columns["did"].tolist()]
#             answers.append((sorted(named), len(rings)))
#     assert answers[0] == answers[1]
#     assert set(numbers) <= set(answers[0][0])
#     assert answers[0][1] == 70_001  # and Anna
# 
# 
# @pytest.mark.parametrize("value", [-1, 255, 65_536, 2**31, 2**40, 2**62])
# def test_a_number_of_any_size_is_packed_unchanged(engine: Engine, value: int) -> None:
#     with writing(engine) as session:
#         session.connection().execute(update(LegRow).values(cause=value))
#         assert pack_days(session, 1) > 0
#     with reading(engine) as session:
#         found = load_columns(session, "seizures", 1, NOON, NOON + timedelta(days=1))
#         assert found.columns["cause"].tolist() == [value]
#         assert load_columns(session, "calls", 1, NOON, NOON + timedelta(days=1)).columns["id"].tolist() == [1]
# 
# 
# @sqlite_only
# def test_a_day_that_cannot_be_packed_is_read_from_its_rows(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
#     """SQLite refuses values above its limit; PostgreSQL takes a gigabyte. The other days and kinds are packed."""
#     store(engine, *(ring(NOON, agent=f"{n:0200}") for n in range(200)))
#     engine.dispose()  # new connections get the limit
# 
#     @event.listens_for(engine, "connect")
#     def limit(connection: Any, _: object) -> None:
#         connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)
# 
#     with writing(engine) as session:
#         session.connection().execute(delete(DayPack))
#     assert pack_history(engine, 1) > 0
#     assert ("rings", 0) not in packed(engine)
#     assert {("rings", 1), ("visits", 0), ("agent_events", 0), ("calls", 0)} <= packed(engine)
#     assert "The rings of day" in caplog.text
#     with reading(engine) as session:
#         found = load_columns(session, "rings", 1, NOON, NOON + timedelta(days=1))
#         assert len(set(found.columns["agent"].tolist())) == 201
# 
# 
# def test_an_unrecognized_outcome_is_unknown(engine: Engine) -> None:
#     store(engine, visit(NOON + timedelta(hours=1), outcome="answered-by-a-newer-version"))
#     with reading(engine) as session:
#         found = load_columns(session, "visits", 1, NOON + timedelta(minutes=1), NOON + timedelta(days=1))
#         assert found.columns["outcome"].tolist() == [OUTCOMES.index("unknown")]
