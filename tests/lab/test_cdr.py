"""The CDR of real calls on Asterisk 16 and 22, imported from Master.csv and from a real MariaDB as on FreePBX."""

import csv
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.analytics.trunks import trunk_totals
from pbx.asterisk.ami.protocol import AmiParser
from pbx.imports.cdr import import_cdr_database, import_cdr_file
from pbx.imports.run import ImportRun
from pbx.live.events import LiveHistory
from pbx.store.engine import reading, writing
from pbx.store.legs import store_legs
from pbx.store.models import CallRow, LegRow
from tests.lab.active_connection import add_active_connection
from tests.lab.ami_session import Ami
from tests.lab.calls import (
    PlacedCall,
    place_internal_call,
    place_queue_call,
    place_trunk_call,
    session,
    start_inbound_call,
    start_phone_call,
)
from tests.lab.mariadb import MariaDb, mariadb
from tests.lab.process import wait_until
from tests.lab.servers import SERVERS, LabServer

__all__ = ["mariadb"]
pytestmark = pytest.mark.lab
MASTER_COLUMNS = tuple(
    """accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec
    disposition amaflags uniqueid userfield""".split()  # noqa: SIM905
)


def place_transferred_call(server: LabServer) -> PlacedCall:
    """Place a call from 1001 to 1002, who transfers it to an outside number."""
    call = start_phone_call(server, "1002")
    with session(server) as ami:

        def channel_of_1002() -> str:
            items = [item for item in ami.action("CoreShowChannels") if item.get("Linkedid") == call.uniqueid]
            return next((item["Channel"] for item in items if item["Channel"].startswith("PJSIP/1002-")), "")

        wait_until("1002 answers", lambda: bool(channel_of_1002()), 20)
        time.sleep(1.5)
        answer = ami.action(
            "BlindTransfer", {"Channel": channel_of_1002(), "Context": "from-internal", "Exten": "5551001"}
        )
        assert answer[0]["Response"] == "Success", answer
    time.sleep(2.5)
    call.hangup()
    return call


def place_forwarded_call(server: LabServer) -> PlacedCall:
    """Place a call from outside that the PBX forwards to another outside number over the same trunk."""
    call = start_inbound_call(server, "outside", seconds=3)
    call.wait_end()
    return call


KINDS: dict[str, Callable[[LabServer], PlacedCall]] = {
    "answered": lambda server: place_trunk_call(server, "answered", 2),
    "busy": lambda server: place_trunk_call(server, "busy", 2),
    "noanswer": lambda server: place_trunk_call(server, "noanswer", 2),
    "inbound": lambda server: place_trunk_call(server, "inbound", 3),
    "internal": lambda server: place_internal_call(server, 2),
    "queue": lambda server: place_queue_call(server, "answered", 3),
    "transferred": place_transferred_call,
    "forwarded": place_forwarded_call,
}


class PlacedCalls:
    """One call of each of KINDS on one server, and their CDR rows with FreePBX's columns."""

    def __init__(self, server: LabServer) -> None:
        self.server, self.since = server, datetime.now(UTC)
        with session(server, events="call") as ami:
            with ThreadPoolExecutor(len(KINDS)) as pool:
                futures = {kind: pool.submit(place, server) for kind, place in KINDS.items()}
            self.calls = {kind: future.result() for kind, future in futures.items()}
            self.linkedids, self.dids = self.read_events(ami)
        call_ids = {call.uniqueid for call in self.calls.values()}
        self.uniqueids = {uniqueid for uniqueid, linkedid in self.linkedids.items() if linkedid in call_ids}
        self.received = ami.seen
        wait_until("the CDR is written", lambda: call_ids <= {row["uniqueid"] for row in self.csv_rows()}, 20)

    def read_events(self, ami: Ami) -> tuple[dict[str, str], dict[str, str]]:
        """Each channel's linkedid, which Master.csv lacks, and the number that each outside caller dialled."""
        ami.action("Ping")
        events = [event for event in ami.events if event.get("Uniqueid") and event.get("Linkedid")]
        linkedids = {event["Uniqueid"]: event["Linkedid"] for event in events}
        dids = {
            event["Linkedid"]: event["Exten"]
            for event in events
            if event["Event"] == "Newchannel" and event["Context"] == "from-pstn" and event["Exten"] != "s"
        }
        return linkedids, dids

    @property
    def master(self) -> Path:
        return self.server.logs / "cdr-csv/Master.csv"

    def csv_rows(self) -> list[dict[str, str]]:
        """The rows of Master.csv about these calls."""
        with self.master.open(newline="") as file:
            rows = [dict(zip(MASTER_COLUMNS, row, strict=False)) for row in csv.reader(file)]
        return [row for row in rows if row["uniqueid"] in self.uniqueids]

    def rows(self) -> list[dict[str, object]]:
        """The same rows as FreePBX's table has them."""
        rows: list[dict[str, object]] = []
        for sequence, row in enumerate(self.csv_rows()):
            linkedid = self.linkedids[row["uniqueid"]]
            fields: dict[str, object] = {
                name: row[name] for name in MASTER_COLUMNS if name not in ("start", "answer", "end", "amaflags")
            }
            rows.append(
                fields
                | {
                    "calldate": row["start"],
                    "linkedid": linkedid,
                    "sequence": sequence,
                    "did": self.dids.get(linkedid, ""),
                    "recordingfile": row["userfield"],
                    "userfield": "",
                }
            )
        return rows


