"""Imports of the queue_log of real Asterisk, from files and tables: all outcomes, transfers, reloads, a restart."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.imports.queue_log_database import import_queue_log_database
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.queue_log_writer import QueueLogResult
from pbx.store.engine import reading, writing
from pbx.store.models import AgentEventRow, PbxConnection, RingRow, VisitRow
from tests.lab.calls import place_queue_call
from tests.lab.mariadb import MariaDb, mariadb
from tests.lab.process import wait_until
from tests.lab.queue_asterisk import CLOSED, LEAVE_WHEN_EMPTY, OPEN, UNANSWERED, Caller, QueueAsterisk, queue_asterisk
from tests.lab.servers import LabServer
from tests.unit.imports.import_runs import import_run

__all__ = ["mariadb"]
pytestmark = pytest.mark.lab
EVE, FELIX = "Local/2001@agents/n", "Felix | Brandt"
TABLE = """CREATE TABLE {name} (
  id int unsigned NOT NULL AUTO_INCREMENT, time {time}, callid varchar(32), queuename varchar(32), agent varchar(64),
  event varchar(32), {data}, PRIMARY KEY (id)) ENGINE={engine} DEFAULT CHARSET=utf8mb4"""
SPLIT = ", ".join(f"data{n} varchar(100)" for n in range(1, 6))


@dataclass(frozen=True)
class RecordedCalls:
    """The queue_log of one Asterisk, and its callers by name."""

    log: Path
    callers: dict[str, Caller]


@pytest.fixture(scope="module", params=[16, 22])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RecordedCalls:
    """Let callers leave a queue in every way, with reloads and a crash while some of them wait."""
    copy = tmp_path_factory.mktemp(f"asterisk-{request.param}") / "queue_log"
    with queue_asterisk(request.param) as asterisk:
        callers = send_callers(asterisk)
        transfer(asterisk, callers)
        pauses(asterisk)
        asterisk.cli("queue reload all")
        asterisk.cli("logger reload")
        for name in ("waits", "abandons", "times_out"):
            callers[name].wait_for("ABANDON", "EXITWITHTIMEOUT")
        callers["lost"] = asterisk.call(UNANSWERED)
        callers["lost"].wait_for("ENTERQUEUE")
        asterisk.crash()  # queue_log has no end of this call
        asterisk.start()
        asterisk.call(UNANSWERED, PATIENCE_S=1).wait_for("ABANDON")
        copy.write_text(asterisk.log_text())
    return RecordedCalls(copy, callers)


def send_callers(asterisk: QueueAsterisk) -> dict[str, Caller]:
    return {
        "agent_ends": asterisk.call(OPEN, TALK_S=2),
        "caller_ends": asterisk.call(OPEN, PATIENCE_S=3),
        "blind": asterisk.call(OPEN),
        "attended": asterisk.call(OPEN),
        "waits": asterisk.call(UNANSWERED, PATIENCE_S=8),
        "abandons": asterisk.call(UNANSWERED, PATIENCE_S=4),
        "times_out": asterisk.call(UNANSWERED, TIMEOUT_S=4),
        "presses": asterisk.call(UNANSWERED, KEY="5"),
        "closed": asterisk.call(CLOSED),
        "leaves": asterisk.call(LEAVE_WHEN_EMPTY),
    }


def transfer(asterisk: QueueAsterisk, callers: dict[str, Caller]) -> None:
    to = {"Exten": "100", "Context": "elsewhere"}
    for name in ("blind", "attended"):
        callers[name].wait_for("CONNECT")
    time.sleep(1.1)  # so that there is talk time to count
    agent = callers["attended"].agent_channel()
    asterisk.act("Atxfer", Channel=agent, **to)
    wait_until("the transfer target has answered", lambda: "100@elsewhere" in asterisk.cli("core show channels"))
    time.sleep(0.5)  # the agent talks to the target
    asterisk.act("Hangup", Channel=agent)
    asterisk.act("BlindTransfer", Channel=callers["blind"].agent_channel(), **to)
    for name in ("blind", "attended"):
        callers[name].wait_for("BLINDTRANSFER", "ATTENDEDTRANSFER")


def pauses(asterisk: QueueAsterisk) -> None:
    asterisk.act("QueuePause", Interface=EVE, Queue=OPEN, Paused="true", Reason="Lunch | late")
    asterisk.act("QueuePause", Interface=EVE, Paused="false")  # in all queues of the agent
    asterisk.act("QueueAdd", Interface="Local/2003@agents/n", Queue=OPEN, MemberName="Gus", Paused="true")
    asterisk.act("QueueRemove", Interface="Local/2003@agents/n", Queue=OPEN)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))
    return engine


def visits(engine: Engine) -> dict[str, VisitRow]:
    with reading(engine) as session:
        return {visit.uniqueid: visit for visit in session.exec(select(VisitRow))}


def check(engine: Engine, recorded: RecordedCalls) -> None:
    """Check that the stored visits, rings and agent events match the calls."""
    by_uniqueid = visits(engine)
    stored = {name: by_uniqueid.pop(caller.uniqueid, None) for name, caller in recorded.callers.items()}
    assert stored.pop("closed") is None  # joinempty keeps callers out of the queue
    outcomes = {name: visit.outcome for name, visit in stored.items() if visit is not None}
    assert outcomes == {
        "agent_ends": "answered",
        "caller_ends": "answered",
        "blind": "transferred",
        "attended": "transferred",
        "waits": "abandoned",
        "abandons": "abandoned",
        "times_out": "timeout",
        "presses": "exit_key",
        "leaves": "exit_empty",
        "lost": "unknown",
    }
    for name, visit in stored.items():
        assert visit is not None
        assert (visit.caller, visit.did) == (recorded.callers[name].number, "5550100")
        assert visit.original_position is not None
        assert abs(visit.joined_at.timestamp() - float(visit.uniqueid)) < 3
    (after_restart,) = by_uniqueid.values()
    assert after_restart.outcome == "abandoned"
    check_figures({name: visit for name, visit in stored.items() if visit is not None})
    check_agents(engine, recorded)


def check_figures(visits: dict[str, VisitRow]) -> None:
    for name, talk_s in (("agent_ends", 2), ("caller_ends", 3)):
        visit = visits[name]
        assert visit.agent in ("Eve Adams", FELIX)
        assert visit.talk_s is not None
        assert abs(visit.talk_s - talk_s) <= 1
        assert visit.wait_s is not None
        assert visit.wait_s <= 1
    assert (visits["agent_ends"].ended_by, visits["caller_ends"].ended_by) == ("agent", "caller")
    assert (visits["blind"].target, visits["blind"].ended_by) == ("100@elsewhere", "transfer")
    assert all(visits[name].talk_s for name in ("blind", "attended"))
    for name, wait_s in (("waits", 8), ("abandons", 4), ("times_out", 4), ("presses", 2), ("leaves", 0)):
        visit = visits[name]
        assert visit.wait_s is not None
        assert abs(visit.wait_s - wait_s) <= 1
        assert (visit.talk_s, visit.agent) == (None, "")
    assert visits["presses"].target == "5"
    assert visits["lost"].ended_at is None


def check_agents(engine: Engine, recorded: RecordedCalls) -> None:
    with reading(engine) as session:
        rings = session.exec(select(RingRow)).all()
        changes = session.exec(select(AgentEventRow).order_by(col(AgentEventRow.id))).all()
    written = recorded.log.read_text().count("|RINGNOANSWER|")
    assert 0 < len(rings) == written
    assert {(ring.agent, ring.queue) for ring in rings} == {("Hugo Lang", UNANSWERED)}
    assert max(ring.ring_s for ring in rings) >= 2
    assert [(change.agent, change.queue, change.kind, change.reason) for change in changes] == [
        ("Eve Adams", OPEN, "pause", "Lunch | late"),
        ("Eve Adams", OPEN, "unpause", ""),
        ("Local/2003@agents/n", OPEN, "login", ""),
        ("Local/2003@agents/n", OPEN, "pause", ""),
        ("Local/2003@agents/n", OPEN, "logout", ""),
    ]


def test_a_file_is_imported(engine: Engine, recorded: RecordedCalls) -> None:
    (source,) = import_queue_log_files(import_run(engine), [recorded.log])
    assert (source.unreadable, source.unknown, source.failure) == (0, {}, "")
    check(engine, recorded)


def test_a_growing_file_gives_the_same_result(engine: Engine, recorded: RecordedCalls, tmp_path: Path) -> None:
    text, growing = recorded.log.read_bytes(), tmp_path / "queue_log"
    for at in range(0, len(text) + 300, 300):  # also in the middle of lines
        growing.write_bytes(text[:at])
        import_queue_log_files(import_run(engine), [growing])
    check(engine, recorded)


@pytest.mark.parametrize(
    ("table", "time", "data", "kind"),
    [
        ("queue_log", "char(26)", SPLIT, "InnoDB"),
        ("queuelog", "datetime", "data varchar(255)", "MyISAM"),
        ("queuelog", "int", SPLIT, "InnoDB"),
    ],
)
def test_a_table_on_mariadb_gives_the_same_result(
    engine: Engine, recorded: RecordedCalls, mariadb: MariaDb, table: str, time: str, data: str, kind: str
) -> None:
    mariadb.execute(
        "DROP TABLE IF EXISTS queue_log", "DROP TABLE IF EXISTS queuelog",
        TABLE.format(name=table, time=time, data=data, engine=kind),
    )  # fmt: skip
    rows = [row_of(line, time, split=data == SPLIT) for line in recorded.log.read_text().splitlines()]
    mariadb.insert(table, rows[:20])
    assert import_table(engine, mariadb).rows == 20
    mariadb.insert(table, rows[20:])
    import_table(engine, mariadb)
    check(engine, recorded)
    again = import_table(engine, mariadb)
    assert (again.rows, again.visits, again.rings, again.agent_events) == (0, 0, 0, 0)


def import_table(engine: Engine, database: MariaDb) -> QueueLogResult:
    source = import_queue_log_database(import_run(engine, timezone="Asia/Kolkata"), database.address)
    assert (source.unreadable, source.failure) == (0, "")
    return source


def row_of(line: str, time: str, *, split: bool) -> dict[str, object]:
    """A line of the file as a table row. Asterisk's realtime engine knows the fields, even with a | in a name."""
    at, callid, queue, rest = line.replace(FELIX, "FELIX").split("|", 3)
    agent, event, *fields = rest.split("|")
    if event in ("PAUSE", "UNPAUSE"):
        fields = ["|".join(fields)]
    row: dict[str, object] = {"time": time_of(int(at)) if time == "datetime" else at}
    row |= {"callid": callid, "queuename": queue}
    row |= {"agent": agent.replace("FELIX", FELIX), "event": event}
    padded = (fields + [""] * 5)[:5]
    return row | ({f"data{n}": field for n, field in enumerate(padded, 1)} if split else {"data": "|".join(fields)})


def time_of(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s + 19_800))  # in Kolkata


def test_calls_on_the_labs_servers_have_their_outcomes_and_durations(engine: Engine, server: LabServer) -> None:
    calls = {outcome: place_queue_call(server, outcome, 3) for outcome in ("answered", "abandoned", "timeout")}
    (source,) = import_queue_log_files(import_run(engine), [server.logs / "queue_log"])
    assert (source.unreadable, source.unknown) == (0, {})
    stored = visits(engine)
    for outcome, call in calls.items():
        visit = stored[call.uniqueid]
        assert (visit.outcome, visit.queue) == (outcome, call.queue)
        lasted_s = visit.talk_s if outcome == "answered" else visit.wait_s
        assert lasted_s is not None
        assert abs(lasted_s - 3) <= 1
