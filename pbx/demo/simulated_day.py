"""Simulates the calls of a day: who calls when, who is free to answer, and who abandons. Pure and deterministic.

For each caller, a queue rings one agent at a time. An agent's calls never overlap.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from random import Random
from typing import Literal

from pbx.demo.company import (
    BILLING,
    QUEUES,
    SALES,
    STAFF,
    SUPPORT,
    Agent,
    PlannedCall,
    PlannedRing,
    caller_of,
)
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS, SampleRecording
from pbx.demo.shifts_and_outages import (
    FLAPPING,
    HOUR_S,
    STEADY,
    DayClock,
    Shift,
    outages_of_day,
    seeded_random,
    shifts_of_day,
)
from pbx.model.history import VisitOutcome

WRAP_UP_S = 30.0
RETRY_S = 5.0
RING_TIMEOUT_S = 15.0
QUEUE_TIMEOUT_S = 180.0
# Inbound calls in each hour of a working day. In the evening and at night, when only support is open, the company gets
# more calls than a real one would, so that the demo always shows some.
_CALLS_BY_HOUR: tuple[int, ...] = (7, 7, 6, 6, 6, 6, 7, 8, 12, 19, 34, 18, 13, 15, 30, 17, 13, 10, 9, 9, 9, 9, 8, 7)
_WEEKEND_SHARE = 0.6
_QUIET_TALK_FACTOR = 1.2  # calls last longer in the evening, at night and at weekends
_TALK_TIMES = {SALES: (270.0, 0.65), SUPPORT: (330.0, 0.6), BILLING: (300.0, 0.6)}  # median seconds, spread
_QUEUE_SHARES = ((SALES, 0.36), (SUPPORT, 0.4), (BILLING, 0.24))


@dataclass(slots=True)
class _Caller:
    """A caller in a queue."""

    call: "_CallInProgress"
    queue: str
    joined_s: float
    ringing: tuple[Agent, float] | None = None  # the agent whose telephone rings, and since when
    gone: bool = False


@dataclass(slots=True)
class _CallInProgress:
    """A call during the simulation. Times are seconds of the day."""

    start_s: float
    direction: Literal["inbound", "outbound", "internal"]
    from_number: str
    from_name: str = ""
    to_number: str = ""
    trunk: str = ""
    did: str = ""
    queue: str = ""
    joined_s: float | None = None
    outcome: VisitOutcome | Literal[""] = ""
    rings: list[tuple[Agent, float, float, bool, bool]] = field(default_factory=list)  # the fields of PlannedRing
    agent: Agent | None = None
    answered_s: float | None = None
    left_s: float | None = None
    end_s: float = 0.0
    cause: int = 16
    pdd_s: float | None = None
    ended_by: str = "caller"
    recording: str = ""
    target: str = ""
    target_ring_s: float = 0.0


def simulate_day(day: date) -> tuple[PlannedCall, ...]:
    """All calls that start on a local day, sorted by their start."""
    return _Day(day).run()


class _Day:
    """The simulation of one day. Each scheduled action happens at its second and may schedule others."""

    def __init__(self, day: date) -> None:
        self.clock = DayClock(day)
        self.random: Random = seeded_random(day, "calls")
        self.shifts: dict[str, Shift] = {shift.agent.extension: shift for shift in shifts_of_day(day)}
        self.outages = outages_of_day(day)
        self.busy_until: dict[str, float] = {}
        self.waiting: dict[str, list[_Caller]] = {queue.number: [] for queue in QUEUES}
        self.calls: list[_CallInProgress] = []
        self.schedule: list[tuple[float, int, Callable[[float], None]]] = []
        self.sequence = itertools.count()
        # Two calls a day are recorded, with another pair of samples each day: the first answered in the sample's queue
        # after 10:00 and after 13:30.
        samples, first = list(SAMPLE_RECORDINGS.values()), day.toordinal() * 2
        self.recordings: list[tuple[float, SampleRecording]] = [
            (self.clock.second_of(10), samples[first % len(samples)]),
            (self.clock.second_of(13.5), samples[(first + 1) % len(samples)]),
        ]

    def run(self) -> tuple[PlannedCall, ...]:
        """All calls that start on the day, sorted by their start."""
        self._plan()
        while self.schedule:
            second, _, act = heapq.heappop(self.schedule)
            act(second)
        self.calls.sort(key=lambda call: call.start_s)
        return tuple(self._as_planned_call(index, call) for index, call in enumerate(self.calls))

    def _plan(self) -> None:
        for hour, rate in enumerate(_CALLS_BY_HOUR):
            share = _WEEKEND_SHARE if self.clock.weekend and 8 <= hour < 18 else 1.0
            begin, end = self.clock.second_of(hour), self.clock.second_of(hour + 1)
            self._scatter(begin, end, rate * share * self.random.uniform(0.85, 1.15), self._start_inbound)
            if 8 <= hour < 18:
                self._scatter(begin, end, 3.8 * share, self._start_outbound)
                self._scatter(begin, end, 2.2 * share, self._start_internal)
        for shift in self.shifts.values():
            for second in (shift.from_s, *(pause.to_s for pause in shift.pauses)):
                self._schedule(second, self._serve_all)

    def _scatter(self, begin_s: float, end_s: float, count: float, act: Callable[[float], None]) -> None:
        """Schedule `count` actions an hour at random moments, except in the last six minutes of a day."""
        second, end_s = begin_s, min(end_s, self.clock.length_s - 360)
        while end_s > begin_s and (second := second + self.random.expovariate(count / HOUR_S)) < end_s:
            self._schedule(second, act)

    def _schedule(self, second: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self.schedule, (second, next(self.sequence), act))

    def _trunk_is_out(self, second: float) -> bool:
        return any(since <= second < until for since, until, _ in self.outages)

    # Calls to the queues

    def _start_inbound(self, second: float) -> None:
        number, name = caller_of(self.random.randrange(600))
        hour = self.clock.hour_of(second)
        queue = self.random.choices([one for one, _ in _QUEUE_SHARES], [weight for _, weight in _QUEUE_SHARES])[0]
        self._call_queue(second, number, name, queue if 8 <= hour < 17.3 else SUPPORT)

    def _call_queue(self, second: float, number: str, name: str, queue: str) -> None:
        flapping = self.random.random() < 0.28 and not self._trunk_is_out(second)
        did = next(one.dids for one in QUEUES if one.number == queue)[flapping]
        joined_s = second + self.random.uniform(2.5, 9)
        call = _CallInProgress(
            second, "inbound", number, name, did, (FLAPPING if flapping else STEADY).name, did, queue, joined_s
        )
        self.calls.append(call)
        caller = _Caller(call, queue, joined_s)
        hasty = self.random.random() < 0.05
        patience_s = self.random.uniform(2, 25) if hasty else 10 + self.random.weibullvariate(210, 1.5)
        self._schedule(joined_s, lambda now: self._join(caller))
        self._schedule(joined_s + min(patience_s, QUEUE_TIMEOUT_S), lambda now: self._leave_queue(caller, now))

    def _join(self, caller: _Caller) -> None:
        self.waiting[caller.queue].append(caller)
        self._serve(caller.queue, caller.joined_s)

    def _serve_all(self, second: float) -> None:
        for queue in self.waiting:
            self._serve(queue, second)

    def _serve(self, queue: str, second: float) -> None:
        for caller in self.waiting[queue]:
            if caller.ringing is None:
                agent = self._free_agent(queue, second)
                if agent is None:
                    return
                self._ring(caller, agent, second)

    def _free_agent(self, queue: str, second: float) -> Agent | None:
        free = [
            shift.agent
            for shift in self.shifts.values()
            if queue in shift.agent.queues and self._is_free(shift.agent, second)
        ]
        return min(free, key=lambda agent: self.busy_until.get(agent.extension, -1.0), default=None)

    def _is_free(self, agent: Agent, second: float) -> bool:
        shift = self.shifts.get(agent.extension)
        available = (
            shift.free(second) if shift is not None else not agent.queues and 8 <= self.clock.hour_of(second) < 18
        )
        return available and self.busy_until.get(agent.extension, -1.0) <= second

    def _occupy(self, agent: Agent, until_s: float) -> None:
        self.busy_until[agent.extension] = until_s

    def _ring(self, caller: _Caller, agent: Agent, second: float) -> None:
        answers = self.random.random() > 0.06
        ring_s = 2 + self.random.gammavariate(3, 1.4) if answers else RING_TIMEOUT_S
        ring_s = min(ring_s, RING_TIMEOUT_S)
        caller.ringing = (agent, second)
        self._occupy(agent, second + ring_s)
        self._schedule(second + ring_s, lambda now: self._end_ring(caller, agent, second, answers, now))

    def _end_ring(self, caller: _Caller, agent: Agent, since_s: float, answers: bool, now: float) -> None:
        if caller.gone:
            return
        caller.ringing = None
        caller.call.rings.append((agent, since_s, now - since_s, answers, False))
        if answers:
            self.waiting[caller.queue].remove(caller)
            caller.gone = True
            self._talk(caller.call, agent, now)
        else:
            self._occupy(agent, now + RETRY_S)
            self._schedule(now + RETRY_S, self._serve_all)

    def _talk(self, call: _CallInProgress, agent: Agent, now: float) -> None:
        median_s, spread = _TALK_TIMES[call.queue]
        quiet = self.clock.weekend or not 8 <= self.clock.hour_of(now) < 18
        median_s *= _QUIET_TALK_FACTOR if quiet else 1.0
        talk_s = min(max(median_s * self.random.lognormvariate(0, spread), 12.0), 1500.0)
        due = next((one for one in self.recordings if one[0] <= now and one[1].queue == call.queue), None)
        if due is not None:
            self.recordings.remove(due)
            talk_s, call.recording = due[1].duration_s, due[1].name
        call.agent, call.answered_s, call.left_s = agent, now, now + talk_s
        call.outcome, call.end_s = "answered", now + talk_s
        call.ended_by = "agent" if self.random.random() < 0.3 else "caller"
        if due is None and talk_s > 40 and self.random.random() < 0.045:
            self._transfer(call, now, now + talk_s)
        self._occupy(agent, now + talk_s + WRAP_UP_S)
        self._schedule(now + talk_s + WRAP_UP_S, self._serve_all)

    def _transfer(self, call: _CallInProgress, now: float, left_s: float) -> None:
        """Transfer the call to a free member of the staff, who is then busy until it ends."""
        staff = [one for one in STAFF if self._is_free(one, left_s) and self._is_free(one, now)]
        if not staff:
            return
        target = self.random.choice(staff)
        call.target, call.target_ring_s = target.extension, 1.5 + self.random.uniform(0, 6)
        call.outcome, call.ended_by = "transferred", "transfer"
        call.end_s = left_s + call.target_ring_s + self.random.uniform(30, 200)
        self._occupy(target, call.end_s + 1)

    def _leave_queue(self, caller: _Caller, now: float) -> None:
        if caller.gone:
            return
        self.waiting[caller.queue].remove(caller)
        caller.gone, call = True, caller.call
        if caller.ringing is not None:
            agent, since_s = caller.ringing
            call.rings.append((agent, since_s, now - since_s, False, True))
            self._occupy(agent, now + 2)
            self._schedule(now + 2, self._serve_all)
        timed_out = now - caller.joined_s >= QUEUE_TIMEOUT_S - 0.001
        call.outcome, call.left_s = ("timeout" if timed_out else "abandoned"), now
        call.end_s = now + (self.random.uniform(6, 14) if timed_out else 0.0)
        call.ended_by = "" if timed_out else "caller"
        again_s = call.end_s + self.random.uniform(60, 1800)
        chance = self.random.random()
        if chance < 0.45:
            self._schedule(again_s, lambda later: self._call_back(call, later, by_caller=True))
        elif chance < 0.7:
            self._schedule(again_s, lambda later: self._call_back(call, later, by_caller=False))

    def _call_back(self, call: _CallInProgress, now: float, *, by_caller: bool) -> None:
        """Let the caller of an abandoned call call again, or an agent call them back."""
        if now > self.clock.length_s - 360:
            return
        if not by_caller:
            self._start_outbound(now, call.from_number)
            return
        queue = call.queue if 8 <= self.clock.hour_of(now) < 17.3 else SUPPORT
        self._call_queue(now, call.from_number, call.from_name, queue)

    # Calls that agents make

    def _random_free_agent(self, second: float) -> Agent | None:
        free = [shift.agent for shift in self.shifts.values() if self._is_free(shift.agent, second)]
        return self.random.choice(free) if free else None

    def _start_outbound(self, second: float, number: str = "", *, again: bool = False) -> None:
        agent = self._random_free_agent(second)
        if agent is None:
            return
        number = number or caller_of(self.random.randrange(600))[0]
        flapping = again or self.random.random() < 0.45
        trunk = FLAPPING if flapping else STEADY
        call = _CallInProgress(second, "outbound", agent.extension, agent.name, number, trunk.name, agent=agent)
        self.calls.append(call)
        chance = self.random.random()
        if flapping and self._trunk_is_out(second):
            call.end_s, call.cause, call.ended_by = second + self.random.uniform(0.3, 1.5), 34, ""
            if self.random.random() < 0.8:  # the agent retries over the same trunk
                self._schedule(
                    call.end_s + self.random.uniform(15, 60), lambda now: self._start_outbound(now, number, again=True)
                )
        elif chance < 0.08:
            call.end_s, call.cause, call.ended_by = second + self.random.uniform(1, 4), 17, ""
        elif chance < 0.1:
            call.end_s, call.cause, call.ended_by = second + self.random.uniform(0.5, 2), 1, ""
        else:
            call.pdd_s = round(0.5 + self.random.gammavariate(2.2, 0.7), 3)
            ringing_s = second + call.pdd_s
            if chance < 0.27:
                call.end_s, call.ended_by = ringing_s + self.random.uniform(12, 35), "agent"
            else:
                call.answered_s = ringing_s + self.random.uniform(3, 16)
                call.end_s = call.answered_s + min(120 * self.random.lognormvariate(0, 0.7), 900)
                call.ended_by = "agent" if self.random.random() < 0.5 else "callee"
        self._occupy(agent, call.end_s + 3)
        self._schedule(call.end_s + 3, self._serve_all)

    def _start_internal(self, second: float) -> None:
        agent = self._random_free_agent(second)
        others = [*(shift.agent for shift in self.shifts.values()), *STAFF]
        others = [one for one in others if one is not agent and self._is_free(one, second)]
        if agent is None or not others:
            return
        other = self.random.choice(others)
        call = _CallInProgress(second, "internal", agent.extension, agent.name, other.extension, agent=agent)
        self.calls.append(call)
        call.pdd_s = round(self.random.uniform(0.05, 0.2), 3)
        if self.random.random() < 0.8:
            call.answered_s = second + call.pdd_s + self.random.uniform(2, 10)
            call.end_s = call.answered_s + min(45 * self.random.lognormvariate(0, 0.7), 400)
            call.ended_by = "agent" if self.random.random() < 0.5 else "callee"
        else:
            call.end_s, call.ended_by = second + call.pdd_s + self.random.uniform(10, 25), "agent"
        for one in (agent, other):
            self._occupy(one, call.end_s + 3)
        self._schedule(call.end_s + 3, self._serve_all)

    def _as_planned_call(self, index: int, call: _CallInProgress) -> PlannedCall:
        at = self.clock.at
        started_at = at(call.start_s)
        serial = self.clock.day.toordinal() % 512 * 16_384 + index * 16
        uniqueid = f"{int(started_at.timestamp())}.{serial}"
        return PlannedCall(
            uniqueid=uniqueid,
            linkedid=uniqueid,
            started_at=started_at,
            direction=call.direction,
            trunk=call.trunk,
            from_number=call.from_number,
            from_name=call.from_name,
            to_number=call.to_number,
            did=call.did,
            queue=call.queue,
            joined_at=at(call.joined_s) if call.joined_s is not None else None,
            outcome=call.outcome,
            rings=tuple(
                PlannedRing(agent, at(since_s), _seconds(at(since_s), at(since_s + ring_s)), answered, cancelled)
                for agent, since_s, ring_s, answered, cancelled in call.rings
            ),
            agent=call.agent,
            answered_at=at(call.answered_s) if call.answered_s is not None else None,
            ended_at=at(call.end_s),
            cause=call.cause,
            pdd_s=call.pdd_s,
            ended_by=call.ended_by,
            recording=call.recording,
            left_at=at(call.left_s) if call.left_s is not None else None,
            target=call.target,
            target_ring_s=round(call.target_ring_s, 3),
        )


def _seconds(since: datetime, until: datetime) -> float:
    return round((until - since).total_seconds(), 3)
