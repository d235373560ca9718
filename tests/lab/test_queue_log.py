"""queue_log as real Asterisk writes it: each way out of a queue, transfers, reloads and a restart, file and table."""

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
from tests.lab.queue_asterisk import CLOSED, DEAF, LEAVING, OPEN, Caller, QueueAsterisk, queue_asterisk
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
class Evening:
    """What a asterisk wrote, and the callers of whom."""

    log: Path
    callers: dict[str, Caller]


@pytest.fixture(scope="module", params=[16, 22])
def evening(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evening:
    """A caller each way out of a queue; reloads while some wait; a restart while one still does."""
    copy = tmp_path_factory.mktemp(f"asterisk-{request.param}") / "queue_log"
    with queue_asterisk(request.param) as asterisk:
        callers = send_callers(asterisk)
        transfer(asterisk, callers)
        pauses(asterisk)
        asterisk.cli("queue reload all")
        asterisk.cli("logger reload")
        for name in ("waits", "abandons", "times_out"):
            callers[name].wait_for("ABANDON", "EXITWITHTIMEOUT")
        callers["lost"] = asterisk.call(DEAF)
        callers["lost"].wait_for("ENTERQUEUE")
        asterisk.crash()  # nobody writes how it ended
        asterisk.start()
        asterisk.call(DEAF, PATIENCE_S=1).wait_for("ABANDON")
        copy.write_text(asterisk.log_text())
    return Evening(copy, callers)


def send_callers(asterisk: QueueAsterisk) -> dict[str, Caller]:
    return {
        "agent_ends": asterisk.call(OPEN, TALK_S=2),
        "caller_ends": asterisk.call(OPEN, PATIENCE_S=3),
        "blind": asterisk.call(OPEN),
        "attended": asterisk.call(OPEN),
        "waits": asterisk.call(DEAF, PATIENCE_S=8),
        "abandons": asterisk.call(DEAF, PATIENCE_S=4),
        "times_out": asterisk.call(DEAF, TIMEOUT_S=4),
        "presses": asterisk.call(DEAF, KEY="5"),
        "closed": asterisk.call(CLOSED),
        "leaves": asterisk.call(LEAVING),
    }


def transfer(asterisk: QueueAsterisk, callers: dict[str, Caller]) -> None:
    to = {"Exten": "100", "Context": "elsewhere"}
    for name in ("blind", "attended"):
        callers[name].wait_for("CONNECT")
    time.sleep(1.1)  # so that there is talk to count
    agent = callers["attended"].agent_channel()
    asterisk.act("Atxfer", Channel=agent, **to)
    wait_until("who it is transferred to is there", lambda: "100@elsewhere" in asterisk.cli("core show channels"))
    time.sleep(0.5)  # the agent says who is calling
    asterisk.act("Hangup", Channel=agent)
    asterisk.act("BlindTransfer", Channel=callers["blind"].agent_channel(), **to)
    for name in ("blind", "attended"):
        callers[name].wait_for("BLINDTRANSFER", "ATTENDEDTRANSFER")


def pauses(asterisk: QueueAsterisk) -> None:
    asterisk.act("QueuePause", Interface=EVE, Queue=OPEN, Paused="true", Reason="Lunch | late")
    asterisk.act("QueuePause", Interface=EVE, Paused="false")  # in all her queues
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


def check(engine: Engine, evening: Evening) -> None:
    """The visits, rings and changes stored are those of the evening."""
    found = visits(engine)
    reported = {name: found.pop(caller.uniqueid, None) for name, caller in evening.callers.items()}
    assert reported.pop("closed") is None  # joinempty: never in the queue
    outcomes = {name: visit.outcome for name, visit in reported.items() if visit is not None}
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
    for name, visit in reported.items():
        assert visit is not None
        assert (visit.caller, visit.did) == (evening.callers[name].number, "5550100")
        assert visit.original_position is not None
        assert abs(visit.joined_at.timestamp() - float(visit.uniqueid)) < 3
    (after_restart,) = found.values()
    assert after_restart.outcome == "abandoned"
    check_figures({name: visit for name, visit in reported.items() if visit is not None})
    check_agents(engine, evening)


def check_figures(reported: dict[str, VisitRow]) -> None:
    for name, talk_s in (("agent_ends", 2), ("caller_ends", 3)):
        visit = reported[name]
        assert visit.agent in ("Eve Adams", FELIX)
        assert visit.talk_s is not None
        assert abs(visit.talk_s - talk_s) <= 1
        assert visit.wait_s is not None
        assert visit.wait_s <= 1
    assert (reported["agent_ends"].ended_by, reported["caller_ends"].ended_by) == ("agent", "caller")
    assert (reported["blind"].target, reported["blind"].ended_by) == ("100@elsewhere", "transfer")
    assert all(reported[name].talk_s for name in ("blind", "attended"))
    for name, wait_s in (("waits", 8), ("abandons", 4), ("times_out", 4), ("presses", 2), ("leaves", 0)):
        visit = reported[name]
        assert visit.wait_s is not None
        assert abs(visit.wait_s - wait_s) <= 1
        assert (visit.talk_s, visit.agent) == (None, "")
    assert reported["presses"].target == "5"
    assert reported["lost"].ended_at is None


def check_agents(engine: Engine, evening: Evening) -> None:
    with reading(engine) as session:
        rings = session.exec(select(RingRow)).all()
        changes = session.exec(select(AgentEventRow).order_by(col(AgentEventRow.id))).all()
    written = evening.log.read_text().count("|RINGNOANSWER|")
    assert 0 < len(rings) == written
    assert {(ring.agent, ring.queue) for ring in rings} == {("Hugo Lang", DEAF)}
    assert max(ring.ring_s for ring in rings) >= 2
    assert [(change.agent, change.queue, change.kind, change.reason) for change in changes] == [
        ("Eve Adams", OPEN, "pause", "Lunch | late"),
        ("Eve Adams", OPEN, "unpause", ""),
        ("Local/2003@agents/n", OPEN, "login", ""),
        ("Local/2003@agents/n", OPEN, "pause", ""),
        ("Local/2003@agents/n", OPEN, "logout", ""),
    ]


def test_a_file_tells_what_happened(engine: Engine, evening: Evening) -> None:
    (source,) = import_queue_log_files(import_run(engine), [evening.log])
    assert (source.unreadable, source.unknown, source.failure) == (0, {}, "")
    check(engine, evening)


def test_a_file_that_grows_tells_the_same(engine: Engine, evening: Evening, tmp_path: Path) -> None:
    text, growing = evening.log.read_bytes(), tmp_path / "queue_log"
    for at in range(0, len(text) + 300, 300):  # in the middle of lines, too
        growing.write_bytes(text[:at])
        import_queue_log_files(import_run(engine), [growing])
    check(engine, evening)


@pytest.mark.parametrize(
    ("table", "time", "data", "kind"),
    [
        ("queue_log", "char(26)", SPLIT, "InnoDB"),
        ("queuelog", "datetime", "data varchar(255)", "MyISAM"),
        ("queuelog", "int", SPLIT, "InnoDB"),
    ],
)
def test_a_table_on_mariadb_tells_the_same(
    engine: Engine, evening: Evening, mariadb: MariaDb, table: str, time: str, data: str, kind: str
) -> None:
    mariadb.execute(
        "DROP TABLE IF EXISTS queue_log", "DROP TABLE IF EXISTS queuelog",
        TABLE.format(name=table, time=time, data=data, engine=kind),
    )  # fmt: skip
    rows = [row_of(line, time, split=data == SPLIT) for line in evening.log.read_text().splitlines()]
    mariadb.insert(table, rows[:20])
    assert read_table(engine, mariadb).rows == 20
    mariadb.insert(table, rows[20:])
    read_table(engine, mariadb)
    check(engine, evening)
    again = read_table(engine, mariadb)
    assert (again.rows, again.visits, again.rings, again.agent_events) == (0, 0, 0, 0)


def read_table(engine: Engine, database: MariaDb) -> QueueLogResult:
    source = import_queue_log_database(import_run(engine, timezone="Asia/Kolkata"), database.address)
    assert (source.unreadable, source.failure) == (0, "")
    return source


def row_of(line: str, time: str, *, split: bool) -> dict[str, object]:
    """A line as Asterisk's realtime engine would have written it; it knows where the fields end."""
    at, callid, queue, rest = line.replace(FELIX, "FELIX").split("|", 3)
    agent, event, *fields = rest.split("|")
    if event in ("PAUSE", "UNPAUSE"):
        fields = ["|".join(fields)]
    row: dict[str, object] = {"time": time_of(int(at)) if time == "datetime" else at}
    row |= {"callid": callid, "queuename": queue}
    row |= {"agent": agent.replace("FELIX", FELIX), "event": event}
    five = (fields + [""] * 5)[:5]
    return row | ({f"data{n}": field for n, field in enumerate(five, 1)} if split else {"data": "|".join(fields)})


def time_of(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s + 19_800))  # in Kolkata


def test_the_labs_own_calls_are_reported_right(engine: Engine, server: LabServer) -> None:
    calls = {outcome: place_queue_call(server, outcome, 3) for outcome in ("answered", "abandoned", "timeout")}
    (source,) = import_queue_log_files(import_run(engine), [server.logs / "queue_log"])
    assert (source.unreadable, source.unknown) == (0, {})
    found = visits(engine)
    for outcome, call in calls.items():
        visit = found[call.uniqueid]
        assert (visit.outcome, visit.queue) == (outcome, call.queue)
        lasted_s = visit.talk_s if outcome == "answered" else visit.wait_s
        assert lasted_s is not None
        assert abs(lasted_s - 3) <= 1
