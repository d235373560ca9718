"""Fills the cache with the data that tests of pages show: a PBX, snapshots, calls and a finished sync."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine

from pbx.model.snapshot import (
    ActiveCall,
    Extension,
    Queue,
    QueueCaller,
    QueueMember,
    Snapshot,
    SnapshotPart,
    System,
    Trunk,
)
from pbx.settings import Connection, load_settings
from pbx.store.engine import writing
from pbx.store.job_rows import add_job, end_job, start_job
from pbx.store.models import CallRow, RecordingRow
from pbx.store.pbx_connections import save_connection
from pbx.store.snapshots import record_snapshot

PASSWORD = "s3cret-of-the-pbx"
TEXTS_WITH_MARKUP = [
    '"; DROP TABLE calls; --',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "📞 Zoë *bold* `code` $x$ [a](http://x.example)",
    "two\nlines\tand :red[colour] ~~gone~~",
]


def save_pbx(engine: Engine, **changes: Any) -> int:
    """Save the connection of a PBX in Berlin, and return the PBX's ID."""
    defaults: dict[str, Any] = {
        "host": "pbx.example.com",
        "ari_port": 8088,
        "ami_port": 5038,
        "ami_username": "notebook",
        "ari_username": "notebook",
        "ami_password": SecretStr(PASSWORD),
        "ari_password": SecretStr(PASSWORD),
        "timezone": "Europe/Berlin",
    }
    return save_connection(engine, load_settings(), Connection(**(defaults | changes)))


def snapshot(at: datetime, name: str = "support") -> Snapshot:
    """A snapshot in which a queue, an agent, a caller, a trunk and an extension have this name."""
    members = (
        QueueMember(name="Ada", interface="PJSIP/1001", status=1),
        QueueMember(name=name, interface="PJSIP/1002", status=2, paused=True, pause_reason=name),
    )
    callers = (QueueCaller(position=1, caller_id="+4930123", caller_name=name, wait_s=83, uniqueid="7.7"),)
    return Snapshot(
        taken_at=at,
        system=System(version="16.28.0", utc_offset_s=3600),
        queues=(Queue(name=name, calls=1, longest_wait_s=83, completed=4, members=members, callers=callers),),
        trunks=(
            Trunk(name=name, tech="PJSIP", state="rejected", server=name, registers=True),
            Trunk(name="carrier", tech="PJSIP", state="registered", registers=True, channels=2),
        ),
        extensions=(Extension(extension=name, tech="PJSIP", status="Not in use", contact=name),),
        active_calls=(
            ActiveCall(linkedid="7.7", channel="PJSIP/1", caller_id="+4930123", caller_name=name, state="Up"),
        ),
        parts={part: SnapshotPart() for part in ("system", "extensions", "trunks", "queues", "active_calls")},
    )


def add_call(engine: Engine, pbx: int, number: str, started_at: datetime, **changes: Any) -> int:
    """Add a call with one recording, and return the call's ID."""
    with writing(engine) as session:
        call = CallRow(connection_id=pbx, linkedid=f"{started_at.timestamp()}.{number}", started_at=started_at)
        call.sqlmodel_update({"from_number": number, "to_number": "600", "state": "downloaded"} | changes)
        session.add(call)
        session.flush()
        assert call.id is not None
        recording = RecordingRow(connection_id=pbx, call_id=call.id, name=f"2026/07/01/{call.id}", state=call.state)
        recording.file = f"{call.id}.wav" if call.state == "downloaded" else ""
        session.add(recording)
        return call.id


def add_sample_data(engine: Engine, name: str = "support") -> int:
    """Add a PBX with four snapshots, a finished sync and a call, all with this name. Returns the PBX's ID."""
    pbx = save_pbx(engine)
    now = datetime.now(UTC)
    with writing(engine) as session:
        for minutes in (20, 15, 10, 0):
            record_snapshot(session, pbx, snapshot(now - timedelta(minutes=minutes), name))
        add_job(session, "sync-1", "sync", connection_id=pbx, requested_by="page")
        start_job(session, "sync-1", "worker-0")
        end_job(session, "worker-0", "sync-1", {"listed": 31, "new": 3, "downloaded": 3, "waiting": 1, "failed": []})
    add_call(engine, pbx, name, now, direction="inbound", queue=name, agent="1002", duration_s=83.0)
    return pbx


def snapshot_of_queues(*names: str) -> Snapshot:
    """A snapshot of now: in each queue two callers wait, and one agent is free, one is on a call, one is paused."""
    members = (
        QueueMember(name="Ada", interface="PJSIP/1001", status=1),
        QueueMember(name="Bob", interface="PJSIP/1002", status=2),
        QueueMember(name="Eve", interface="PJSIP/1003", status=1, paused=True),
    )
    queues = [Queue(name=name, calls=2, longest_wait_s=45, members=members) for name in names]
    return Snapshot(
        taken_at=datetime.now(UTC),
        system=System(version="16.28.0", utc_offset_s=3600),
        queues=tuple(queues),
        trunks=(),
        extensions=(),
        active_calls=(),
        parts={part: SnapshotPart() for part in ("system", "extensions", "trunks", "queues", "active_calls")},
    )
