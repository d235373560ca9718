"""Sync and snapshot jobs with each fault of the PBX: a clear error, no lost or partial data, and success afterwards."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from pbx.demo import ami_server
from pbx.errors import (
    AmiLoginError,
    AmiTooLarge,
    AriLoginError,
    AriProtocolError,
    AriServerError,
    Deadline,
    PbxError,
    Unreachable,
)
from pbx.store.engine import reading
from pbx.store.models import QueueSample
from pbx.store.snapshots import latest_snapshot
from tests.simulator.app_on_pbx import AppOnPbx, app_on
from tests.simulator.faults import Fault, FaultKind
from tests.simulator.running_pbx import Clock, running_pbx
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.simulator.simulated_recordings import SimulatedRecordings
from tests.unit.asterisk.ari.replay_server import wav

LIST = "ari/recordings/stored"
FILES = "ari/recordings/stored/*/file"
NOW = datetime.now(UTC).replace(microsecond=0)
ENDLESS_S = 60.0  # longer than the app waits


def name(number: int) -> str:
    at = NOW - timedelta(minutes=number)
    return f"{at:%Y/%m/%d}/q-600-02079460{number:03}-{at:%Y%m%d-%H%M%S}-{int(at.timestamp())}.{number}"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SimulatedPbx, Clock]]:
    monkeypatch.setattr(ami_server, "REFUSAL_S", 0.05)
    with running_pbx() as (pbx, clock):
        for number in range(4):
            pbx.recordings.add(name(number), wav(b"%04d" % number * 4000))
        yield pbx, clock


@pytest.fixture
def app(demo: tuple[SimulatedPbx, Clock], monkeypatch: pytest.MonkeyPatch) -> Iterator[AppOnPbx]:
    with app_on(demo[0], monkeypatch) as app_on_pbx:
        yield app_on_pbx


def fault_case(kind: FaultKind, where: str, error: type[PbxError], **fields: float) -> object:
    return pytest.param(Fault(kind, where, **fields), error, id=f"{kind} {where}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        fault_case("refuse", "ari", Unreachable),
        fault_case("cut", LIST, Unreachable, after_bytes=20),
        fault_case("cut", "ari/channels", Unreachable, after_bytes=200),
        fault_case("slow_list", LIST, Deadline, seconds=ENDLESS_S),
        fault_case("wrong_length", LIST, Unreachable, extra_bytes=9),
        fault_case("wrong_length", LIST, AriProtocolError, extra_bytes=-9),
        fault_case("server_error", LIST, AriServerError),
        fault_case("server_error", "ari/channels", AriServerError, status=503),
    ],
)
def test_a_sync_that_does_not_get_the_list_changes_nothing(app: AppOnPbx, fault: Fault, error: type[PbxError]) -> None:
    app.run("sync")
    app.pbx.recordings.add(name(9), wav())
    app.pbx.faults.arm(fault, None)
    assert isinstance(app.fail("sync"), error)
    assert app.states() == dict.fromkeys([name(number) for number in range(4)], "downloaded")
    assert not any(row.gone_at for row in app.recordings().values())
    app.pbx.faults.clear()
    assert app.run("sync")["downloaded"] == 1
    assert app.is_complete()


@pytest.mark.parametrize("kind", ["cut", "stall", "wrong_length", "server_error", "mute"])
def test_files_that_do_not_arrive_are_reported_and_arrive_with_the_next_sync(app: AppOnPbx, kind: FaultKind) -> None:
    for number in (1, 2):
        where = f"{LIST}/*-02079460{number:03}-*/file"
        app.pbx.faults.arm(Fault(kind, where, after_bytes=5000, seconds=ENDLESS_S), None)
    first = app.run("sync")
    failed = {failure["name"]: failure["reason"] for failure in first["failed"]}
    assert set(failed) == {name(1), name(2)}
    assert first["downloaded"] == 2
    assert all(reason.endswith(".") for reason in failed.values())
    assert {app.states()[one] for one in failed} == {"failed"}
    app.pbx.faults.clear()
    second = app.run("sync")
    assert (second["downloaded"], second["failed"]) == (2, [])
    assert app.is_complete()


def test_a_file_shortened_by_a_content_length_is_not_stored(app: AppOnPbx) -> None:
    app.pbx.faults.arm(Fault("wrong_length", FILES, extra_bytes=-1), 4)
    first = app.run("sync")
    assert (first["unreadable"], first["downloaded"]) == (4, 0)
    assert app.run("sync")["downloaded"] == 4
    assert app.is_complete()


def test_replies_that_arrive_byte_by_byte_are_complete(app: AppOnPbx) -> None:
    for where in (LIST, "ari/channels"):
        app.pbx.faults.arm(Fault("trickle", where))
    app.pbx.faults.arm(Fault("trickle", FILES))
    assert app.run("sync")["downloaded"] == 4
    assert app.is_complete()


def test_a_stopped_pbx_is_reported_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedPbx(recordings=SimulatedRecordings()) as pbx, app_on(pbx, monkeypatch) as app:
        pbx.close()
        for kind in ("sync", "collect"):
            error = app.fail(kind)  # type: ignore[arg-type]
            assert isinstance(error, Unreachable)
            assert "Nothing listens" in str(error)


def test_a_name_that_is_not_utf_8_is_reported_as_the_cause(app: AppOnPbx) -> None:
    app.run("sync")
    odd = "2026/07/31/out-Zo\udceb-1001-20260731-143012-1785504612.42"
    app.pbx.recordings.add(odd, wav())
    error = app.fail("sync")
    assert isinstance(error, AriServerError)
    assert "isn't UTF-8" in error.fix
    assert not any(row.gone_at for row in app.recordings().values())
    app.pbx.recordings.delete(odd)
    assert app.run("sync")["failed"] == []
    assert app.is_complete()


def test_a_changed_password_fails_both_jobs_and_loses_no_data(app: AppOnPbx) -> None:
    app.run("sync")
    app.run("collect")
    old = app.pbx.password
    app.pbx.change_password()
    sync, collect = app.fail("sync"), app.fail("collect")
    assert isinstance(sync, AriLoginError)
    assert isinstance(collect, AmiLoginError)
    for error in (sync, collect):
        assert old not in error.advice
        assert "PASSWORD" in error.fix or "password" in error.fix
    assert app.is_complete()
    app.pbx.change_password(old)
    app.run("collect")
    assert app.run("sync")["listed"] == 4


def test_a_password_change_during_a_sync_keeps_the_downloaded_recordings(app: AppOnPbx) -> None:
    for number in range(10, 30):
        app.pbx.recordings.add(name(number), wav(b"%04d" % number * 3000))
    old, open_file = app.pbx.password, app.pbx.recordings.file

    def change_password_at(wanted: str) -> object:
        if wanted == name(20):
            app.pbx.change_password()
        return open_file(wanted)

    app.pbx.recordings.file = change_password_at  # type: ignore[method-assign, assignment]
    assert isinstance(app.fail("sync"), AriLoginError)
    states = list(app.states().values())
    assert 1 <= states.count("downloaded") < 24
    app.pbx.recordings.file = open_file  # type: ignore[method-assign]
    app.pbx.change_password(old)
    assert app.run("sync")["failed"] == []
    assert app.is_complete()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        fault_case("refuse", "ami", Unreachable),
        fault_case("cut", "ami/greeting", Unreachable, after_bytes=9),
        fault_case("cut", "ami/Login", Unreachable, after_bytes=30),
        fault_case("cut", "ami/QueueStatus", Unreachable, after_bytes=700),
        fault_case("mute", "ami/*", Deadline),
        fault_case("flood", "ami/Challenge", AmiTooLarge),
        fault_case("flood", "ami/Login", AmiTooLarge),
    ],
)
def test_an_incomplete_snapshot_is_not_stored(app: AppOnPbx, fault: Fault, error: type[PbxError]) -> None:
    app.run("collect")
    written = (app.settings.pbx_data_dir / "freepbx.json").read_text()
    app.pbx.faults.arm(fault, None)
    assert isinstance(app.fail("collect"), error)
    assert app.snapshots() == 1
    assert (app.settings.pbx_data_dir / "freepbx.json").read_text() == written
    app.pbx.faults.clear()
    assert app.run("collect")["incomplete_parts"] == {}


def test_a_list_without_a_reply_is_failed_not_empty(app: AppOnPbx) -> None:
    app.pbx.faults.arm(Fault("mute", "ami/QueueStatus"))
    reported = app.run("collect")
    assert reported["incomplete_parts"]["queues"]["state"] == "failed"
    assert "has not answered QueueStatus" in reported["incomplete_parts"]["queues"]["reason"]
    assert reported["trunks"] == 2
    with reading(app.engine) as session:
        assert session.exec(select(QueueSample)).all() == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [("headless", "a list came without its response"), ("endless", "reply to QueueStatus is too large")],
)
def test_a_list_without_beginning_or_end_fails_only_its_part(
    app: AppOnPbx, monkeypatch: pytest.MonkeyPatch, kind: FaultKind, words: str
) -> None:
    monkeypatch.setattr("pbx.asterisk.ami.pending_action.MAX_ANSWER_BYTES", 300_000)
    app.pbx.faults.arm(Fault(kind, "ami/QueueStatus"))
    reported = app.run("collect")
    assert reported["incomplete_parts"].keys() == {"queues"}
    assert words in reported["incomplete_parts"]["queues"]["reason"]
    assert reported["trunks"] == 2
    time.sleep(1)  # a second snapshot within one second is ignored
    assert app.run("collect")["incomplete_parts"] == {}


def test_a_snapshot_from_slow_replies_is_the_same(app: AppOnPbx) -> None:
    def collected_snapshot() -> object:
        app.run("collect")
        with reading(app.engine) as session:
            snapshot = latest_snapshot(session, 1)
        assert snapshot is not None
        return snapshot.model_dump(exclude={"taken_at", "took_ms", "system"})

    expected = collected_snapshot()
    time.sleep(1)  # a second snapshot within one second is ignored
    app.pbx.faults.arm(Fault("trickle", "ami/*"), None)
    assert collected_snapshot() == expected


def test_after_a_restart_counters_begin_at_0_and_no_figure_is_negative(
    app: AppOnPbx, demo: tuple[SimulatedPbx, Clock]
) -> None:
    pbx, clock = demo
    app.run("collect")
    with reading(app.engine) as session:
        before = latest_snapshot(session, 1)
    pbx.restart()
    clock.at += timedelta(minutes=30)
    time.sleep(1)  # a second snapshot within one second is ignored
    app.run("collect")
    with reading(app.engine) as session:
        after = latest_snapshot(session, 1)
        samples = session.exec(select(QueueSample)).all()
    assert before is not None
    assert after is not None
    assert sum(queue.completed for queue in before.queues) > sum(queue.completed for queue in after.queues) > 0
    assert before.system is not None
    assert after.system is not None
    assert before.system.started_at != after.system.started_at  # pages show since when the counters count
    for sample in samples:
        assert min(sample.completed, sample.abandoned, sample.calls, sample.longest_wait_s, sample.hold_time_s) >= 0
