"""The CDR of calls that Asterisk 16 and 22 really had, imported from a real MariaDB as FreePBX fills it."""

import csv
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, func, select

from pbx.errors import PbxError, SettingsError, Unreachable
from pbx.jobs.history_databases import open_source, source_url
from pbx.jobs.import_cdr import import_cdr_database, import_cdr_file
from pbx.settings import load_settings
from pbx.store.connections import ActiveConnection
from pbx.store.engine import open_engine, reading, writing
from pbx.store.history_models import CallLeg, ImportMark
from pbx.store.models import Call, PbxConnection, Subject
from tests.lab.ami import Ami
from tests.lab.calls import (
    PlacedCall,
    place_internal_call,
    place_queue_call,
    place_trunk_call,
    session,
    start_phone_call,
)
from tests.lab.mariadb import PASSWORD, QUOTED, MariaDb, mariadb
from tests.lab.server import SERVERS, LabServer, wait_until

__all__ = ["mariadb"]
pytestmark = pytest.mark.lab
MASTER = tuple(
    """accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec
    disposition amaflags uniqueid userfield""".split()  # noqa: SIM905
)


def place_transferred_call(server: LabServer) -> PlacedCall:
    """1001 talks with 1002, who passes the call on to somebody outside."""
    call = start_phone_call(server, "1002")
    with session(server) as ami:

        def other() -> str:
            found = [item for item in ami.action("CoreShowChannels") if item.get("Linkedid") == call.uniqueid]
            return next((item["Channel"] for item in found if item["Channel"].startswith("PJSIP/1002-")), "")

        wait_until("1002 answers", lambda: bool(other()), 20)
        time.sleep(1.5)
        answer = ami.action("BlindTransfer", {"Channel": other(), "Context": "from-internal", "Exten": "5551001"})
        assert answer[0]["Response"] == "Success", answer
    time.sleep(2.5)
    call.hangup()
    return call


KINDS: dict[str, Callable[[LabServer], PlacedCall]] = {
    "answered": lambda server: place_trunk_call(server, "answered", 2),
    "busy": lambda server: place_trunk_call(server, "busy", 2),
    "noanswer": lambda server: place_trunk_call(server, "noanswer", 2),
    "inbound": lambda server: place_trunk_call(server, "inbound", 3),
    "internal": lambda server: place_internal_call(server, 2),
    "queue": lambda server: place_queue_call(server, "answered", 3),
    "transferred": place_transferred_call,
}


class Lived:
    """Calls that one server had, and the rows its Asterisk wrote of them, with FreePBX's columns."""

    def __init__(self, server: LabServer) -> None:
        self.server = server
        with session(server, events="call") as ami:
            with ThreadPoolExecutor(len(KINDS)) as pool:
                placed = {kind: pool.submit(place, server) for kind, place in KINDS.items()}
            self.calls = {kind: future.result() for kind, future in placed.items()}
            self.linkedids, self.dids = self.heard(ami)
        mine = {call.uniqueid for call in self.calls.values()}
        self.uniqueids = {uniqueid for uniqueid, linkedid in self.linkedids.items() if linkedid in mine}
        wait_until("the CDR is written", lambda: mine <= {row["uniqueid"] for row in self.written()}, 20)

    def heard(self, ami: Ami) -> tuple[dict[str, str], dict[str, str]]:
        """Each channel's linkedid, which Master.csv leaves out, and the number an outside caller dialled."""
        ami.action("Ping")
        heard = [event for event in ami.events if event.get("Uniqueid") and event.get("Linkedid")]
        linkedids = {event["Uniqueid"]: event["Linkedid"] for event in heard}
        dids = {
            event["Linkedid"]: event["Exten"]
            for event in heard
            if event["Event"] == "Newchannel" and event["Context"] == "from-pstn" and event["Exten"] != "s"
        }
        return linkedids, dids

    @property
    def master(self) -> Path:
        return self.server.logs / "cdr-csv/Master.csv"

    def written(self) -> list[dict[str, str]]:
        with self.master.open(newline="") as file:
            rows = [dict(zip(MASTER, row, strict=False)) for row in csv.reader(file)]
        return [row for row in rows if row["uniqueid"] in self.uniqueids]

    def rows(self) -> list[dict[str, object]]:
        """As FreePBX's table has them."""
        made = []
        for sequence, row in enumerate(self.written()):
            linkedid = self.linkedids[row["uniqueid"]]
            kept = {name: row[name] for name in MASTER if name not in ("start", "answer", "end", "amaflags")}
            made.append(
                kept
                | {
                    "calldate": row["start"],
                    "linkedid": linkedid,
                    "sequence": sequence,
                    "did": self.dids.get(linkedid, ""),
                    "recordingfile": row["userfield"],
                    "userfield": "",
                }
            )
        return made


