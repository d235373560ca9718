"""Writes the snapshots that a worker would have taken during the simulated history, in bulk.

Each snapshot samples all queues and trunks, and those members and extensions that have changed since the previous
snapshot, as in pbx.store.snapshots. Changes of a trunk are also sampled when they happen.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import insert, select
from sqlmodel import Session

from pbx.demo.channels import DEVICE_IDLE, DEVICE_IN_USE, DEVICE_RINGING, DEVICE_STATES, DEVICE_UNAVAILABLE
from pbx.demo.company import AGENTS, PHONES, QUEUES, TRUNKS, UNUSED_PHONE, PlannedCall
from pbx.demo.queue_counters import Boot, QueueCounters, counters_at, seconds_between
from pbx.demo.simulated_asterisk import last_regular_boot, roundtrip_us
from pbx.demo.simulated_day import WRAP_UP_S
from pbx.demo.simulated_history import agent_changes_of_day, days_between, trunk_changes_of_day
from pbx.model.history import AgentEvent
from pbx.store.models import Table

LONGEST_SHIFT = timedelta(hours=20)  # nothing in a snapshot has lasted longer
SNAPSHOT_EVERY = timedelta(minutes=5)
_TOOK_MS = 40
_STATES = {"Registered": "registered", "Unregistered": "unregistered", "Rejected": "rejected"}
_AGENTS = {agent.name: agent for agent in AGENTS}
_TABLES = {
    name: Table.metadata.tables[name]
    for name in ("snapshots", "queue_samples", "trunk_samples", "member_samples", "extension_samples")
}
_SUBJECTS = Table.metadata.tables["subjects"]
_SampleRow = dict[str, Any]
_RowsByTable = dict[str, list[_SampleRow]]
# The moment, the place among the changes of the same moment, and the change.
_ScheduledChange = tuple[datetime, int, Callable[[], None]]


def write_snapshots(
    session: Session, connection_id: int, calls: Sequence[PlannedCall], since: datetime, until: datetime
) -> None:
    """Add a snapshot every SNAPSHOT_EVERY from `since` up to `until`. `calls` begin LONGEST_SHIFT before `since`.

    Samples that a worker took in the same second are kept.
    """
    step = SNAPSHOT_EVERY
    replay = _Replay(calls, since, until)
    rows: _RowsByTable = defaultdict(list)
    ids = _subjects(session, connection_id)
    at = _next_multiple(since, step)
    while at < until:
        replay.go_to(at)
        for table, found in replay.samples(at, ids):
            rows[table].append(found)
        rows["snapshots"].append(_snapshot(connection_id, at, replay))
        at += step
    replay.go_to(until)
    for changed_at, trunk, sample in replay.trunk_changes:
        if since <= changed_at < until:
            rows["trunk_samples"].append(_key(ids["trunk", trunk, ""], changed_at) | sample)
    for table, samples in rows.items():
        session.connection().execute(insert(_TABLES[table]).prefix_with("OR IGNORE", dialect="sqlite"), samples)


def _next_multiple(at: datetime, step: timedelta) -> datetime:
    """The first multiple of `step`, counted from 1970, that isn't before `at`."""
    step_s = int(step.total_seconds())
    return datetime.fromtimestamp(math.ceil(at.timestamp() / step_s) * step_s, UTC)


def _snapshot(connection_id: int, at: datetime, replay: "_Replay") -> _SampleRow:
    counts = {"active_calls": replay.calls, "channels": replay.channels}
    return {"connection_id": connection_id, "taken_at": at, "took_ms": _TOOK_MS, "incomplete_parts": {}} | counts


def _key(subject_id: int, at: datetime) -> _SampleRow:
    return {"subject_id": subject_id, "taken_at": at.replace(microsecond=0)}


def _subjects(session: Session, connection_id: int) -> dict[tuple[str, str, str], int]:
    """The ids of all sampled things by kind, name and, for a member, queue. Adds missing rows."""
    wanted = {("queue", queue.number, ""): "" for queue in QUEUES} | {("trunk", trunk.name, ""): "" for trunk in TRUNKS}
    wanted |= {("member", one.interface, queue): one.name for one in AGENTS for queue in one.queues}
    wanted |= {("extension", one.extension, ""): "" for one in (*PHONES, UNUSED_PHONE)}
    stored = _stored_subjects(session, connection_id)
    rows = [
        {"connection_id": connection_id, "kind": kind, "name": name, "parent": parent, "label": label}
        | {"tech": "PJSIP" if kind == "extension" else ""}
        for (kind, name, parent), label in wanted.items()
        if (kind, name, parent) not in stored
    ]
    if rows:
        session.connection().execute(insert(_SUBJECTS), rows)
    return _stored_subjects(session, connection_id)


def _stored_subjects(session: Session, connection_id: int) -> dict[tuple[str, str, str], int]:
    of = _SUBJECTS.c
    query = select(of.kind, of.name, of.parent, of.id).where(of.connection_id == connection_id)
    return {(kind, name, parent): id_ for kind, name, parent, id_ in session.connection().execute(query)}