@pytest.fixture(scope="module", params=SERVERS.values(), ids=lambda server: server.name)
def placed(lab: None, request: pytest.FixtureRequest) -> PlacedCalls:
    return PlacedCalls(request.param)


def calls_of(engine: Engine, placed: PlacedCalls) -> dict[str, CallRow]:
    """The imported calls, by kind."""
    with reading(engine) as session:
        found = {call.linkedid: call for call in session.exec(select(CallRow)).all()}
    assert set(found) == {call.uniqueid for call in placed.calls.values()}
    return {kind: found[call.uniqueid] for kind, call in placed.calls.items()}


def assert_imported(engine: Engine, placed: PlacedCalls, *, by_table: bool) -> None:
    """Check that every call was imported with its direction, disposition, parties and durations."""
    calls = calls_of(engine, placed)
    reported = {
        kind: (call.direction, call.disposition, call.from_number, call.to_number, call.agent)
        for kind, call in calls.items()
    }
    outside, forwarded, queue_caller = (
        placed.calls[kind].caller.partition("<")[2].rstrip(">") for kind in ("inbound", "forwarded", "queue")
    )
    assert reported["answered"] == ("outbound", "ANSWERED", "1001", "5551001", "1001")
    assert reported["busy"] == ("outbound", "BUSY", "1001", "5552001", "1001")
    assert reported["noanswer"] == ("outbound", "NO ANSWER", "1001", "5553001", "1001")
    assert reported["internal"] == ("internal", "ANSWERED", "1001", "1002", "1002")
    assert reported["transferred"] == ("outbound", "ANSWERED", "1001", "5551001", "1001")
    assert reported["forwarded"] == ("inbound", "ANSWERED", forwarded, "5551001", "")
    assert reported["inbound"][:4] == ("inbound", "ANSWERED", outside, "sales")
    assert reported["queue"][1:4] == ("ANSWERED", queue_caller, "sales")
    assert (calls["inbound"].did, calls["queue"].did) == ("5550100" if by_table else "", "")
    assert calls["inbound"].from_name == placed.calls["inbound"].caller.partition(" <")[0]
    for kind in ("answered", "internal", "inbound", "queue", "transferred", "forwarded"):
        talk_s, duration_s = calls[kind].talk_s, calls[kind].duration_s
        assert talk_s is not None
        assert duration_s is not None
        assert 1 <= talk_s <= duration_s < 30
    assert (calls["busy"].talk_s, calls["noanswer"].talk_s) == (None, None)
    assert calls["queue"].agent in ("2000", "2001", "2002", "2003", "2004")
    for kind, call in calls.items():  # in whichever time zone the PBX is
        assert call.started_at is not None
        assert call.started_at.timestamp() == pytest.approx(float(placed.calls[kind].uniqueid), abs=2)


