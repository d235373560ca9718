"""Evaluates the alert rules against the cache, so that alerts start and end. It never contacts the PBX.

A snapshot that is too old to describe the current state neither starts nor ends an alert.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TypeVar

from sqlalchemy import Engine, case, func, select
from sqlmodel import Session, col

from pbx.analytics.queues import FigureFilter, by_queue, queue_targets
from pbx.formatting import count_text, duration_text, start_of_day, zone_of
from pbx.model.snapshot import PartName, Queue, QueueMember, Snapshot, Trunk
from pbx.settings import Settings
from pbx.store.alerts import AlertChange, RuleCheck, list_rules, update_alerts, would_update_alerts
from pbx.store.engine import reading, writing
from pbx.store.listening_spans import listening_spans
from pbx.store.models import AlertRule, Job, PbxConnection
from pbx.store.pbx_connections import ActiveConnection
from pbx.store.snapshots import SUBJECT, TRUNKS, latest_snapshot, snapshot_gaps

STALE_INTERVALS = 3  # a snapshot older than this many collect intervals is too old
MIN_CALLS = 5  # a service level of fewer calls starts no alert
DOWN_STATES = {"unregistered", "rejected", "unreachable"}
# Values of QueueMember's Status: 4 invalid, 5 unavailable. app_queue doesn't ring these (get_member_status).
UNREACHABLE_STATUSES = {4, 5}

_QueueOrTrunk = TypeVar("_QueueOrTrunk", Queue, Trunk)


@dataclass(frozen=True)
class AlertContext:
    """What rules are evaluated against: the cache, and the latest snapshot unless it is too old (then None)."""

    session: Session
    connection_id: int
    interval_s: int
    zone: tzinfo
    now: datetime
    snapshot: Snapshot | None

    def queues(self, subject: str) -> tuple[Queue, ...] | None:
        """The queues that a rule is about ("" for all); None if their state is unknown now."""
        return None if not self._is_known("queues") or self.snapshot is None else _named(self.snapshot.queues, subject)

    def trunks(self, subject: str) -> tuple[Trunk, ...] | None:
        """The trunks that a rule is about ("" for all); None if their state is unknown now."""
        return None if not self._is_known("trunks") or self.snapshot is None else _named(self.snapshot.trunks, subject)

    def _is_known(self, part: PartName) -> bool:
        found = self.snapshot.parts.get(part) if self.snapshot else None
        return found is not None and found.state == "ok"


def evaluate_rules(engine: Engine, settings: Settings, active: ActiveConnection, now: datetime) -> list[AlertChange]:
    """Evaluate the enabled rules of a PBX at `now`, and return the alerts that have started or ended.

    Raises DataError.
    """
    changes: list[AlertChange] = []
    with reading(engine) as session:
        rules = list_rules(session, active.id, enabled=True)
        if not rules:
            return changes
        context = _context(session, settings, active, now)
        found = [(rule, EVALUATORS[rule.kind](context, rule)) for rule in rules if rule.kind in EVALUATORS]
        checks = [(rule.id, check) for rule, check in found if check and rule.id]
        checks = [(rule_id, check) for rule_id, check in checks if would_update_alerts(session, rule_id, check)]
    if checks:
        with writing(engine) as session:
            for rule_id, check in checks:
                changes += update_alerts(session, rule_id, check)
    return changes


def longest_wait(context: AlertContext, rule: AlertRule) -> RuleCheck | None:
    """A caller has been waiting for longer than `threshold` seconds."""
    queues = context.queues(rule.subject)
    if queues is None or context.snapshot is None:
        return None
    subjects = {
        queue.name: f"The first caller has been waiting for {duration_text(queue.longest_wait_s)}, longer than "
        f"{duration_text(rule.threshold)}. {count_text(queue.calls, 'caller')} waiting."
        for queue in queues
        if queue.calls and queue.longest_wait_s > rule.threshold
    }
    return RuleCheck(context.snapshot.taken_at, subjects)


def service_level(context: AlertContext, rule: AlertRule) -> RuleCheck | None:
    """Today's service level (`sl_inclusive`) is below `threshold` percent. Needs MIN_CALLS calls.

    Today starts at midnight in the PBX's time zone.
    """
    today = FigureFilter(
        context.connection_id, start_of_day(context.now, context.zone), context.now, rule.subject or None
    )
    subjects = {}
    targets = queue_targets(context.session, context.connection_id)
    for queue, figures in by_queue(context.session, today, targets).items():
        level = figures.sl_inclusive
        if level.denominator >= MIN_CALLS and level.percent is not None and level.percent < rule.threshold:
            subjects[queue] = (
                f"Today’s service level is {level.percent_text()}, below {rule.threshold:g}%: "
                f"{level.parts_text()} calls answered or abandoned within {targets.of(queue):g} s."
            )
    return RuleCheck(context.now, subjects)


def trunk_down(context: AlertContext, rule: AlertRule) -> RuleCheck | None:
    """A trunk has been unregistered or unreachable for at least `threshold` minutes of observed time."""
    trunks = context.trunks(rule.subject)
    if trunks is None or context.snapshot is None:
        return None
    subjects, unknown = {}, set()
    for trunk in trunks:
        if trunk.state == "unknown":
            unknown.add(trunk.name)
        elif trunk.state in DOWN_STATES:
            since = _down_since(context, trunk.name)
            if context.snapshot.taken_at - since >= timedelta(minutes=rule.threshold):
                down_s = (context.snapshot.taken_at - since).total_seconds()
                subjects[trunk.name] = f"It has been {trunk.state} for {duration_text(down_s)}."
    return RuleCheck(context.snapshot.taken_at, subjects, frozenset(unknown))


def no_agent(context: AlertContext, rule: AlertRule) -> RuleCheck | None:
    """No agent of a queue can take calls: none is logged in, or all are paused or have unreachable phones."""
    queues = context.queues(rule.subject)
    if queues is None or context.snapshot is None:
        return None
    subjects = {queue.name: _no_agent_text(queue) for queue in queues if not any(map(_can_take_calls, queue.members))}
    return RuleCheck(context.snapshot.taken_at, subjects)


def sync_failing(context: AlertContext, rule: AlertRule) -> RuleCheck | None:
    """The last `threshold` syncs have all failed."""
    count = max(int(rule.threshold), 1)
    ended = col(Job.kind) == "sync", col(Job.connection_id) == context.connection_id, col(Job.ended_at).is_not(None)
    query = select(col(Job.state), col(Job.error)).where(*ended).order_by(col(Job.ended_at).desc(), col(Job.id).desc())
    last = context.session.connection().execute(query.limit(count)).all()
    if len(last) < count or any(state != "failed" for state, _ in last):
        return RuleCheck(context.now, {})
    failed = "The last sync" if count == 1 else f"The last {count} syncs"
    return RuleCheck(context.now, {"": f"{failed} failed. {last[0].error}".strip()})


EVALUATORS: Mapping[str, Callable[[AlertContext, AlertRule], RuleCheck | None]] = {
    "longest_wait": longest_wait,
    "service_level": service_level,
    "trunk_down": trunk_down,
    "no_agent": no_agent,
    "sync_failing": sync_failing,
}


def _context(session: Session, settings: Settings, active: ActiveConnection, now: datetime) -> AlertContext:
    interval_s = settings.freepbx_collect_interval_minutes * 60
    row = session.get(PbxConnection, active.id)
    zone = zone_of(active.connection.timezone, row.utc_offset_s if row else None)
    found = latest_snapshot(session, active.id)
    if found and (now - found.taken_at).total_seconds() > STALE_INTERVALS * interval_s:
        found = None
    return AlertContext(session, active.id, interval_s, zone, now, found)


def _named(items: tuple[_QueueOrTrunk, ...], name: str) -> tuple[_QueueOrTrunk, ...]:
    return tuple(item for item in items if name in ("", item.name))


def _can_take_calls(member: QueueMember) -> bool:
    return not member.paused and member.status not in UNREACHABLE_STATUSES


def _no_agent_text(queue: Queue) -> str:
    waiting = f" {count_text(queue.calls, 'caller')} waiting." if queue.calls else ""
    if not queue.members:
        return f"No agent is logged in.{waiting}"
    paused = sum(member.paused for member in queue.members)
    agents = count_text(len(queue.members), "agent")
    return (
        f"No agent can take calls: of {agents}, {paused} paused and {len(queue.members) - paused} unreachable.{waiting}"
    )


def _down_since(context: AlertContext, trunk: str) -> datetime:
    """Since when a trunk has been observed down without interruption, up to the latest snapshot."""
    at = context.snapshot.taken_at if context.snapshot else context.now
    sample = TRUNKS.c
    mine = (
        sample.subject_id == SUBJECT.id,
        SUBJECT.connection_id == context.connection_id,
        SUBJECT.kind == "trunk",
        SUBJECT.name == trunk,
    )
    execute = context.session.connection().execute
    up = execute(select(func.max(case((sample.state.not_in(DOWN_STATES), sample.taken_at)))).where(*mine)).scalar()
    after = () if up is None else (sample.taken_at > up,)
    first: datetime | None = execute(select(func.min(sample.taken_at)).where(*mine, *after)).scalar()
    since = at if first is None or first > at else first
    gaps = snapshot_gaps(context.session, context.connection_id, since, at, context.interval_s)
    return max([since, *(end for start, end in gaps if not _listened(context, start, end))])


def _listened(context: AlertContext, start: datetime, end: datetime) -> bool:
    """Whether the listener ran during a time without snapshots: it stores every change of a trunk."""
    spans = listening_spans(context.session, context.connection_id, start, end)
    late = timedelta(seconds=context.interval_s)
    return any(since - start <= late and end - until <= late for since, until in spans)
