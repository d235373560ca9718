"""Alerts begin and end: each rule is held against the cache, and nothing else is asked.

A look too old to tell how things stand now neither begins nor ends an alert.
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
from pbx.store.alerts import Change, Seen, list_rules, settle, would_change
from pbx.store.connections import ActiveConnection
from pbx.store.engine import reading, writing
from pbx.store.listening import listening_spans
from pbx.store.models import AlertRule, Job, PbxConnection
from pbx.store.snapshots import TRUNKS, S, latest_snapshot, snapshot_gaps

STALE_INTERVALS = 3  # a snapshot older than so many intervals is not how things stand
MIN_CALLS = 5  # a service level of fewer calls begins no alert
DOWN_STATES = {"unregistered", "rejected", "unreachable"}
# Of QueueMember's Status: 4 invalid, 5 unavailable. app_queue rings none of these (get_member_status), nor the paused.
UNREACHABLE_STATUSES = {4, 5}

Named = TypeVar("Named", Queue, Trunk)


@dataclass(frozen=True)
class AlertContext:
    """What rules are held against. `snapshot` is None without a fresh one."""

    session: Session
    connection_id: int
    interval_s: int
    zone: tzinfo
    now: datetime
    snapshot: Snapshot | None

    def queues(self, subject: str) -> tuple[Queue, ...] | None:
        """The queues a rule is about; None when they can't be seen now."""
        return None if not self._sees("queues") or self.snapshot is None else _named(self.snapshot.queues, subject)

    def trunks(self, subject: str) -> tuple[Trunk, ...] | None:
        """The trunks a rule is about; None when they can't be seen now."""
        return None if not self._sees("trunks") or self.snapshot is None else _named(self.snapshot.trunks, subject)

    def _sees(self, part: PartName) -> bool:
        found = self.snapshot.parts.get(part) if self.snapshot else None
        return found is not None and found.state == "ok"


def evaluate(engine: Engine, settings: Settings, active: ActiveConnection, now: datetime) -> list[Change]:
    """Let the alerts of a PBX begin and end as its enabled rules hold at a moment, and return those that did.

    Reads only the cache. Raises DataError.
    """
    changes: list[Change] = []
    with reading(engine) as session:
        rules = list_rules(session, active.id, enabled=True)
        if not rules:
            return changes
        look = _context(session, settings, active, now)
        found = [(rule, EVALUATORS[rule.kind](look, rule)) for rule in rules if rule.kind in EVALUATORS]
        news = [(rule.id, seen) for rule, seen in found if seen and rule.id and would_change(session, rule.id, seen)]
    if news:
        with writing(engine) as session:
            for rule_id, seen in news:
                changes += settle(session, rule_id, seen)
    return changes


def longest_wait(look: AlertContext, rule: AlertRule) -> Seen | None:
    """A caller waits longer than `threshold` seconds."""
    queues = look.queues(rule.subject)
    if queues is None or look.snapshot is None:
        return None
    held = {
        queue.name: f"The first of {count_text(queue.calls, 'caller')} has waited {duration_text(queue.longest_wait_s)}"
        f", longer than {duration_text(rule.threshold)}."
        for queue in queues
        if queue.calls and queue.longest_wait_s > rule.threshold
    }
    return Seen(look.snapshot.taken_at, held)


def service_level(look: AlertContext, rule: AlertRule) -> Seen | None:
    """Since midnight in the PBX's zone, `sl_inclusive` is below `threshold` percent, of LEAST_CALLS calls at least."""
    today = FigureFilter(look.connection_id, start_of_day(look.now, look.zone), look.now, rule.subject or None)
    held = {}
    targets = queue_targets(look.session, look.connection_id)
    for queue, figures in by_queue(look.session, today, targets).items():
        level = figures.sl_inclusive
        if level.denominator >= MIN_CALLS and level.percent is not None and level.percent < rule.threshold:
            held[queue] = (
                f"Today’s service level is {level.percent_text()}, below {rule.threshold:g}%: "
                f"{level.parts_text()} calls answered or given up within {targets.of(queue):g} s."
            )
    return Seen(look.now, held)