@pytest.fixture(scope="module", params=SERVERS.values(), ids=lambda server: server.name)
def lived(lab: None, request: pytest.FixtureRequest) -> Lived:
    return Lived(request.param)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def active_at(engine: Engine, server: LabServer) -> ActiveConnection:
    """The server as the app's PBX, one of whose trunks has been seen."""
    connection = server.connection()
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host=connection.host, active=True))
        session.flush()
        session.add(Subject(connection_id=1, kind="trunk", name="carrier", tech="PJSIP"))
    return ActiveConnection(1, connection, saved=False)


def calls_of(engine: Engine, lived: Lived) -> dict[str, Call]:
    """The imported calls, by kind."""
    with reading(engine) as session:
        found = {call.linkedid: call for call in session.exec(select(Call)).all()}
    assert set(found) == {call.uniqueid for call in lived.calls.values()}
    return {kind: found[call.uniqueid] for kind, call in lived.calls.items()}


def assert_told(engine: Engine, lived: Lived, *, by_table: bool) -> None:
    """Every call is there with how it went."""
    calls = calls_of(engine, lived)
    told = {
        kind: (call.direction, call.disposition, call.from_number, call.to_number, call.agent)
        for kind, call in calls.items()
    }
    outside, queue_caller = (lived.calls[kind].caller.partition("<")[2].rstrip(">") for kind in ("inbound", "queue"))
    assert told["answered"] == ("outbound", "ANSWERED", "1001", "5551001", "1001")
    assert told["busy"] == ("outbound", "BUSY", "1001", "5552001", "")
    assert told["noanswer"] == ("outbound", "NO ANSWER", "1001", "5553001", "")
    assert told["internal"] == ("internal", "ANSWERED", "1001", "1002", "1002")
    assert told["transferred"] == ("outbound", "ANSWERED", "1001", "5551001", "1001")
    assert told["inbound"][:4] == ("inbound", "ANSWERED", outside, "sales")
    assert told["queue"][1:4] == ("ANSWERED", queue_caller, "sales")
    assert (calls["inbound"].did, calls["queue"].did) == ("5550100" if by_table else "", "")
    assert calls["inbound"].from_name == lived.calls["inbound"].caller.partition(" <")[0]
    for kind in ("answered", "internal", "inbound", "queue", "transferred"):
        talk_s, duration_s = calls[kind].talk_s, calls[kind].duration_s
        assert talk_s is not None
        assert duration_s is not None
        assert 1 <= talk_s <= duration_s < 30
    assert (calls["busy"].talk_s, calls["noanswer"].talk_s) == (None, None)
    assert calls["queue"].agent in ("2000", "2001", "2002", "2003", "2004")
    for kind, call in calls.items():  # whichever zone the PBX lives in
        assert call.started_at is not None
        assert call.started_at.timestamp() == pytest.approx(float(lived.calls[kind].uniqueid), abs=2)


