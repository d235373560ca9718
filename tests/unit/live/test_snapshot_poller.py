"""The poller stores the latest snapshot and each trunk change, and retries while the PBX is unreachable."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.analytics.trunk_status import trunk_history
from pbx.asterisk.ami.client import AmiClient
from pbx.errors import Unreachable
from pbx.live import snapshot_poller
from pbx.live.snapshot_poller import SnapshotPoller
from pbx.model.snapshot import Snapshot, SnapshotPart, Trunk, TrunkState
from pbx.settings import Settings
from pbx.store.engine import reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.models import SnapshotRow
from pbx.store.snapshots import latest_snapshot, latest_taken_at, record_snapshot
from tests.unit.asterisk.ami.replay_server import wait_until

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def snapshot(second: float, state: TrunkState, *, readable: bool = True) -> Snapshot:
    trunks = (Trunk(name="carrier", tech="PJSIP", state=state), Trunk(name="peer", tech="PJSIP", state="reachable"))
    part = SnapshotPart() if readable else SnapshotPart(state="denied", reason="no right")
    poller = START + timedelta(seconds=second)
    return Snapshot(taken_at=poller, trunks=trunks if readable else (), parts={"trunks": part})


class SuccessiveSnapshots:
    """Replaces `take_snapshot`: returns or raises these one after another, then repeats the last."""

    def __init__(self, *shown: Snapshot | Exception) -> None:
        self.shown = list(shown)

    def __call__(self, *_: Any) -> Snapshot:
        found = self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def poller(engine: Engine, settings: Settings) -> Iterator[SnapshotPoller]:
    poller = SnapshotPoller(engine, required_connection(engine, settings).id, cast(AmiClient, None), lambda _: None)
    yield poller
    poller.close()


def poll_each(poller: SnapshotPoller, monkeypatch: pytest.MonkeyPatch, *shown: Snapshot) -> None:
    """Poll once for each snapshot that the PBX shows."""
    monkeypatch.setattr(snapshot_poller, "take_snapshot", SuccessiveSnapshots(*shown))
    for _ in shown:
        poller.poll()


def states(engine: Engine, name: str = "carrier") -> list[tuple[int, str]]:
    with reading(engine) as session:
        points = trunk_history(session, 1, name, START, START + timedelta(hours=1))
    return [(int((point.taken_at - START).total_seconds()), point.state) for point in points]


def test_a_trunk_change_is_stored_with_the_time_of_its_event(
    poller: SnapshotPoller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = SuccessiveSnapshots(snapshot(0, "registered"), snapshot(10, "registered"), snapshot(20, "rejected"))
    monkeypatch.setattr(snapshot_poller, "take_snapshot", shown)
    poller.poll()
    poller.poll()
    assert states(engine) == []  # unchanged: the regular snapshots record it
    poller.wake(device_at=START + timedelta(seconds=18))
    poller.poll()
    assert states(engine) == [(18, "rejected")]
    assert states(engine, "peer") == []
    with reading(engine) as session:
        assert latest_taken_at(session, 1) == START + timedelta(seconds=20)
        assert session.exec(select(SnapshotRow)).first() is None


def test_trunks_that_may_not_be_read_have_not_changed(
    poller: SnapshotPoller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = snapshot(5, "registered", readable=False)
    poll_each(poller, monkeypatch, snapshot(0, "registered"), unseen, snapshot(10, "registered"))
    assert states(engine) == []


def test_a_regular_snapshot_in_the_second_of_a_change_is_stored_too(
    poller: SnapshotPoller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll_each(poller, monkeypatch, snapshot(0, "registered"), snapshot(7.2, "rejected"))
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot(7.9, "registered"))
    assert states(engine) == [(7, "registered")]


def test_an_older_snapshot_does_not_replace_a_newer_one(
    poller: SnapshotPoller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll_each(poller, monkeypatch, snapshot(9, "registered"), snapshot(3, "rejected"))
    with reading(engine) as session:
        latest = latest_snapshot(session, 1)
    assert latest is not None
    assert latest.trunks[0].state == "registered"


@pytest.mark.parametrize("error", [Unreachable("It is away.", "Wait."), ValueError("a mistake of ours")])
def test_polling_continues_after_an_error(
    poller: SnapshotPoller, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(snapshot_poller, "MIN_INTERVAL_S", 0.01)
    monkeypatch.setattr(snapshot_poller, "take_snapshot", SuccessiveSnapshots(error, snapshot(0, "registered")))
    poller.start()
    poller.wake()
    wait_until(lambda: poller._logged != "" or poller.taken == 1)
    poller.wake()
    wait_until(lambda: poller.taken >= 1)
