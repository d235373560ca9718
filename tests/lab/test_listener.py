"""The listener on real Asterisk: calls stored live agree with imports, and pages show calls within seconds."""

import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.imports.cdr import import_cdr_file
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.run import ImportRun
from pbx.settings import load_settings
from pbx.store.engine import open_engine, reading
from pbx.store.job_queue import required_connection
from pbx.store.models import AgentEventRow, CallRow, LegRow, ListeningSpan, VisitRow
from pbx.store.snapshots import latest_snapshot
from tests.lab.browser import browser, go, running_app
from tests.lab.calls import PlacedCall, place_all, place_queue_call, session, start_queue_call
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.unit.imports.import_runs import import_run
from tests.unit.live.fake_pbx import listening

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
MAX_DELAY_S = 3.0  # the required longest delay between the PBX and a page
TOLERANCE_S = 1.5  # files have integer seconds, up to one early, and events arrive late on a busy machine
REPETITIONS = 5


def environment(server: LabServer, user: str = "notebook") -> dict[str, str]:
    settings = {
        "HOST": server.host,
        "AMI_PORT": server.ami_port,
        "AMI_USERNAME": user,
        "AMI_PASSWORD": server.ami_secret,
        "ARI_PORT": server.http_port,
        "ARI_USERNAME": server.ari_username,
        "ARI_PASSWORD": server.ari_secret,
    }
    return {f"FREEPBX_{name}": str(value) for name, value in settings.items()}