def test_calls_are_imported_from_freepbxs_database_once(placed: PlacedCalls, engine: Engine, mariadb: MariaDb) -> None:
    mariadb.fresh_cdr()
    mariadb.insert("cdr", placed.rows())
    active = add_active_connection(engine, placed.server)
    result = import_cdr_database(ImportRun(engine, active), mariadb.address)
    assert (result.rows, result.legs, result.unreadable) == (len(placed.rows()), len(placed.rows()), 0)
    assert_imported(engine, placed, by_table=True)
    with reading(engine) as session:
        legs = session.exec(select(LegRow)).all()
        carried = {leg.linkedid for leg in legs if leg.trunk == "carrier"}
        through = ("answered", "busy", "noanswer", "inbound", "transferred", "forwarded")
        assert carried == {placed.calls[kind].uniqueid for kind in through}
        assert {leg.linkedid for leg in legs if leg.onward_trunk} == {placed.calls["forwarded"].uniqueid}
        day = timedelta(days=1)
        figures = trunk_totals(session, 1, "carrier", placed.since - day, placed.since + day)
        assert (figures.seizures, figures.outbound, figures.answered) == (7, 5, 5)  # the forwarded call counts twice
        transferred = [leg for leg in legs if leg.linkedid == placed.calls["transferred"].uniqueid]
        billed = {leg.dst_channel.partition("-")[0]: leg.billsec_s for leg in transferred}
    assert billed.keys() == {"PJSIP/1002", "PJSIP/carrier"}
    unanswered = {leg.answered_at for leg in legs if leg.trunk and leg.disposition in ("BUSY", "NO ANSWER")}
    assert unanswered == {None}
    written = {row["dstchannel"]: float(row["billsec"]) for row in placed.csv_rows() if row["dstchannel"]}
    assert {leg.dst_channel: leg.billsec_s for leg in legs if leg.dst_channel} == written
    again = import_cdr_database(ImportRun(engine, active), mariadb.address)
    assert (again.rows, again.legs, again.unreadable) == (0, 0, 0)
    assert_imported(engine, placed, by_table=True)


def test_calls_are_imported_from_a_growing_master_csv(placed: PlacedCalls, engine: Engine, tmp_path: Path) -> None:
    with placed.master.open("rb") as file:
        lines = [line for line in file if any(f'"{one}"'.encode() in line for one in placed.uniqueids)]
    copy = tmp_path / "Master.csv"
    copy.write_bytes(b"".join(lines)[:-20])  # Asterisk is still writing the last line
    active = add_active_connection(engine, placed.server)
    result = import_cdr_file(ImportRun(engine, active), copy)
    assert (result.rows, result.unreadable) == (len(lines) - 1, 0)
    copy.write_bytes(b"".join(lines))
    result = import_cdr_file(ImportRun(engine, active), copy)
    assert (result.rows, result.legs, result.unreadable) == (1, 1, 0)
    assert_imported(engine, placed, by_table=False)


def test_live_calls_are_completed_from_the_cdr(placed: PlacedCalls, engine: Engine, mariadb: MariaDb) -> None:
    """Each leg of the CDR with a dialled channel updates the leg that was stored live."""
    live = LiveHistory()
    live.legs.trunks = {"carrier"}
    at = datetime.fromtimestamp(float(placed.calls["answered"].uniqueid), UTC)
    for message in AmiParser().feed(placed.received):
        live.take(message, at)
    call_ids = {call.uniqueid for call in placed.calls.values()}
    live_legs = [leg for leg in live.take_updates(at).legs if leg.linkedid in call_ids]
    assert {leg.linkedid for leg in live_legs if leg.onward_trunk} == {placed.calls["forwarded"].uniqueid}
    mariadb.fresh_cdr()
    mariadb.insert("cdr", placed.rows())
    active = add_active_connection(engine, placed.server)
    with writing(engine) as session:
        store_legs(session, 1, live_legs, "live")
    import_cdr_database(ImportRun(engine, active), mariadb.address)
    assert_imported(engine, placed, by_table=True)
    with reading(engine) as session:
        legs = session.exec(select(LegRow)).all()
    dialled = {leg.dst_channel: leg for leg in legs if leg.dst_channel}
    assert dialled.keys() == {str(row["dstchannel"]) for row in placed.rows() if row["dstchannel"]}
    assert {leg.source for leg in legs} == {"cdr"}
    without_cause = {leg.linkedid for leg in dialled.values() if leg.cause is None}
    assert without_cause <= {placed.calls["noanswer"].uniqueid}  # Asterisk ends the call and reports no cause
    busy = next(leg for leg in dialled.values() if leg.linkedid == placed.calls["busy"].uniqueid)
    assert (busy.cause, busy.disposition) == (17, "BUSY")


def test_importing_the_database_after_the_file_adds_no_leg(
    placed: PlacedCalls, engine: Engine, mariadb: MariaDb
) -> None:
    mariadb.fresh_cdr("MyISAM")
    mariadb.insert("cdr", placed.rows())
    active = add_active_connection(engine, placed.server)
    import_cdr_file(ImportRun(engine, active), placed.master)
    with reading(engine) as session:
        before = len(session.exec(select(LegRow)).all())
    assert import_cdr_database(ImportRun(engine, active), mariadb.address).legs == 0
    with reading(engine) as session:
        assert len(session.exec(select(LegRow)).all()) == before
        call_ids = [call.uniqueid for call in placed.calls.values()]
        dids = session.exec(select(CallRow.did).where(col(CallRow.linkedid).in_(call_ids), CallRow.did != "")).all()
    assert sorted(dids) == ["5550100", "5550104"]
