"""Fills a database with a PBX's snapshots, visits and alert rules, and evaluates the rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import select

from pbx.alerts.rules import evaluate_rules
from pbx.model.history import Visit
from pbx.model.snapshot import Queue, QueueMember, Snapshot, SnapshotPart, Trunk
from pbx.settings import Settings
from pbx.store.alerts import AlertTarget, save_rule, seal_targets
from pbx.store.engine import reading, writing
from pbx.store.job_rows import add_job
from pbx.store.models import Alert, AlertRule, Job, JobState
from pbx.store.pbx_connections import ActiveConnection, active_connection
from pbx.store.snapshots import record_snapshot
from pbx.store.visits import store_visits

T0 = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
FREE = QueueMember(name="Ada", interface="PJSIP/1001", status=1)


def pbx(engine: Engine, settings: Settings) -> ActiveConnection:
    active = active_connection(engine, settings)
    assert active is not None
    return active


def add_rule(engine: Engine, settings: Settings, kind: str, threshold: float = 0, subject: str = "", *urls: str) -> int:
    targets = seal_targets(settings, [AlertTarget(SecretStr(url)) for url in urls])
    rule = AlertRule(
        connection_id=pbx(engine, settings).id,
        kind=kind,
        threshold=threshold,
        subject=subject,
        targets_encrypted=targets,
    )
    with writing(engine) as session:
        return save_rule(session, rule, T0)


def minutes(count: float) -> datetime:
    """The time that is `count` minutes after T0."""
    return T0 + timedelta(minutes=count)


def waiting(name: str, wait_s: int = 0, members: tuple[QueueMember, ...] = (FREE,)) -> Queue:
    return Queue(name=name, calls=int(wait_s > 0), longest_wait_s=wait_s, members=members, service_level_s=20)


def trunk(name: str, state: str) -> Trunk:
    return Trunk(name=name, tech="PJSIP", state=state, registers=True)


def record_snapshot_of(
    engine: Engine, settings: Settings, at: datetime, *contents: Queue | Trunk, parts: Any = None
) -> None:
    """Store a snapshot of these queues and trunks."""
    snapshot = Snapshot(
        taken_at=at,
        queues=tuple(one for one in contents if isinstance(one, Queue)),
        trunks=tuple(one for one in contents if isinstance(one, Trunk)),
        parts=parts or {"queues": SnapshotPart(), "trunks": SnapshotPart()},
    )
    connection_id = pbx(engine, settings).id
    with writing(engine) as session:
        record_snapshot(session, connection_id, snapshot)


def alert_changes(engine: Engine, settings: Settings, at: datetime) -> list[tuple[str, str]]:
    """The alerts that a check of the rules starts and ends: subject and "started" or "ended"."""
    return [(one.subject, one.event) for one in evaluate_rules(engine, settings, pbx(engine, settings), at)]


def alerts(engine: Engine) -> list[Alert]:
    with reading(engine) as session:
        return list(session.exec(select(Alert).order_by(Alert.id)).all())  # type: ignore[arg-type]


def add_visits(engine: Engine, settings: Settings, queue: str, at: datetime, *waits_s: float, lost: int = 0) -> None:
    """Store visits answered after these waits, and `lost` visits abandoned after a minute."""
    visits = [
        Visit(
            uniqueid=f"{at.timestamp():.0f}.{queue}.{i}",
            queue=queue,
            joined_at=at + timedelta(seconds=10 * i),
            connected_at=None if wait_s is None else at,
            ended_at=at + timedelta(minutes=5),
            outcome="abandoned" if wait_s is None else "answered",
            wait_s=60.0 if wait_s is None else wait_s,
            ring_s=None,
            talk_s=None if wait_s is None else 30.0,
        )
        for i, wait_s in enumerate([*waits_s, *[None] * lost])
    ]
    connection_id = pbx(engine, settings).id
    with writing(engine) as session:
        store_visits(session, connection_id, visits, "queue_log")


def add_sync(engine: Engine, settings: Settings, at: datetime, state: JobState, error: str = "") -> None:
    connection_id = pbx(engine, settings).id
    with writing(engine) as session:
        job: Job = add_job(session, f"s{at.timestamp()}", "sync", connection_id=connection_id, requested_by="schedule")
        job.sqlmodel_update({"state": state, "requested_at": at, "ended_at": at, "error": error})
        session.add(job)