@pytest.fixture
def log_in_as(server: LabServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that sets the AMI user of the app's settings."""

    def set_user(user: str) -> None:
        for name, value in environment(server, user).items():
            monkeypatch.setenv(name, value)

    return set_user


@pytest.fixture
def engine(log_in_as: Callable[[str], None]) -> Iterator[Engine]:
    log_in_as("notebook")
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def visits(engine: Engine, calls: list[PlacedCall]) -> dict[str, list[VisitRow]]:
    """The visits of these calls, by uniqueid. Other tests may place calls at the same time."""
    with reading(engine) as session:
        uniqueids = [call.uniqueid for call in calls if call.queue]
        rows = session.exec(select(VisitRow).where(col(VisitRow.uniqueid).in_(uniqueids))).all()
    return {uniqueid: [row for row in rows if row.uniqueid == uniqueid] for uniqueid in uniqueids}


def outcome_of(engine: Engine, call: PlacedCall) -> str:
    (visit,) = visits(engine, [call])[call.uniqueid]
    return visit.outcome


def legs(engine: Engine, call: PlacedCall) -> list[LegRow]:
    with reading(engine) as session:
        return list(session.exec(select(LegRow).where(LegRow.linkedid == call.uniqueid)))


def queue_log_of(server: LabServer, calls: list[PlacedCall], into: Path) -> Path:
    uniqueids = {call.uniqueid for call in calls}
    lines = (server.logs / "queue_log").read_text().splitlines(keepends=True)
    into.write_text("".join(line for line in lines if line.split("|")[1] in uniqueids))
    return into


@pytest.mark.parametrize("user", ["notebook", "analyst"])
def test_calls_are_the_same_live_and_imported(
    server: LabServer, engine: Engine, log_in_as: Callable[[str], None], tmp_path: Path, user: str
) -> None:
    log_in_as(user)
    master = server.logs / "cdr-csv/Master.csv"
    size_before = master.stat().st_size if master.exists() else 0
    with listening(engine):
        calls = [*place_all(server), place_waiting_call(server)]
        time.sleep(2)  # AgentComplete and the like
    seen = visits(engine, calls)
    assert {name: len(rows) for name, rows in seen.items()} == dict.fromkeys(seen, 1)
    for call in calls:
        if call.queue:
            (visit,) = seen[call.uniqueid]
            assert (visit.outcome, visit.queue, visit.source) == (call.outcome, call.queue, "live")
            assert visit.ended_at
    if user == "notebook":  # the other user doesn't receive variables
        names = {leg.recording_file for call in calls for leg in legs(engine, call)}
        assert all(any(call.uniqueid in name for name in names) for call in calls)
    check_legs(engine, {call.outcome if call.kind == "outbound" else call.kind: call for call in calls})

    import_queue_log_files(import_run(engine), [queue_log_of(server, calls, tmp_path / "queue_log")])
    again = visits(engine, calls)
    for name, (before,) in seen.items():
        (after,) = again[name]
        assert after.source == "queue_log"
        assert (after.outcome, after.agent, after.wait_s) == (before.outcome, before.agent, before.wait_s)
        assert (after.talk_s, after.ended_by, after.caller) == (before.talk_s, before.ended_by, before.caller)
        assert abs((after.joined_at - before.joined_at).total_seconds()) <= TOLERANCE_S
    assert sum(map(len, again.values())) == sum(map(len, seen.values()))
    check_calls(engine, calls, newer_rows(master, size_before, tmp_path / "Master.csv"))


def place_waiting_call(server: LabServer) -> PlacedCall:
    """Place a call that waits three seconds for the first agent, and then talks."""
    call = start_queue_call(server, "billing", "answered", TALK_S=2)
    time.sleep(3)
    member = {"Queue": "billing", "Interface": "Local/2001@agents/n"}
    with session(server) as ami:
        ami.action("QueueAdd", member | {"MemberName": "Eve Adams"})
        call.wait_end()
        ami.action("QueueRemove", member)
    return call


def newer_rows(master: Path, offset: int, into: Path) -> Path:
    """Copy what was added to Master.csv after `offset`, and return the copy's path."""
    with master.open("rb") as file:
        file.seek(offset)
        into.write_bytes(file.read())
    return into


def check_calls(engine: Engine, calls: list[PlacedCall], master: Path) -> None:
    """Check that the CDR of each call agrees with its events to the second."""
    seen = {call.uniqueid: call_of(engine, call) for call in calls}
    import_cdr_file(ImportRun(engine, required_connection(engine, load_settings())), master)
    for call in calls:
        before, after = seen[call.uniqueid], call_of(engine, call)
        assert (after.direction, after.disposition, after.queue) == (before.direction, before.disposition, before.queue)
        assert abs((after.started_at - before.started_at).total_seconds()) <= TOLERANCE_S
        for before_s, after_s in ((before.wait_s, after.wait_s), (before.talk_s, after.talk_s)):
            assert (before_s is None) == (after_s is None)
            assert before_s is None or after_s == pytest.approx(before_s, abs=TOLERANCE_S)


def call_of(engine: Engine, call: PlacedCall) -> CallRow:
    with reading(engine) as session:
        return session.exec(select(CallRow).where(CallRow.linkedid == call.uniqueid)).one()


def check_legs(engine: Engine, by_kind: dict[str, PlacedCall]) -> None:
    (busy,) = legs(engine, by_kind["busy"])
    assert (busy.trunk, busy.disposition, busy.cause, busy.dst) == ("carrier", "BUSY", 17, "5552001")
    (unanswered,) = legs(engine, by_kind["noanswer"])
    assert (unanswered.trunk, unanswered.disposition) == ("carrier", "NO ANSWER")
    assert unanswered.pdd_s is not None
    (answered,) = legs(engine, by_kind["answered"])
    assert (answered.disposition, answered.cause) == ("ANSWERED", 16)
    assert answered.billsec_s == pytest.approx(3, abs=1.5)
    inbound = legs(engine, by_kind["inbound"])
    assert {(leg.trunk, leg.did) for leg in inbound} == {("carrier", "5550100")}
    with reading(engine) as session:
        call = session.exec(select(CallRow).where(CallRow.linkedid == by_kind["inbound"].uniqueid)).one()
    assert (call.direction, call.did, call.disposition, call.queue) == ("inbound", "5550100", "ANSWERED", "sales")


def test_a_user_without_queue_events_is_logged_and_visits_come_from_snapshots(
    server: LabServer, engine: Engine, log_in_as: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    log_in_as("clerk")  # receives neither queue nor system events
    waiting = start_queue_call(server, "support")
    wait_until("the caller waits", lambda: bool(waiting.queue_events))
    with listening(engine) as watch:
        wait_until("the caller is stored", lambda: bool(visits(engine, [waiting])[waiting.uniqueid]))
        another = start_queue_call(server, "support")
        wait_until("the missing class is logged", lambda: "no events of the class agent" in caplog.text, 30)
        another.hangup()
        waiting.hangup()
        wait_until("the hang-up is stored", lambda: outcome_of(engine, waiting) == "abandoned")
        call = place_queue_call(server, "answered", seconds=1)
        wait_until("its leg is stored", lambda: any(leg.ended_at for leg in legs(engine, call)))
    assert watch.events
    with reading(engine) as session:
        assert session.exec(select(ListeningSpan)).all()


def test_a_call_from_before_the_listener_started_is_stored(server: LabServer, engine: Engine) -> None:
    waiting = start_queue_call(server, "support")
    wait_until("the caller waits", lambda: bool(waiting.queue_events))
    time.sleep(2)
    with listening(engine):
        wait_until("the visit is stored", lambda: bool(visits(engine, [waiting])[waiting.uniqueid]))
        waiting.hangup()
        time.sleep(1)
    (visit,) = visits(engine, [waiting])[waiting.uniqueid]
    assert visit.outcome == "abandoned"
    assert visit.wait_s is not None
    assert visit.wait_s >= 2


def test_pauses_are_stored(server: LabServer, engine: Engine) -> None:
    reason = f"Break {time.time_ns()}"
    with listening(engine):
        for command in (
            f'pause member Local/2002@agents/n queue sales reason "{reason}"',
            "unpause member Local/2002@agents/n",
        ):
            server.cli(f"queue {command}")
        time.sleep(1)
    with reading(engine) as session:
        paused = session.exec(select(AgentEventRow).where(AgentEventRow.reason == reason)).one()
    assert (paused.agent, paused.queue, paused.kind) == ("Felix Brandt", "sales", "pause")


def test_a_snapshot_shows_a_caller_within_seconds(
    server: LabServer, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    delays_s = []
    with listening(engine):
        for _ in range(REPETITIONS):
            started = time.monotonic()
            call = start_queue_call(server, "support")
            wait_until("the caller is in the snapshot", lambda: call.uniqueid in waiting_callers(engine))  # noqa: B023
            delays_s.append(time.monotonic() - started)
            call.hangup()
    with capsys.disabled():
        print(f"\n{server.name}: call placed, seen in the cache after {', '.join(f'{s:.2f}' for s in delays_s)} s")
    assert statistics.median(delays_s) <= MAX_DELAY_S


def waiting_callers(engine: Engine) -> set[str]:
    """The uniqueids of the callers who wait in the newest snapshot."""
    with reading(engine) as session:
        snapshot = latest_snapshot(session, 1)
    return {caller.uniqueid for queue in snapshot.queues for caller in queue.callers} if snapshot else set()


@pytest.mark.alone
def test_a_page_shows_a_caller_within_seconds(
    server: LabServer, no_real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delays_s = []
    with running_app(no_real_data, **environment(server)) as address, browser() as page:
        page.goto(address)
        go(page, "Queues")
        wait_until("the listener is running", lambda: is_listening(no_real_data))
        page.reload()  # from now on it refreshes every second
        page.get_by_role("heading", name="Queues", level=1).wait_for()
        page.locator("tr[data-id='support']").click()
        page.get_by_role("heading", name="Agents in queue support").wait_for()
        for number in range(REPETITIONS):
            delays_s.append(delay_s(server, page, f"+49555{time.time_ns() // 1000 % 10**7:07d}{number}"))
    with capsys.disabled():
        print(f"\n{server.name}: call placed, seen on the page after {', '.join(f'{s:.2f}' for s in delays_s)} s")
    assert statistics.median(delays_s) <= MAX_DELAY_S


def is_listening(data_dir: Path) -> bool:
    from pbx.process_lock import anyone_alive

    return anyone_alive(data_dir, "watch")


def delay_s(server: LabServer, page: Page, number: str) -> float:
    """Send a caller to the queue, and return the seconds until the page shows their number."""
    started = time.monotonic()
    call = start_queue_call(server, "support", caller=f"Late Comer <{number}>")
    page.get_by_text(re.compile(re.escape(number))).first.wait_for(timeout=20_000)
    took_s = time.monotonic() - started
    call.hangup()
    return took_s
