"""CEL beside the CDR as Asterisk 16 and 22 write both, on a real MariaDB with FreePBX's tables."""

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
class Lived:
    """What one Asterisk wrote, and the uniqueids of its calls by kind."""

    cel: list[dict[str, str]]
    cdr: list[dict[str, str]]
    uniqueids: dict[str, str]


def place(asterisk: CelAsterisk, to: str, **variables: float | str) -> str:
    return originate(asterisk, "Local/s@caller/n", f"{to}@calls", new_caller(), variables)["Uniqueid"]


@pytest.fixture(scope="module", params=[16, 22])
def lived(request: pytest.FixtureRequest) -> Lived:
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
        wait_until("who it is transferred to is there", lambda: "100@elsewhere" in asterisk.cli("core show channels"))
        time.sleep(0.5)
        asterisk.act("Hangup", Channel=agent)
        asterisk.act("BlindTransfer", Channel=blind.agent_channel(), **to)

        def ended() -> bool:
            over = {row["linkedid"] for row in asterisk.cel() if row["eventtype"] == "LINKEDID_END"}
            return set(uniqueids.values()) <= over

        wait_until("all calls are over", ended, 40)
        time.sleep(0.5)
        return Lived(asterisk.cel(), asterisk.cdr(), uniqueids)


def fill(mariadb: MariaDb, lived: Lived) -> None:
    mariadb.fresh_cdr()
    mariadb.insert("cdr", [{name: row[name] for name in row if name not in ("answer", "end")} for row in lived.cdr])
    mariadb.execute("DROP TABLE IF EXISTS cel", CEL_TABLE)
    mariadb.insert("cel", [dict(row) for row in lived.cel])


@pytest.fixture
def active(engine: Engine) -> ActiveConnection:
    return add_active_connection(engine, SERVERS[22])


def legs(engine: Engine, lived: Lived) -> dict[str, list[LegRow]]:
    """The legs that dialled somebody, by the kind of their call."""
    kinds = {uniqueid: kind for kind, uniqueid in lived.uniqueids.items()}
    found: dict[str, list[LegRow]] = {kind: [] for kind in lived.uniqueids}
    with reading(engine) as session:
        for leg in session.exec(select(LegRow)):
            if leg.dst_channel and leg.uniqueid == leg.linkedid:
                found[kinds[leg.linkedid]].append(leg)
    return found


def read(engine: Engine, active: ActiveConnection, mariadb: MariaDb) -> CelResult:
    import_cdr_database(ImportRun(engine, active), mariadb.address)
    return import_cel(ImportRun(engine, active), mariadb.address)


def test_what_cel_adds_to_the_cdr(lived: Lived, engine: Engine, active: ActiveConnection, mariadb: MariaDb) -> None:
    fill(mariadb, lived)
    result = read(engine, active, mariadb)
    assert (result.unreadable, result.errors) == (0, [])
    reported = legs(engine, lived)
    causes = {kind: reported[kind][0].cause for kind in ("talk", "busy", "noanswer", "late")}
    assert causes == {"talk": 16, "busy": 17, "noanswer": None, "late": 16}
    assert sorted(leg.cause or 0 for leg in reported["queue"]) == [16, 26]  # the other agent rang, and was let go
    assert [leg.bridged_at for kind in ("busy", "noanswer") for leg in reported[kind]] == [None, None]
    for kind, ring_s in (("talk", 0), ("late", 3)):
        (leg,) = reported[kind]
        assert leg.bridged_at is not None
        assert abs((leg.bridged_at - leg.started_at).total_seconds() - ring_s) <= 1
        assert abs(leg.bridged_at.timestamp() - float(leg.uniqueid) - ring_s) <= 2  # whatever the PBX's zone
    passed_on = {
        kind: {leg.transferred_to for leg in reported[kind] if leg.bridged_at} for kind in ("blind", "attended")
    }
    assert passed_on["blind"] == {"100"}
    assert "100" in passed_on["attended"]
    assert {leg.transferred_to for kind in ("talk", "busy", "late", "queue") for leg in reported[kind]} == {""}