def trunk_down(look: AlertContext, rule: AlertRule) -> Seen | None:
    """A trunk has not been registered, or reachable, for `threshold` minutes, as far as it was looked at."""
    trunks = look.trunks(rule.subject)
    if trunks is None or look.snapshot is None:
        return None
    held, unknown = {}, set()
    for trunk in trunks:
        if trunk.state == "unknown":
            unknown.add(trunk.name)
        elif trunk.state in DOWN_STATES:
            since = _down_since(look, trunk.name)
            if look.snapshot.taken_at - since >= timedelta(minutes=rule.threshold):
                minutes_s = (look.snapshot.taken_at - since).total_seconds()
                held[trunk.name] = f"It has been {trunk.state} for {duration_text(minutes_s)}."
    return Seen(look.snapshot.taken_at, held, frozenset(unknown))


def no_agent(look: AlertContext, rule: AlertRule) -> Seen | None:
    """A queue has nobody it could ring: no agent is in it, or all are paused or their telephones can't be reached."""
    queues = look.queues(rule.subject)
    if queues is None or look.snapshot is None:
        return None
    held = {queue.name: _no_agent_text(queue) for queue in queues if not any(map(_can_take_calls, queue.members))}
    return Seen(look.snapshot.taken_at, held)


def sync_failing(look: AlertContext, rule: AlertRule) -> Seen | None:
    """The last `threshold` syncs that ended have all failed."""
    count = max(int(rule.threshold), 1)
    ended = col(Job.kind) == "sync", col(Job.connection_id) == look.connection_id, col(Job.ended_at).is_not(None)
    query = select(col(Job.state), col(Job.error)).where(*ended).order_by(col(Job.ended_at).desc(), col(Job.id).desc())
    last = look.session.connection().execute(query.limit(count)).all()
    if len(last) < count or any(state != "failed" for state, _ in last):
        return Seen(look.now, {})
    failed = "The last sync" if count == 1 else f"The last {count} syncs"
    return Seen(look.now, {"": f"{failed} failed. {last[0].error}".strip()})


EVALUATORS: Mapping[str, Callable[[AlertContext, AlertRule], Seen | None]] = {
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


def _named(items: tuple[Named, ...], name: str) -> tuple[Named, ...]:
    return tuple(item for item in items if name in ("", item.name))


def _can_take_calls(member: QueueMember) -> bool:
    return not member.paused and member.status not in UNREACHABLE_STATUSES


def _no_agent_text(queue: Queue) -> str:
    waiting = f" {count_text(queue.calls, 'caller')} waiting." if queue.calls else ""
    if not queue.members:
        return f"No agent is logged in.{waiting}"
    paused = sum(member.paused for member in queue.members)
    agents = count_text(len(queue.members), "agent")
    return f"Nobody to take a call: of {agents} {paused} paused, {len(queue.members) - paused} not reachable.{waiting}"


def _down_since(look: AlertContext, trunk: str) -> datetime:
    """Since when a trunk that is down now was seen down: without a break, and without a gap in the looks."""
    at = look.snapshot.taken_at if look.snapshot else look.now
    sample = TRUNKS.c
    mine = sample.subject_id == S.id, S.connection_id == look.connection_id, S.kind == "trunk", S.name == trunk
    execute = look.session.connection().execute
    up = execute(select(func.max(case((sample.state.not_in(DOWN_STATES), sample.taken_at)))).where(*mine)).scalar()
    after = () if up is None else (sample.taken_at > up,)
    first: datetime | None = execute(select(func.min(sample.taken_at)).where(*mine, *after)).scalar()
    since = at if first is None or first > at else first
    gaps = snapshot_gaps(look.session, look.connection_id, since, at, look.interval_s)
    return max([since, *(end for start, end in gaps if not _listened(look, start, end))])


def _listened(look: AlertContext, start: datetime, end: datetime) -> bool:
    """Whether a time without snapshots was listened to: the watch stores what changes as it changes."""
    spans = listening_spans(look.session, look.connection_id, start, end)
    late = timedelta(seconds=look.interval_s)
    return any(since - start <= late and end - until <= late for since, until in spans)
