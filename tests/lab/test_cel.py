"""Imports of the CDR and CEL that Asterisk 16 and 22 write, from a real MariaDB with FreePBX's tables."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.imports.cdr import import_cdr_database
from pbx.imports.cel import CelResult, import_cel
from pbx.imports.job import import_database
from pbx.imports.preview import preview_history
from pbx.imports.run import ImportRun
from pbx.store.engine import reading
from pbx.store.models import CallRow, LegRow
from pbx.store.pbx_connections import ActiveConnection
from tests.lab.active_connection import add_active_connection
from tests.lab.calls import new_caller, originate
from tests.lab.cel_asterisk import CEL_TABLE, CelAsterisk, cel_asterisk
from tests.lab.mariadb import MariaDb, mariadb
from tests.lab.process import wait_until
from tests.lab.queue_asterisk import OPEN
from tests.lab.servers import SERVERS

__all__ = ["mariadb"]
pytestmark = pytest.mark.lab


@dataclass(frozen=True)
class Written:
    """The CEL and CDR rows that one Asterisk wrote, and the uniqueids of its calls by kind."""

    cel: list[dict[str, str]]
    cdr: list[dict[str, str]]
    uniqueids: dict[str, str]


def place(asterisk: CelAsterisk, to: str, **variables: float | str) -> str:
    return originate(asterisk, "Local/s@caller/n", f"{to}@calls", new_caller(), variables)["Uniqueid"]


@pytest.fixture(scope="module", params=[16, 22])
def written(request: pytest.FixtureRequest) -> Written:
    with cel_asterisk(request.param) as asterisk:
        uniqueids = {
            "talk": place(asterisk, "talk", TALK_S=2),
            "busy": place(asterisk, "busy", PATIENCE_S=3),
            "noanswer": place(asterisk, "noanswer", PATIENCE_S=5),
            "late": place(asterisk, "late"),
        }
        queue, blind, attended = asterisk.call(OPEN, TALK_S=2), asterisk.call(OPEN), asterisk.call(OPEN)
        uniqueids |= {"queue": queue.uniqueid, "blind": blind.uniqueid, "attended": attended.uniqueid}
        for caller in (blind, attended):
            caller.wait_for("CONNECT")
        time.sleep(1.1)
        to = {"Exten": "100", "Context": "elsewhere"}
        agent = attended.agent_channel()
        asterisk.act("Atxfer", Channel=agent, **to)
        wait_until("the transfer target has answered", lambda: "100@elsewhere" in asterisk.cli("core show channels"))
        time.sleep(0.5)
        asterisk.act("Hangup", Channel=agent)
        asterisk.act("BlindTransfer", Channel=blind.agent_channel(), **to)

        def all_ended() -> bool:
            ended = {row["linkedid"] for row in asterisk.cel() if row["eventtype"] == "LINKEDID_END"}
            return set(uniqueids.values()) <= ended

        wait_until("all calls have ended", all_ended, 40)
        time.sleep(0.5)
        return Written(asterisk.cel(), asterisk.cdr(), uniqueids)


def fill(mariadb: MariaDb, written: Written) -> None:
    mariadb.fresh_cdr()
    mariadb.insert("cdr", [{name: row[name] for name in row if name not in ("answer", "end")} for row in written.cdr])
    mariadb.execute("DROP TABLE IF EXISTS cel", CEL_TABLE)
    mariadb.insert("cel", [dict(row) for row in written.cel])


@pytest.fixture
def active(engine: Engine) -> ActiveConnection:
    return add_active_connection(engine, SERVERS[22])


def legs(engine: Engine, written: Written) -> dict[str, list[LegRow]]:
    """The legs with a dialled channel, by the kind of their call."""
    kinds = {uniqueid: kind for kind, uniqueid in written.uniqueids.items()}
    by_kind: dict[str, list[LegRow]] = {kind: [] for kind in written.uniqueids}
    with reading(engine) as session:
        for leg in session.exec(select(LegRow)):
            if leg.dst_channel and leg.uniqueid == leg.linkedid:
                by_kind[kinds[leg.linkedid]].append(leg)
    return by_kind


def import_both(engine: Engine, active: ActiveConnection, mariadb: MariaDb) -> CelResult:
    import_cdr_database(ImportRun(engine, active), mariadb.address)
    return import_cel(ImportRun(engine, active), mariadb.address)


def test_cel_adds_causes_bridges_and_transfers_to_the_cdrs_legs(
    written: Written, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    fill(mariadb, written)
    result = import_both(engine, active, mariadb)
    assert (result.unreadable, result.errors) == (0, [])
    reported = legs(engine, written)
    causes = {kind: reported[kind][0].cause for kind in ("talk", "busy", "noanswer", "late")}
    assert causes == {"talk": 16, "busy": 17, "noanswer": None, "late": 16}
    assert sorted(leg.cause or 0 for leg in reported["queue"]) == [16, 26]  # the other agent's phone rang too
    assert [leg.bridged_at for kind in ("busy", "noanswer") for leg in reported[kind]] == [None, None]
    for kind, ring_s in (("talk", 0), ("late", 3)):
        (leg,) = reported[kind]
        assert leg.bridged_at is not None
        assert abs((leg.bridged_at - leg.started_at).total_seconds() - ring_s) <= 1
        assert abs(leg.bridged_at.timestamp() - float(leg.uniqueid) - ring_s) <= 2  # in whichever time zone the PBX is
    targets = {kind: {leg.transferred_to for leg in reported[kind] if leg.bridged_at} for kind in ("blind", "attended")}
    assert targets["blind"] == {"100"}
    assert "100" in targets["attended"]
    assert {leg.transferred_to for kind in ("talk", "busy", "late", "queue") for leg in reported[kind]} == {""}


def test_cel_corrects_the_wait_of_a_call_that_the_pbx_answers_first(
    written: Written, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    fill(mariadb, written)
    waits = []
    for with_cel in (False, True):
        if with_cel:
            import_cel(ImportRun(engine, active), mariadb.address)
        else:
            import_cdr_database(ImportRun(engine, active), mariadb.address)
        with reading(engine) as session:
            call = session.exec(select(CallRow).where(CallRow.linkedid == written.uniqueids["late"])).one()
        waits.append((call.wait_s, call.talk_s))
    before, after = waits
    assert before[0] == 0  # in the CDR, the wait ends when the caller's channel is up
    assert after[0] == pytest.approx(3, abs=1)
    assert after[1] == pytest.approx(2, abs=1)


def test_a_second_import_changes_nothing(
    written: Written, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    fill(mariadb, written)
    first = import_both(engine, active, mariadb)
    assert first.rows == sum(
        row["eventtype"] in ("HANGUP", "BRIDGE_ENTER", "BLINDTRANSFER", "ATTENDEDTRANSFER") for row in written.cel
    )
    before = {leg.id: leg.model_dump() for call_legs in legs(engine, written).values() for leg in call_legs}
    again = import_both(engine, active, mariadb)  # reads the last day's CDR and CEL again
    assert (again.rows, again.detailed_legs, again.unreadable) == (0, 0, 0)
    assert {leg.id: leg.model_dump() for call_legs in legs(engine, written).values() for leg in call_legs} == before


def test_a_cel_table_without_ids_and_indexes_is_imported(
    written: Written, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    fill(mariadb, written)
    assert import_both(engine, active, mariadb).detailed_legs > 0
    with_ids = {leg.id: leg.model_dump() for call_legs in legs(engine, written).values() for leg in call_legs}
    mariadb.execute("ALTER TABLE cel DROP COLUMN id", "ALTER TABLE cel DROP KEY linkedid_index")
    mariadb.execute(
        "ALTER TABLE cel DROP KEY uniqueid_index", "UPDATE cel SET eventtime = eventtime - INTERVAL 1 SECOND"
    )
    assert import_cel(ImportRun(engine, active), mariadb.address).detailed_legs >= 0
    without = {leg.id: leg.model_dump() for call_legs in legs(engine, written).values() for leg in call_legs}
    assert with_ids.keys() == without.keys()
    moved = {
        (after["bridged_at"] or before["bridged_at"]) - before["bridged_at"]
        for (before, after) in zip(with_ids.values(), without.values(), strict=True)
        if before["bridged_at"]
    }
    assert moved <= {timedelta(), timedelta(seconds=-1)}  # the earlier of two times is kept
    assert any(moved)
    assert max(leg["started_at"] for leg in without.values()) < datetime.now(UTC) + timedelta(minutes=1)


def test_all_tables_of_a_database_are_imported_as_the_preview_announced(
    written: Written, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    """The page's button imports every history table. The preview shows how many rows each one has."""
    fill(mariadb, written)
    mariadb.execute(
        "DROP TABLE IF EXISTS queue_log",
        "DROP TABLE IF EXISTS queuelog",
        "CREATE TABLE queuelog (time int, callid varchar(40), queuename varchar(40), agent varchar(40), "
        "event varchar(40), data varchar(100))",
    )
    at = int(float(written.uniqueids["queue"]))
    row = f"{at}, '{written.uniqueids['queue']}', 'open', 'NONE', 'ENTERQUEUE', '|1|1'"
    mariadb.execute(f"INSERT INTO queuelog VALUES ({row})")
    previews = preview_history(engine, active, mariadb.address)
    announced = {table: preview.new for table, preview in previews.items()}
    sources = import_database(ImportRun(engine, active), mariadb.address)
    assert {source.kind: source.rows for source in sources} == {
        "cdr": announced["cdr"],
        "cel": announced["cel"],
        "queue_log": announced["queuelog"],
    }
    assert all(announced.values())
    assert {preview.new for preview in preview_history(engine, active, mariadb.address).values()} == {0}
    assert [source.rows for source in import_database(ImportRun(engine, active), mariadb.address)] == [0, 0, 0]
    mariadb.execute("DROP TABLE queuelog")
