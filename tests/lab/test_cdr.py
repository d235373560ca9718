"""The CDR of calls that Asterisk 16 and 22 really had, imported from a real MariaDB as FreePBX fills it."""

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


def place_forwarded_call(server: LabServer) -> PlacedCall:
    """Somebody outside is put through to somebody else outside, through the same trunk."""
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


class Lived:
    """Calls that one server had, and the rows its Asterisk wrote of them, with FreePBX's columns."""

    def __init__(self, server: LabServer) -> None:
        self.server, self.since = server, datetime.now(UTC)
        with session(server, events="call") as ami:
            with ThreadPoolExecutor(len(KINDS)) as pool:
                placed = {kind: pool.submit(place, server) for kind, place in KINDS.items()}
            self.calls = {kind: future.result() for kind, future in placed.items()}
            self.linkedids, self.dids = self.heard(ami)
        mine = {call.uniqueid for call in self.calls.values()}
        self.uniqueids = {uniqueid for uniqueid, linkedid in self.linkedids.items() if linkedid in mine}
        self.seen = ami.seen
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


def calls_of(engine: Engine, lived: Lived) -> dict[str, CallRow]:
    """The imported calls, by kind."""
    with reading(engine) as session:
        found = {call.linkedid: call for call in session.exec(select(CallRow)).all()}
    assert set(found) == {call.uniqueid for call in lived.calls.values()}
    return {kind: found[call.uniqueid] for kind, call in lived.calls.items()}


def assert_reported(engine: Engine, lived: Lived, *, by_table: bool) -> None:
    """Every call is there with how it went."""
    calls = calls_of(engine, lived)
    reported = {
        kind: (call.direction, call.disposition, call.from_number, call.to_number, call.agent)
        for kind, call in calls.items()
    }
    outside, forwarded, queue_caller = (
        lived.calls[kind].caller.partition("<")[2].rstrip(">") for kind in ("inbound", "forwarded", "queue")
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
    assert calls["inbound"].from_name == lived.calls["inbound"].caller.partition(" <")[0]
    for kind in ("answered", "internal", "inbound", "queue", "transferred", "forwarded"):
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
    active = add_active_connection(engine, lived.server)
    result = import_cdr_database(ImportRun(engine, active), mariadb.address)
    assert (result.rows, result.legs, result.unreadable) == (len(lived.rows()), len(lived.rows()), 0)
    assert_reported(engine, lived, by_table=True)
    with reading(engine) as session:
        legs = session.exec(select(LegRow)).all()
        carried = {leg.linkedid for leg in legs if leg.trunk == "carrier"}
        through = ("answered", "busy", "noanswer", "inbound", "transferred", "forwarded")
        assert carried == {lived.calls[kind].uniqueid for kind in through}
        assert {leg.linkedid for leg in legs if leg.onward_trunk} == {lived.calls["forwarded"].uniqueid}
        day = timedelta(days=1)
        figures = trunk_totals(session, 1, "carrier", lived.since - day, lived.since + day)
        assert (figures.seizures, figures.outbound, figures.answered) == (7, 5, 5)  # the forwarded one is two
        transferred = [leg for leg in legs if leg.linkedid == lived.calls["transferred"].uniqueid]
        billed = {leg.dst_channel.partition("-")[0]: leg.billsec_s for leg in transferred}
    assert billed.keys() == {"PJSIP/1002", "PJSIP/carrier"}
    unanswered = {leg.answered_at for leg in legs if leg.trunk and leg.disposition in ("BUSY", "NO ANSWER")}
    assert unanswered == {None}
    written = {row["dstchannel"]: float(row["billsec"]) for row in lived.written() if row["dstchannel"]}
    assert {leg.dst_channel: leg.billsec_s for leg in legs if leg.dst_channel} == written
    again = import_cdr_database(ImportRun(engine, active), mariadb.address)
    assert (again.rows, again.legs, again.unreadable) == (0, 0, 0)
    assert_reported(engine, lived, by_table=True)


def test_master_csv(lived: Lived, engine: Engine, tmp_path: Path) -> None:
    with lived.master.open("rb") as file:
        lines = [line for line in file if any(f'"{one}"'.encode() in line for one in lived.uniqueids)]
    copy = tmp_path / "Master.csv"
    copy.write_bytes(b"".join(lines)[:-20])  # the last line is still being written
    active = add_active_connection(engine, lived.server)
    result = import_cdr_file(ImportRun(engine, active), copy)
    assert (result.rows, result.unreadable) == (len(lines) - 1, 0)
    copy.write_bytes(b"".join(lines))
    result = import_cdr_file(ImportRun(engine, active), copy)
    assert (result.rows, result.legs, result.unreadable) == (1, 1, 0)
    assert_reported(engine, lived, by_table=False)


def test_watched_calls_gain_what_the_cdr_knows(lived: Lived, engine: Engine, mariadb: MariaDb) -> None:
    """Each leg of the CDR in which somebody was dialled is the one that was seen live."""
    live = LiveHistory()
    live.legs.trunks = {"carrier"}
    at = datetime.fromtimestamp(float(lived.calls["answered"].uniqueid), UTC)
    for message in AmiParser().feed(lived.seen):
        live.take(message, at)
    mine = {call.uniqueid for call in lived.calls.values()}
    watched = [leg for leg in live.take_updates(at).legs if leg.linkedid in mine]
    assert {leg.linkedid for leg in watched if leg.onward_trunk} == {lived.calls["forwarded"].uniqueid}
    mariadb.fresh_cdr()
    mariadb.insert("cdr", lived.rows())
    active = add_active_connection(engine, lived.server)
    with writing(engine) as session:
        store_legs(session, 1, watched, "live")
    import_cdr_database(ImportRun(engine, active), mariadb.address)
    assert_reported(engine, lived, by_table=True)
    with reading(engine) as session:
        legs = session.exec(select(LegRow)).all()
    dialled = {leg.dst_channel: leg for leg in legs if leg.dst_channel}
    assert dialled.keys() == {str(row["dstchannel"]) for row in lived.rows() if row["dstchannel"]}
    assert {leg.source for leg in legs} == {"cdr"}
    unheard = {leg.linkedid for leg in dialled.values() if leg.cause is None}
    assert unheard <= {lived.calls["noanswer"].uniqueid}  # Asterisk ends the call and reports no cause
    busy = next(leg for leg in dialled.values() if leg.linkedid == lived.calls["busy"].uniqueid)
    assert (busy.cause, busy.disposition) == (17, "BUSY")


def test_the_database_after_the_file_adds_no_leg(lived: Lived, engine: Engine, mariadb: MariaDb) -> None:
    mariadb.fresh_cdr("MyISAM")
    mariadb.insert("cdr", lived.rows())
    active = add_active_connection(engine, lived.server)
    import_cdr_file(ImportRun(engine, active), lived.master)
    with reading(engine) as session:
        before = len(session.exec(select(LegRow)).all())
    assert import_cdr_database(ImportRun(engine, active), mariadb.address).legs == 0
    with reading(engine) as session:
        assert len(session.exec(select(LegRow)).all()) == before
        mine = [call.uniqueid for call in lived.calls.values()]
        dids = session.exec(select(CallRow.did).where(col(CallRow.linkedid).in_(mine), CallRow.did != "")).all()
    assert sorted(dids) == ["5550100", "5550104"]