@dataclass
class _QueueTally:
    """The counters of a queue in app_queue. In the moving averages, each new value counts a quarter."""

    waiting: dict[str, datetime] = field(default_factory=dict)
    completed: int = 0
    abandoned: int = 0
    hold_s: int = 0
    talk_s: int = 0

    def set(self, counted: QueueCounters) -> None:
        """Take over these counters."""
        self.completed, self.abandoned = counted.completed, counted.abandoned
        self.hold_s, self.talk_s = counted.hold_s, counted.talk_s

    def sample(self, at: datetime) -> _SampleRow:
        """What a snapshot shows of the queue, without its members."""
        longest_s = max((seconds_between(joined_at, at) for joined_at in self.waiting.values()), default=0)
        averages = {"hold_time_s": self.hold_s, "talk_time_s": self.talk_s}
        counted = {"completed": self.completed, "abandoned": self.abandoned}
        return {"calls": len(self.waiting), "longest_wait_s": longest_s} | counted | averages


class _Replay:
    """Replays the history, and has the state of the PBX at the moment that it has reached."""

    def __init__(self, calls: Sequence[PlannedCall], since: datetime, until: datetime) -> None:
        self.queues = {queue.number: _QueueTally() for queue in QUEUES}
        # Of each logged-in agent, by queue and name: the reason of their pause, None while not paused.
        self.paused: dict[tuple[str, str], str | None] = {}
        self.phones = {one.extension: DEVICE_IDLE for one in PHONES} | {UNUSED_PHONE.extension: DEVICE_UNAVAILABLE}
        self.serving: dict[str, str] = {}  # by extension: the queue whose caller they talk to
        self.last_call_ended: dict[tuple[str, str], datetime] = {}  # by queue and agent: when the last call ended
        self.trunk_channels = dict.fromkeys((trunk.name for trunk in TRUNKS), 0)
        self.registrations = dict.fromkeys(self.trunk_channels, "registered")
        self.calls = self.channels = 0
        self.trunk_changes: list[tuple[datetime, str, _SampleRow]] = []
        self._last: dict[tuple[str, int], _SampleRow] = {}
        moments: list[_ScheduledChange] = []
        for call in calls:
            moments += self._call_changes(call)
        for day in days_between(since - LONGEST_SHIFT, until):
            for change in agent_changes_of_day(day):
                moments.append((change.happened_at, 1, partial(self._change_agent, change)))
            for at, trunk, state in trunk_changes_of_day(day):
                moments.append((at, 1, partial(self._change_trunk, trunk, _STATES[state], at)))
        booted_at = last_regular_boot(until)
        while booted_at > since:
            moments.append((booted_at, 2, self._restart))
            booted_at = last_regular_boot(booted_at - timedelta(seconds=1))
        moments.append((since, 3, partial(self._continue_counters, Boot(booted_at), since)))
        moments.sort(key=lambda moment: moment[:2])
        self._moments: Iterator[_ScheduledChange] = iter(moments)
        self._next = next(self._moments, None)

    def go_to(self, at: datetime) -> None:
        """Replay all changes up to a moment."""
        while self._next is not None and self._next[0] <= at:
            self._next[2]()
            self._next = next(self._moments, None)

    def samples(self, at: datetime, ids: Mapping[tuple[str, str, str], int]) -> Iterator[tuple[str, _SampleRow]]:
        """The samples of a moment, each with the name of its table."""
        for name, queue in self.queues.items():
            members = {agent: why for (of, agent), why in self.paused.items() if of == name}
            idle = [agent for agent, why in members.items() if why is None and self._is_idle(agent)]
            free = sum(not self._wraps_up(name, agent, at) for agent in idle)
            counts = {"agents": len(members), "agents_paused": sum(why is not None for why in members.values())}
            yield (
                "queue_samples",
                _key(ids["queue", name, ""], at) | queue.sample(at) | {"agents_available": free} | counts,
            )
        for name, state in self.registrations.items():
            yield "trunk_samples", _key(ids["trunk", name, ""], at) | self.trunk(name, state, at)
        for agent in AGENTS:
            for name in agent.queues:
                key = ids["member", agent.interface, name]
                yield from self._changed("member_samples", key, at, self._member(name, agent.name, agent.extension))
        for extension, state_now in self.phones.items():
            key = ids["extension", extension, ""]
            yield from self._changed("extension_samples", key, at, {"status": DEVICE_STATES[state_now]})

    def trunk(self, name: str, state: str, at: datetime) -> _SampleRow:
        """What a snapshot shows of a trunk."""
        roundtrip_ms = roundtrip_us(name, at) / 1000
        return {"state": state, "roundtrip_ms": roundtrip_ms, "channels": self.trunk_channels[name]}

    def _is_idle(self, agent: str) -> bool:
        return self.phones[_AGENTS[agent].extension] == DEVICE_IDLE

    def _wraps_up(self, queue: str, agent: str, at: datetime) -> bool:
        left_at = self.last_call_ended.get((queue, agent))
        return left_at is not None and (at - left_at).total_seconds() < WRAP_UP_S

    def _member(self, queue: str, agent: str, extension: str) -> _SampleRow:
        if (queue, agent) not in self.paused:
            return {"status": None, "paused": False, "pause_reason": "", "in_call": False}
        why = self.paused[queue, agent]
        sample = {"status": self.phones[extension], "in_call": self.serving.get(extension) == queue}
        return sample | {"paused": why is not None, "pause_reason": why or ""}

    def _changed(self, table: str, key: int, at: datetime, row: _SampleRow) -> Iterator[tuple[str, _SampleRow]]:
        last = self._last.get((table, key))
        if last != row and not (last is None and row.get("status", "") is None):
            self._last[table, key] = row
            yield table, _key(key, at) | row

    def _change_trunk(self, trunk: str, state: str, at: datetime) -> None:
        self.registrations[trunk] = state
        self.trunk_changes.append((at, trunk, self.trunk(trunk, state, at)))

    def _restart(self) -> None:
        for queue in self.queues.values():
            queue.set(QueueCounters())

    def _continue_counters(self, boot: Boot, at: datetime) -> None:
        for name, queue in self.queues.items():
            queue.set(counters_at(boot, name, at))

    def _change_agent(self, change: AgentEvent) -> None:
        key = change.queue, change.agent
        if change.kind == "logout":
            self.paused.pop(key, None)
        elif change.kind == "pause":
            self.paused[key] = change.reason
        else:
            self.paused[key] = None

    def _call_changes(self, call: PlannedCall) -> Iterator[_ScheduledChange]:
        trunk = call.trunk
        yield call.started_at, 1, partial(self._count, trunk, 1)
        yield call.ended_at, 0, partial(self._count, trunk, -1)
        if call.joined_at is not None and call.left_at is not None:
            yield from self._visit_changes(call, call.joined_at, call.left_at)
        elif call.agent is not None:
            yield from self._phone_changes(call.agent.extension, DEVICE_IN_USE, call.started_at, call.ended_at)
            if call.direction == "internal":
                rung_until = call.answered_at or call.ended_at
                yield from self._phone_changes(call.to_number, DEVICE_RINGING, call.started_at, rung_until)
                if call.answered_at is not None:
                    yield from self._phone_changes(call.to_number, DEVICE_IN_USE, call.answered_at, call.ended_at)

    def _visit_changes(self, call: PlannedCall, joined_at: datetime, left_at: datetime) -> Iterator[_ScheduledChange]:
        queue = self.queues[call.queue]
        yield joined_at, 1, partial(queue.waiting.__setitem__, call.uniqueid, joined_at)
        for ring in call.rings:
            over_at = ring.at + timedelta(seconds=ring.ring_s)
            if ring.answered and call.answered_at is not None:
                over_at = call.answered_at
            yield from self._phone_changes(ring.agent.extension, DEVICE_RINGING, ring.at, over_at)
        answered_at = call.answered_at
        if answered_at is None or call.agent is None:
            yield left_at, 1, partial(self._abandon, queue, call.uniqueid)
            return
        yield answered_at, 1, partial(self._connect, queue, call, seconds_between(joined_at, answered_at))
        yield left_at, 1, partial(self._complete, queue, call, seconds_between(answered_at, left_at))
        yield from self._phone_changes(call.agent.extension, DEVICE_IN_USE, answered_at, left_at)
        if call.target:
            picked_up_at = left_at + timedelta(seconds=call.target_ring_s)
            yield from self._phone_changes(call.target, DEVICE_RINGING, left_at, picked_up_at)
            yield from self._phone_changes(call.target, DEVICE_IN_USE, picked_up_at, call.ended_at)

    def _phone_changes(
        self, extension: str, state: int, from_at: datetime, to_at: datetime
    ) -> Iterator[_ScheduledChange]:
        yield from_at, 1, partial(self._use, extension, state, 1)
        yield to_at, 0, partial(self._use, extension, DEVICE_IDLE, -1)

    def _use(self, extension: str, state: int, channels: int) -> None:
        self.phones[extension] = state
        self.channels += channels

    def _count(self, trunk: str, by: int) -> None:
        self.calls += by
        if trunk:
            self.trunk_channels[trunk] += by
            self.channels += by

    def _connect(self, queue: _QueueTally, call: PlannedCall, wait_s: int) -> None:
        queue.waiting.pop(call.uniqueid, None)
        queue.hold_s = (queue.hold_s * 3 + wait_s) // 4 if queue.completed + queue.abandoned else wait_s
        if call.agent is not None:
            self.serving[call.agent.extension] = call.queue

    def _complete(self, queue: _QueueTally, call: PlannedCall, talk_s: int) -> None:
        queue.talk_s = (queue.talk_s * 3 + talk_s) // 4 if queue.completed else talk_s
        queue.completed += 1
        if call.agent is not None:
            self.serving.pop(call.agent.extension, None)
            if call.left_at is not None:
                ended_at = call.left_at.replace(microsecond=0)  # as AMI reports it
                self.last_call_ended[call.queue, call.agent.name] = ended_at

    def _abandon(self, queue: _QueueTally, uniqueid: str) -> None:
        queue.waiting.pop(uniqueid, None)
        queue.abandoned += 1
