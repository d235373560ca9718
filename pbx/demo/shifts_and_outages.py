"""When the agents work and pause, and when the flapping trunk isn't registered. Pure.

Times are seconds since the day's local midnight (`DayClock.start_at`), so that a day may have 23 or 25 hours.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

from pbx.demo.company import AGENTS, TRUNKS, ZONE, Agent, RegistrationState

HOUR_S = 3600
_SEED = 1
_LUNCH, _BREAK, _PAPERWORK = "Lunch", "Break", "Paperwork"
_HOURS = {  # start and end of the day shift; the busiest hours are understaffed
    "201": (8, 15),
    "202": (10, 18.5),
    "203": (8, 17),
    "204": (8, 15.5),
    "205": (11.5, 20),
    "206": (9, 17.5),
    "207": (8, 16),
    "208": (9.5, 17.5),
}
_EVENING, _NIGHT = {"209", "210"}, {"211", "212"}
_WEEKEND = {"201", "203", "205", "206", "208"}  # agents of the day shift who work at weekends


@dataclass(frozen=True, slots=True)
class DayClock:
    """A local day of the company, whose times are seconds since midnight."""

    day: date

    @property
    def start_at(self) -> datetime:
        """Local midnight, in UTC."""
        return datetime.combine(self.day, time(), ZoneInfo(ZONE)).astimezone(UTC)

    @property
    def length_s(self) -> int:
        """The length of the day: 82,800 to 90,000 seconds."""
        return round((DayClock(self.day + timedelta(days=1)).start_at - self.start_at).total_seconds())

    def at(self, second: float) -> datetime:
        """The moment at a second of the day, to the millisecond."""
        return self.start_at + timedelta(milliseconds=round(second * 1000))

    def second_of(self, hour: float) -> float:
        """The second of the day at which the clock shows an hour, 0 to 24."""
        local = datetime.combine(self.day, time(), ZoneInfo(ZONE)) + timedelta(hours=hour)
        return (local.astimezone(UTC) - self.start_at).total_seconds()

    def hour_of(self, second: float) -> float:
        """The hour that the clock shows at a second of the day: 13.5 is half past one."""
        local = self.at(second).astimezone(ZoneInfo(ZONE))
        return local.hour + local.minute / 60 + local.second / HOUR_S

    @property
    def weekend(self) -> bool:
        """Whether the day is a Saturday or a Sunday."""
        return self.day.weekday() >= 5


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of an agent."""

    from_s: float
    to_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Shift:
    """The time in which an agent is logged in to their queues, and the pauses in it."""

    agent: Agent
    from_s: float
    to_s: float
    pauses: tuple[Pause, ...]

    def free(self, second: float) -> bool:
        """Whether the agent is logged in and not paused."""
        logged_in = self.from_s <= second < self.to_s
        return logged_in and not any(pause.from_s <= second < pause.to_s for pause in self.pauses)


def seeded_random(*purpose: object) -> Random:
    """A random generator that always returns the same numbers for the same purpose."""
    return Random(" ".join(map(str, (_SEED, *purpose))))  # noqa: S311 - a simulation, not a secret


@lru_cache(maxsize=64)
def shifts_of_day(day: date) -> tuple[Shift, ...]:
    """The shifts of a day. None crosses midnight, so that no agent's calls overlap."""
    clock, random = DayClock(day), seeded_random(day, "shifts")
    shifts = (_shift(agent, clock, random) for agent in AGENTS)
    return tuple(shift for shift in shifts if shift is not None)


def _shift(agent: Agent, clock: DayClock, random: Random) -> Shift | None:
    if agent.extension in _NIGHT:
        end = clock.second_of(8) + random.uniform(60, 900)
        return _work(agent, 0.0, end, _pauses(random, random.uniform(3, 4.5) * HOUR_S, 20, 1))
    if agent.extension in _EVENING:
        begin = clock.second_of(14.75) + random.uniform(0, 1200)
        supper_s = clock.second_of(random.uniform(19, 20.5))
        return _work(agent, begin, clock.length_s - 1.0, _pauses(random, supper_s, 25, 2))
    if clock.weekend and agent.extension not in _WEEKEND:
        return None
    from_h, to_h = _HOURS[agent.extension]
    begin = clock.second_of(from_h) + random.uniform(-600, 300)
    end = clock.second_of(to_h) + random.uniform(-300, 900)
    lunch = clock.second_of((from_h + to_h) / 2 + random.uniform(-0.4, 0.2))
    return _work(agent, begin, end, _pauses(random, lunch, 35, 2))


def _work(agent: Agent, from_s: float, to_s: float, pauses: tuple[Pause, ...]) -> Shift:
    """A shift whose times are rounded to milliseconds, like those of calls."""
    rounded = (Pause(round(pause.from_s, 3), round(pause.to_s, 3), pause.reason) for pause in pauses)
    return Shift(agent, round(from_s, 3), round(to_s, 3), tuple(rounded))


def _pauses(random: Random, lunch_s: float, lunch_min: int, short: int) -> tuple[Pause, ...]:
    """The lunch break, and `short` shorter pauses around it."""
    taken = [Pause(lunch_s, lunch_s + lunch_min * 60 + random.uniform(-180, 240), _LUNCH)]
    for number in range(short):
        offset_s = (1 + number // 2) * 5400 + random.uniform(0, 2400)
        begin = lunch_s - offset_s if number % 2 == 0 else taken[0].to_s + offset_s
        reason = _BREAK if random.random() < 0.6 else _PAPERWORK
        taken.append(Pause(begin, begin + random.uniform(240, 840), reason))
    return tuple(sorted(taken, key=lambda pause: pause.from_s))


@lru_cache(maxsize=64)
def outages_of_day(day: date) -> tuple[tuple[float, float, RegistrationState], ...]:
    """The outages of the flapping trunk, sorted: start and end in seconds of the day, and its state in between."""
    clock, random = DayClock(day), seeded_random(day, "trunks")
    outages: list[tuple[float, float, RegistrationState]] = []
    for _ in range(random.randint(3, 6)):
        begin = random.uniform(clock.second_of(7), clock.second_of(20))
        length_s = random.choice((random.uniform(25, 120), random.uniform(300, 2400)))
        if all(begin > until + 900 or begin + length_s < since - 900 for since, until, _ in outages):
            outages.append((begin, begin + length_s, "Rejected" if random.random() < 0.3 else "Unregistered"))
    return tuple(sorted(outages))


FLAPPING = next(trunk for trunk in TRUNKS if trunk.flaps)
STEADY = next(trunk for trunk in TRUNKS if not trunk.flaps)
