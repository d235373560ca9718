"""Imports of a queue_log with every kind of damage, and of one with 10,000 calls from one number."""

from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import select

from pbx.imports.queue_log_files import import_queue_log_files
from pbx.settings import Settings
from pbx.store.engine import reading
from pbx.store.models import VisitRow
from pbx.store.pbx_connections import active_connection
from tests.unit.imports.import_runs import import_run

T = 1_772_452_800
DAMAGED_LOG = f"""\
0|NONE|NONE|NONE|QUEUESTART|
{T}|{T}.1|sales|NONE|ENTERQUEUE||+4930123|1
{T + 1}|{T}.1|sales|NONE|SOMETHINGNEW|1|2|3
{T + 5}|{T}.1|sales|Eve | Adams|CONNECT|5|{T}.2|3

{T + 2}|{T}.3|sales|NONE|ENTERQUEUE|http://crm/?a=1|b=2|+4930124|1
{T - 3600}|{T}.1|sales|Eve | Adams|COMPLETECALLER|5|60|1
nonsense|{T}.3|sales|NONE|ABANDON|1|1|5
{T + 9}|{T}.3|sales|NONE|ABANDON|1|1|7
-1|{T}.4|sales|NONE|ENTERQUEUE||1|1
99999999999|{T}.5|sales|NONE|ENTERQUEUE||1|1
\x00\x00\x00
{T + 20}|{T}.6|sales|NONE|ENTERQUEUE||+4930126|1
{T + 30}|{T}.6|sales|NONE|ABAN"""


def visits(engine: Engine) -> dict[str, VisitRow]:
    with reading(engine) as session:
        return {visit.uniqueid: visit for visit in session.exec(select(VisitRow))}


def connection_id(engine: Engine, settings: Settings) -> int:
    active = active_connection(engine, settings)
    assert active is not None
    return active.id


def test_the_valid_lines_of_a_damaged_log_are_imported(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    own_id, log = connection_id(engine, settings), tmp_path / "queue_log"
    log.write_text(DAMAGED_LOG)
    (source,) = import_queue_log_files(import_run(engine, own_id), [log])
    assert [line for line, _ in source.errors] == [1, 8, 10, 11]
    assert "the time 0 is not a time" in source.errors[0][1]
    assert source.unknown == {"SOMETHINGNEW": 1}
    found = visits(engine)
    assert {uniqueid.partition(".")[2]: visit.outcome for uniqueid, visit in found.items()} == {
        "1": "answered",
        "3": "abandoned",
        "6": "in_progress",  # its last line is incomplete
    }
    answered, abandoned = found[f"{T}.1"], found[f"{T}.3"]
    assert (answered.agent, answered.wait_s, answered.talk_s) == ("Eve | Adams", 5, 60)
    assert answered.ended_at is not None
    assert answered.ended_at >= answered.joined_at  # although the clock was set back by an hour
    assert (abandoned.caller, abandoned.wait_s) == ("+4930124", 7)
    with log.open("a") as file:
        file.write("DON|1|1|10\n")
    (again,) = import_queue_log_files(import_run(engine, own_id), [log])
    assert (again.rows, again.unreadable) == (1, 0)
    assert visits(engine)[f"{T}.6"].outcome == "abandoned"


def test_10_000_calls_from_one_number_are_10_000_visits(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "queue_log"
    with log.open("w") as file:
        for n in range(10_000):
            at = T + n
            file.write(f"{at}|{at}.{n}|sales|NONE|ENTERQUEUE||5551234|{n + 1}\n")
        for n in range(10_000):
            file.write(f"{T + 20_000 + n}|{T + n}.{n}|sales|NONE|ABANDON|1|{n + 1}|20000\n")
    own_id = connection_id(engine, settings)
    (source,) = import_queue_log_files(import_run(engine, own_id), [log])
    assert (source.rows, source.visits, source.unreadable) == (20_000, 10_000, 0)
    found = visits(engine).values()
    assert len(found) == 10_000
    assert {(visit.caller, visit.outcome, visit.wait_s) for visit in found} == {("5551234", "abandoned", 20_000)}
    (again,) = import_queue_log_files(import_run(engine, own_id), [log])
    assert (again.rows, again.visits) == (0, 0)
