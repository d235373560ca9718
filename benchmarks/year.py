"""Generates a year of history: calls with their legs, queue visits, missed rings, logins and pauses.

Working days are busy from 08:00 to 20:00; nights and Sundays are quiet. Rows are inserted into the tables directly, for
four weeks at a time. The same seed gives the same year.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from sqlalchemy import Engine, func, insert, select
from sqlmodel import Session

from pbx.analytics.sealing import seal_history
from pbx.model.snapshot import Queue, QueueMember, Snapshot, SnapshotPart, System, Trunk
from pbx.store.engine import writing
from pbx.store.models import Table
from pbx.store.snapshots import store_latest

QUEUES = tuple(f"{600 + i}" for i in range(12))
AGENTS = tuple(f"Agent {i:03}" for i in range(200))
TRUNKS = ("carrier", "carrier-2", "mobile", "fax")
DIDS = tuple(f"4930555{100 + i}" for i in range(40))
REASONS = ("Lunch", "Break", "Training", "Paperwork", "")
DAYS = 365
SNAPSHOT_EVERY = timedelta(minutes=5)
_HOURS = np.array([1, 1, 1, 1, 1, 2, 4, 10, 40, 70, 80, 75, 50, 60, 75, 75, 70, 55, 30, 15, 8, 5, 3, 2], dtype=float)
_WEEKDAYS = np.array([1.2, 1.1, 1.0, 1.0, 0.9, 0.3, 0.05])
_OUTCOMES = ("answered", "abandoned", "timeout", "exit_empty", "exit_key", "transferred")
_SHARES = (0.80, 0.09, 0.04, 0.01, 0.02, 0.04)
Rows = list[dict[str, Any]]


def write_year(
    engine: Engine, connection_id: int, calls: int = 1_000_000, *, until: datetime | None = None, seed: int = 4
) -> None:
    """Write about `calls` calls of the year up to `until` (now), and seal its days.

    Four of five are inbound calls to a queue. Each call has about two legs. Each call to a queue has a visit, and one
    of three has a missed ring.
    """
    until = until or datetime.now(UTC)
    first = (until - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    random = np.random.default_rng(seed)
    weights = np.array([_WEEKDAYS[(first + timedelta(days=day)).weekday()] for day in range(DAYS + 1)])
    a_day = np.round(weights / weights.sum() * calls).astype(int)
    with writing(engine) as session:
        numbers = _Numbers.after(session)
    for start in range(0, DAYS + 1, 28):
        with writing(engine) as session:
            for day in range(start, min(start + 28, DAYS + 1)):
                midnight = int((first + timedelta(days=day)).timestamp())
                numbers = _write_day(session, connection_id, midnight, int(a_day[day]), until, numbers, random)
    seal_history(engine, connection_id, before=until)


def write_snapshots(engine: Engine, connection_id: int, *, until: datetime | None = None, seed: int = 5) -> None:
    """Write a snapshot every five minutes of the year up to `until` (now), with some gaps, and the newest one complete.

    One trunk of four is unregistered several times a day.
    """
    until = (until or datetime.now(UTC)).replace(microsecond=0)
    random = np.random.default_rng(seed)
    tables = Table.metadata.tables
    subjects = [("queue", name) for name in QUEUES] + [("trunk", name) for name in TRUNKS]
    with writing(engine) as session:
        rows = [
            {"connection_id": connection_id, "kind": kind, "name": name, "tech": "", "parent": "", "label": ""}
            for kind, name in subjects
        ]
        session.connection().execute(insert(tables["subjects"]), rows)
        found = session.connection().execute(select(tables["subjects"].c.id, tables["subjects"].c.name))
        ids = {name: id_ for id_, name in found}
    snapshots = int(timedelta(days=DAYS) / SNAPSHOT_EVERY)
    taken = random.random(snapshots) > 0.002
    for start in range(0, snapshots, 10_000):
        made: dict[str, Rows] = {"snapshots": [], "queue_samples": [], "trunk_samples": []}
        for number in range(start, min(start + 10_000, snapshots)):
            if taken[number]:
                _add_snapshot(made, connection_id, ids, until - SNAPSHOT_EVERY * (snapshots - 1 - number), random)
        with writing(engine) as session:
            for name, rows in made.items():
                session.connection().execute(insert(tables[name]), rows)
    with writing(engine) as session:
        store_latest(session, connection_id, _newest(until))
    seal_history(engine, connection_id, before=until)


def _add_snapshot(made: dict[str, Rows], connection_id: int, ids: dict[str, int], at: datetime, random: Any) -> None:
    made["snapshots"].append(
        {
            "connection_id": connection_id,
            "taken_at": at,
            "took_ms": 60,
            "active_calls": 9,
            "channels": 18,
            "incomplete_parts": {},
        }
    )
    busy = int(_HOURS[at.hour])
    for queue in QUEUES:
        calls = int(random.integers(1 + busy // 20))
        sample = {"calls": calls, "longest_wait_s": calls * 12, "agents_available": 6, "agents": 17, "agents_paused": 2}
        sample |= {"completed": 0, "abandoned": 0, "hold_time_s": 0, "talk_time_s": 0}
        made["queue_samples"].append(sample | {"subject_id": ids[queue], "taken_at": at})
    draws = random.random((len(TRUNKS), 2))
    for i, trunk in enumerate(TRUNKS):
        state = "unregistered" if i == 2 and draws[i, 0] < 0.02 else "registered"
        sample = {"state": state, "roundtrip_ms": 18 + 9 * float(draws[i, 1]), "channels": int(draws[i, 0] * busy / 4)}
        made["trunk_samples"].append(sample | {"subject_id": ids[trunk], "taken_at": at})


def _newest(at: datetime) -> Snapshot:
    members = tuple(QueueMember(name=AGENTS[i], interface=f"PJSIP/{1000 + i}", status=1 + i % 2) for i in range(17))
    return Snapshot(
        taken_at=at,
        system=System(version="22.1"),
        queues=tuple(
            Queue(name=name, calls=i % 3, longest_wait_s=i % 3 * 25, service_level_s=20, members=members)
            for i, name in enumerate(QUEUES)
        ),
        trunks=tuple(Trunk(name=name, tech="PJSIP", state="registered", registers=True, channels=7) for name in TRUNKS),
        parts={part: SnapshotPart() for part in ("system", "extensions", "trunks", "queues", "active_calls")},
    )


@dataclass(frozen=True)
class _Numbers:
    """The next free IDs."""

    call: int

    @classmethod
    def after(cls, session: Session) -> "_Numbers":
        calls = Table.metadata.tables["calls"].c.id
        return cls((session.connection().execute(select(func.max(calls))).scalar() or 0) + 1)


def _write_day(
    session: Session,
    connection_id: int,
    midnight_s: int,
    count: int,
    until: datetime,
    numbers: _Numbers,
    random: np.random.Generator,
) -> _Numbers:
    hours = random.choice(24, count, p=_HOURS / _HOURS.sum())
    at = np.sort(midnight_s + hours * 3600 + random.integers(0, 3600, count))
    at = at[at < until.timestamp() - 900]
    rows: dict[str, Rows] = {"calls": [], "call_legs": [], "queue_visits": [], "agent_rings": [], "agent_events": []}
    kinds = random.random(len(at))
    draws = random.random((len(at), 8))
    outcomes = random.choice(len(_OUTCOMES), len(at), p=_SHARES)
    for i, moment in enumerate(at.tolist()):
        call = _Call(connection_id, numbers.call + i, moment, draws[i].tolist())
        if kinds[i] < 0.8:
            call.queued(rows, _OUTCOMES[outcomes[i]])
        elif kinds[i] < 0.95:
            call.outbound(rows)
        else:
            call.internal(rows)
    _shifts(rows["agent_events"], connection_id, midnight_s, until, random)
    for name, found in rows.items():
        if found:
            session.connection().execute(insert(Table.metadata.tables[name]), found)
    return _Numbers(numbers.call + len(at))


@dataclass(frozen=True)
class _Call:
    """A call under construction; `draw` has random numbers from 0 to 1."""

    connection_id: int
    id: int
    at_s: int
    draw: list[float]

    def queued(self, rows: dict[str, Rows], outcome: str) -> None:
        answered = outcome in ("answered", "transferred")
        wait_s, talk_s = _round(-22 * _log(self.draw[0])), _round(-210 * _log(self.draw[1])) + 5
        queue, agent = _one(QUEUES, self.draw[2] ** 1.5), _one(AGENTS, self.draw[3])
        caller, did = f"+4930{int(self.draw[4] * 300_000):07}", _one(DIDS, self.draw[5])
        lasted_s = wait_s + (talk_s if answered else 0)
        self._call(rows, "inbound", caller, did, queue, agent if answered else "", "ANSWERED", lasted_s, wait_s, did)
        trunk = _one(TRUNKS, self.draw[6])
        self._leg(
            rows, f"PJSIP/{trunk}-{self.id:08x}", f"Local/{agent}", trunk, caller, did, lasted_s, "ANSWERED", None
        )
        if answered:
            self._leg(rows, f"Local/{agent}-{self.id:08x}", "PJSIP/1001", "", caller, did, talk_s, "ANSWERED", None)
        if self.draw[7] < 0.35:
            ring = {"rung_at": self._moment(wait_s // 2), "agent": _one(AGENTS, self.draw[1]), "queue": queue}
            rows["agent_rings"].append(self._connection() | ring | {"uniqueid": self._uniqueid(), "ring_s": 15.0})
        visit = {"uniqueid": self._uniqueid(), "queue": queue, "joined_at": self._moment(), "outcome": outcome}
        visit |= {"connected_at": self._moment(wait_s) if answered else None, "ended_at": self._moment(lasted_s)}
        visit |= {"wait_s": wait_s, "talk_s": talk_s if answered else None, "ring_s": 4.0 if answered else None}
        visit |= {"agent": agent if answered else "", "interface": "", "caller": caller, "caller_name": "", "did": did}
        visit |= {
            "position": 1,
            "original_position": 1,
            "ended_by": "caller" if answered else "",
            "source": "queue_log",
        }
        rows["queue_visits"].append(self._connection() | visit | {"target": "700" if outcome == "transferred" else ""})

    def outbound(self, rows: dict[str, Rows]) -> None:
        disposition = "ANSWERED" if self.draw[0] < 0.7 else "NO ANSWER" if self.draw[0] < 0.9 else "BUSY"
        talk_s = _round(-150 * _log(self.draw[1])) if disposition == "ANSWERED" else 0
        to, trunk = f"030{int(self.draw[4] * 300_000):07}", _one(TRUNKS, self.draw[6])
        extension = f"{1000 + int(self.draw[3] * 200)}"
        self._call(rows, "outbound", extension, to, "", f"PJSIP/{extension}", disposition, talk_s + 8, 8, "")
        channels = (f"PJSIP/{extension}-{self.id:08x}", f"PJSIP/{trunk}-{self.id:08x}")
        self._leg(rows, *channels, trunk, extension, to, talk_s + 8, disposition, 1 + 2 * self.draw[7])

    def internal(self, rows: dict[str, Rows]) -> None:
        talk_s, caller = _round(-60 * _log(self.draw[1])), f"{1000 + int(self.draw[3] * 200)}"
        self._call(rows, "internal", caller, "1234", "", "PJSIP/1234", "ANSWERED", talk_s + 4, 4, "")
        self._leg(rows, f"PJSIP/{caller}-{self.id:08x}", "PJSIP/1234", "", caller, "1234", talk_s, "ANSWERED", None)

    def _call(
        self,
        rows: dict[str, Rows],
        direction: str,
        caller: str,
        called: str,
        queue: str,
        agent: str,
        disposition: str,
        lasted_s: int,
        wait_s: int,
        did: str,
    ) -> None:
        call = {"id": self.id, "source": "freepbx", "linkedid": self._uniqueid(), "uniqueid": self._uniqueid()}
        call |= {"direction": direction, "from_number": caller, "to_number": called, "queue": queue, "agent": agent}
        call |= {"started_at": self._moment(), "duration_s": lasted_s, "state": "listed", "transcription": "new"}
        call |= {"from_name": "", "did": did, "disposition": disposition, "wait_s": wait_s}
        rows["calls"].append(self._connection() | call | {"talk_s": max(lasted_s - wait_s, 0)})

    def _leg(
        self,
        rows: dict[str, Rows],
        channel: str,
        dst_channel: str,
        trunk: str,
        src: str,
        dst: str,
        lasted_s: int,
        disposition: str,
        pdd_s: float | None,
    ) -> None:
        is_answered = disposition == "ANSWERED"
        leg = {"call_id": self.id, "linkedid": self._uniqueid(), "uniqueid": self._uniqueid(), "channel": channel}
        leg |= {"dst_channel": dst_channel, "trunk": trunk, "src": src, "dst": dst, "did": "", "context": "from-trunk"}
        leg |= {
            "last_app": "Dial",
            "started_at": self._moment(),
            "answered_at": self._moment() if is_answered else None,
        }
        leg |= {"ended_at": self._moment(lasted_s), "duration_s": lasted_s, "billsec_s": lasted_s if is_answered else 0}
        leg |= {"disposition": disposition, "cause": 16 if is_answered else 19, "pdd_s": pdd_s, "recording_file": ""}
        rows["call_legs"].append(self._connection() | leg | {"sequence": None, "source": "cdr"})

    def _uniqueid(self) -> str:
        return f"{self.at_s}.{self.id}"

    def _moment(self, after_s: float = 0) -> datetime:
        return datetime.fromtimestamp(self.at_s + after_s, UTC)

    def _connection(self) -> dict[str, Any]:
        return {"connection_id": self.connection_id}


def _shifts(rows: Rows, connection_id: int, midnight_s: int, until: datetime, random: np.random.Generator) -> None:
    """Log agents in on working days, with three pauses each."""
    if datetime.fromtimestamp(midnight_s, UTC).weekday() > 4:
        return
    for agent in AGENTS:
        login_at, logout_at = (
            midnight_s + 7 * 3600 + int(random.integers(3600)),
            midnight_s + 17 * 3600 + int(random.integers(7200)),
        )
        queue = _one(QUEUES, float(random.random()))
        events = [(login_at, "login", ""), (logout_at, "logout", "")]
        for hour in (10, 12, 15):
            pause_at, reason = (
                midnight_s + hour * 3600 + int(random.integers(1800)),
                _one(REASONS, float(random.random())),
            )
            events += [(pause_at, "pause", reason), (pause_at + 300 + int(random.integers(1800)), "unpause", "")]
        rows += [
            {"connection_id": connection_id, "happened_at": datetime.fromtimestamp(at, UTC), "agent": agent}
            | {"queue": queue, "kind": kind, "reason": reason}
            for at, kind, reason in events
            if at < until.timestamp()
        ]


def _one(names: tuple[str, ...], draw: float) -> str:
    return names[min(int(draw * len(names)), len(names) - 1)]


def _round(value: float) -> int:
    return int(value)


def _log(draw: float) -> float:
    return float(np.log(max(draw, 1e-9)))