def test_a_call_answered_before_anybody_did_gets_its_true_wait(
    lived: Lived, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    fill(mariadb, lived)
    waits = []
    for with_cel in (False, True):
        if with_cel:
            import_cel(ImportRun(engine, active), mariadb.address)
        else:
            import_cdr_database(ImportRun(engine, active), mariadb.address)
        with reading(engine) as session:
            call = session.exec(select(CallRow).where(CallRow.linkedid == lived.uniqueids["late"])).one()
        waits.append((call.wait_s, call.talk_s))
    before, after = waits
    assert before[0] == 0  # the CDR's: from when the caller's own channel was up
    assert after[0] == pytest.approx(3, abs=1)
    assert after[1] == pytest.approx(2, abs=1)


def test_again_and_again_it_is_the_same(
    lived: Lived, engine: Engine, active: ActiveConnection, mariadb: MariaDb
) -> None:
    fill(mariadb, lived)
    first = read(engine, active, mariadb)
    assert first.rows == sum(
        row["eventtype"] in ("HANGUP", "BRIDGE_ENTER", "BLINDTRANSFER", "ATTENDEDTRANSFER") for row in lived.cel
    )
    before = {leg.id: leg.model_dump() for found in legs(engine, lived).values() for leg in found}
    again = read(engine, active, mariadb)  # the last day's CDR and CEL are read once more
    assert (again.rows, again.detailed_legs, again.unreadable) == (0, 0, 0)
    assert {leg.id: leg.model_dump() for found in legs(engine, lived).values() for leg in found} == before


def test_without_ids_and_indexes(lived: Lived, engine: Engine, active: ActiveConnection, mariadb: MariaDb) -> None:
    fill(mariadb, lived)
    assert read(engine, active, mariadb).detailed_legs > 0
    with_ids = {leg.id: leg.model_dump() for found in legs(engine, lived).values() for leg in found}
    mariadb.execute("ALTER TABLE cel DROP COLUMN id", "ALTER TABLE cel DROP KEY linkedid_index")
    mariadb.execute(
        "ALTER TABLE cel DROP KEY uniqueid_index", "UPDATE cel SET eventtime = eventtime - INTERVAL 1 SECOND"
    )
    assert import_cel(ImportRun(engine, active), mariadb.address).detailed_legs >= 0
    without = {leg.id: leg.model_dump() for found in legs(engine, lived).values() for leg in found}
    assert with_ids.keys() == without.keys()
    moved = {
        (after["bridged_at"] or before["bridged_at"]) - before["bridged_at"]
        for (before, after) in zip(with_ids.values(), without.values(), strict=True)
        if before["bridged_at"]
    }
    assert moved <= {timedelta(), timedelta(seconds=-1)}  # of two times the earlier counts
    assert any(moved)
    assert max(leg["started_at"] for leg in without.values()) < datetime.now(UTC) + timedelta(minutes=1)


def test_the_database_as_a_whole(lived: Lived, engine: Engine, active: ActiveConnection, mariadb: MariaDb) -> None:
    """What the page's button does: every table of history that is there, and how many rows a test of it promises."""
    fill(mariadb, lived)
    mariadb.execute(
        "DROP TABLE IF EXISTS queue_log",
        "DROP TABLE IF EXISTS queuelog",
        "CREATE TABLE queuelog (time int, callid varchar(40), queuename varchar(40), agent varchar(40), "
        "event varchar(40), data varchar(100))",
    )
    at = int(float(lived.uniqueids["queue"]))
    row = f"{at}, '{lived.uniqueids['queue']}', 'open', 'NONE', 'ENTERQUEUE', '|1|1'"
    mariadb.execute(f"INSERT INTO queuelog VALUES ({row})")
    looks = preview_history(engine, active, mariadb.address)
    promised = {table: look.new for table, look in looks.items()}
    sources = import_database(ImportRun(engine, active), mariadb.address)
    assert {source.kind: source.rows for source in sources} == {
        "cdr": promised["cdr"],
        "cel": promised["cel"],
        "queue_log": promised["queuelog"],
    }
    assert all(promised.values())
    assert {look.new for look in preview_history(engine, active, mariadb.address).values()} == {0}
    assert [source.rows for source in import_database(ImportRun(engine, active), mariadb.address)] == [0, 0, 0]
    mariadb.execute("DROP TABLE queuelog")