def test_freepbx_database(lived: Lived, engine: Engine, mariadb: MariaDb) -> None:
    mariadb.fresh_cdr()
    mariadb.insert("cdr", lived.rows())
    active = active_at(engine, lived.server)
    result = import_cdr_database(engine, active, mariadb.address)
    assert (result.rows, result.legs, result.bad) == (len(lived.rows()), len(lived.rows()), 0)
    assert_told(engine, lived, by_table=True)
    with reading(engine) as session:
        legs = session.exec(select(CallLeg)).all()
        carried = {leg.linkedid for leg in legs if leg.trunk == "carrier"}
        assert carried == {
            lived.calls[kind].uniqueid for kind in ("answered", "busy", "noanswer", "inbound", "transferred")
        }
        transferred = [leg for leg in legs if leg.linkedid == lived.calls["transferred"].uniqueid]
        billed = {leg.dst_channel.partition("-")[0]: leg.billsec_s for leg in transferred}
    assert billed.keys() == {"PJSIP/1002", "PJSIP/carrier"}
    written = {row["dstchannel"]: float(row["billsec"]) for row in lived.written() if row["dstchannel"]}
    assert {leg.dst_channel: leg.billsec_s for leg in legs if leg.dst_channel} == written
    again = import_cdr_database(engine, active, mariadb.address)
    assert (again.rows, again.legs, again.bad) == (0, 0, 0)
    assert_told(engine, lived, by_table=True)


def test_master_csv(lived: Lived, engine: Engine, tmp_path: Path) -> None:
    with lived.master.open("rb") as file:
        lines = [line for line in file if any(f'"{one}"'.encode() in line for one in lived.uniqueids)]
    copy = tmp_path / "Master.csv"
    copy.write_bytes(b"".join(lines)[:-20])  # the last line is still being written
    active = active_at(engine, lived.server)
    result = import_cdr_file(engine, active, copy)
    assert (result.rows, result.bad) == (len(lines) - 1, 0)
    copy.write_bytes(b"".join(lines))
    result = import_cdr_file(engine, active, copy)
    assert (result.rows, result.legs, result.bad) == (1, 1, 0)
    assert_told(engine, lived, by_table=False)


def test_the_database_after_the_file_adds_no_leg(lived: Lived, engine: Engine, mariadb: MariaDb) -> None:
    mariadb.fresh_cdr("MyISAM")
    mariadb.insert("cdr", lived.rows())
    active = active_at(engine, lived.server)
    import_cdr_file(engine, active, lived.master)
    with reading(engine) as session:
        before = len(session.exec(select(CallLeg)).all())
    assert import_cdr_database(engine, active, mariadb.address).legs == 0
    with reading(engine) as session:
        assert len(session.exec(select(CallLeg)).all()) == before
        mine = [call.uniqueid for call in lived.calls.values()]
        dids = session.exec(select(Call.did).where(col(Call.linkedid).in_(mine), Call.did != "")).all()
    assert list(dids) == ["5550100"]


BROKEN_TABLE = """
CREATE TABLE broken (
  calldate datetime, clid varchar(80), src varchar(80), dst varchar(80), dcontext varchar(80), channel varchar(80),
  dstchannel varchar(80), duration int, billsec int, disposition varchar(45), uniqueid varchar(32), linkedid varchar(32)
) ENGINE=MyISAM DEFAULT CHARSET=latin1
"""  # of an old FreePBX: no index, no recordingfile, no sequence


def broken_row(number: int, calldate: str | None, **facts: object) -> dict[str, object]:
    uniqueid = f"{1772452800 + number}.{number}"  # 2 March 2026, noon UTC
    return {
        "calldate": calldate,
        "clid": '"José" <1001>',
        "src": "1001",
        "dst": "1002",
        "dcontext": "from-internal",
        "channel": f"SIP/1001-{number:08x}",
        "dstchannel": f"SIP/1002-{number:08x}",
        "duration": 9,
        "billsec": 5,
        "disposition": "ANSWERED",
        "uniqueid": uniqueid,
        "linkedid": uniqueid,
    } | facts


@pytest.fixture
def pbx(engine: Engine) -> ActiveConnection:
    """A PBX that only its database is asked of."""
    return active_at(engine, SERVERS[22])


def test_a_table_without_indexes_with_nulls_and_zero_dates(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb
) -> None:
    mariadb.execute("DROP TABLE IF EXISTS broken", BROKEN_TABLE)
    rows = [
        broken_row(0, "2026-03-02 12:00:00"),
        broken_row(1, "0000-00-00 00:00:00"),
        broken_row(2, None, clid=None, dcontext=None, duration=None, billsec=None, disposition=None, linkedid=None),
        broken_row(3, "0000-00-00 00:00:00", uniqueid=""),
        broken_row(4, "2026-03-02 12:00:04", dstchannel=None, disposition="NO ANSWER", billsec=0),
    ]
    mariadb.insert("broken", rows)
    result = import_cdr_database(engine, pbx, mariadb.address, table="broken")
    assert (result.rows, result.legs, result.bad) == (5, 4, 1)
    with reading(engine) as session:
        calls = {call.linkedid.partition(".")[2]: call for call in session.exec(select(Call)).all()}
    assert {number: call.started_at.timestamp() for number, call in calls.items() if call.started_at} == {
        str(number): 1772452800 + number for number in (0, 1, 2, 4)
    }
    assert (calls["0"].from_name, calls["0"].talk_s, calls["4"].disposition) == ("José", 5, "NO ANSWER")
    assert import_cdr_database(engine, pbx, mariadb.address, table="broken").rows == 0


@pytest.mark.parametrize("storage", ["InnoDB", "MyISAM"])
def test_the_pbx_may_write_while_it_is_read(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, storage: str
) -> None:
    mariadb.fresh_cdr(storage)
    start = 1772452800
    mariadb.execute(
        "INSERT INTO cdr (calldate, channel, uniqueid, linkedid, duration, billsec, disposition, sequence) "
        f"SELECT FROM_UNIXTIME({start} + seq * 30), CONCAT('PJSIP/a-', LPAD(HEX(seq), 8, '0')), "
        f"CONCAT({start} + seq * 30, '.', seq), CONCAT({start} + seq * 30, '.', seq), 9, 5, 'ANSWERED', seq "
        "FROM seq_1_to_25000"
    )
    added = 0

    def add(done: int, total: int | None) -> None:
        nonlocal added
        added += 1
        moment = f"2026-03-02 11:00:{added:02}"
        mariadb.execute(
            "SET SESSION lock_wait_timeout = 1",
            f"INSERT INTO cdr (calldate, channel, uniqueid) VALUES ('{moment}', 'PJSIP/b-{added:08x}', '1.{added}')",
            "ALTER TABLE cdr COMMENT = 'a change that would wait for whoever reads'",
        )

    result = import_cdr_database(engine, pbx, mariadb.address, progress=add)
    assert added > 1
    assert result.legs >= 25_000
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(CallLeg)).one() == result.legs


def test_the_database_is_only_read(engine: Engine, pbx: ActiveConnection, mariadb: MariaDb) -> None:
    """Even as a user who may write."""
    mariadb.fresh_cdr()
    with (
        open_source(source_url(mariadb.address.replace("reader:", "admin:"))) as source,
        source.connect() as connection,
        pytest.raises(DBAPIError, match="READ ONLY"),
    ):
        connection.exec_driver_sql("DELETE FROM cdr")


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ((QUOTED, "another-s3cret"), Unreachable, "Access denied"),
        (("/asteriskcdrdb", "/nowhere"), Unreachable, "nowhere"),
        (("/asteriskcdrdb", ""), SettingsError, "not the address"),
        (("mysql+pymysql", "sybase"), SettingsError, "not the address"),
    ],
)
def test_a_refusal_is_told_without_the_password(
    engine: Engine,
    pbx: ActiveConnection,
    mariadb: MariaDb,
    wrong: tuple[str, str],
    error: type[PbxError],
    said: str,
) -> None:
    with pytest.raises(error, match=said) as caught:
        import_cdr_database(engine, pbx, mariadb.address.replace(*wrong))
    for secret in (PASSWORD, QUOTED, "another-s3cret"):
        assert secret not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"


def test_no_password_is_kept(engine: Engine, pbx: ActiveConnection, mariadb: MariaDb) -> None:
    mariadb.fresh_cdr()
    mariadb.insert("cdr", [broken_row(0, "2026-03-02 12:00:00")])
    result = import_cdr_database(engine, pbx, mariadb.address)
    assert result.rows == 1
    with reading(engine) as session:
        mark = session.exec(select(ImportMark)).one()
    engine.dispose()
    for secret in (PASSWORD, QUOTED):
        assert secret not in f"{result!r} {mark!r}"
        for file in load_settings().pbx_data_dir.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes()
