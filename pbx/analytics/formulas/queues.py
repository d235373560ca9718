"""Figures of queues, from visits: one caller, once in one queue.

Asterisk's own counters (QueueStatus, apps/app_queue.c of 16 to 22) are made of the same calls, otherwise:

- They count since Asterisk started, app_queue was loaded or `queue reset stats`; a reload of queues.conf keeps them.
- `Completed` (callscompleted) counts a call when it ends, transfers included: our `answered` without who still talks.
- `Abandoned` (callsabandoned) counts all who left without an agent, timeouts, emptied queues, the withdrawn, but not
  who left by a key; our `abandoned` is only who hung up.
- `ServicelevelPerf` = 100 * callscompletedinsl / callscompleted is our `sl_answered`: answered after at most
  `servicelevel` whole seconds. It is 0.0 where nothing was completed, ours is n/a.
- `ServicelevelPerf2` = 100 * (callscompletedinsl + callsabandonedinsl) / (callscompleted + callsabandoned) is our
  `sl_inclusive` with that wider `Abandoned` above and below: who timed out within T counts in its favour.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.ratio import Ratio

Flags = NDArray[np.bool_]
OUTCOMES = (
    "answered",
    "abandoned",
    "timeout",
    "exit_empty",
    "exit_key",
    "transferred",
    "withdrawn",
    "in_progress",
    "unknown",
)
ANSWERED, ABANDONED, TRANSFERRED, IN_PROGRESS, UNKNOWN = (
    OUTCOMES.index(name) for name in ("answered", "abandoned", "transferred", "in_progress", "unknown")
)
# Ends of the waiting-time buckets in seconds, each within its bucket; the usual targets are among them.
WAIT_ENDS_S = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)


@dataclass(frozen=True, slots=True)
class Targets:
    """T, within which a call should be answered: the queue's own `servicelevel`, else the default; and short abandons.

    A caller who hangs up before `short_s` seconds hardly waited: a short abandon.
    """

    answer_s: float = 20.0
    short_s: float = 5.0
    by_queue: Mapping[str, float] = field(default_factory=dict)

    def of(self, queue: str | None) -> float:
        """T of a queue."""
        return self.by_queue.get(queue or "", self.answer_s)


@dataclass(frozen=True)
class VisitColumns:
    """Visits as columns of equal length, in no order. `queue`, `agent`, `did`, `target` are places in names.

    `outcome` is a place in OUTCOMES; `answered`: an agent took the call, whether or not its end is known yet. What is
    not known of `wait_s` and `talk_s` is NaN. `caller` is 0 where no number is known, else one for each number.
    """

    row_id: Ints
    joined_s: Ints
    queue: Ints
    agent: Ints
    did: Ints
    outcome: Ints
    answered: Flags
    wait_s: Floats
    talk_s: Floats
    caller: Ints
    target: Ints
    queues: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    dids: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()  # of transfers

    def __len__(self) -> int:
        return len(self.row_id)

    def target_s(self, targets: Targets) -> Floats:
        """T of each visit: that of its queue."""
        by_code = np.array([targets.of(name) for name in self.queues] or [targets.answer_s], dtype=np.float64)
        found: Floats = by_code[self.queue]
        return found


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Counts and sums of some visits, and the figures made of them."""

    offered: int = 0  # ENTERQUEUE, one per visit
    answered: int = 0  # an agent took the call; the transferred and those still talking included
    abandoned: int = 0  # the caller hung up
    outcomes: Mapping[str, int] = field(default_factory=dict)  # how many of each of OUTCOMES that occurs
    answered_within_t: int = 0
    abandoned_within_t: int = 0
    short_abandons: int = 0
    answer_wait_s: float = 0.0  # of the answered whose wait is known ...
    answer_waits: int = 0  # ... and how many these are
    talk_s: float = 0.0
    talks: int = 0  # how many talks' lengths are known: not those still going on
    max_wait_s: float | None = None  # abandons included

    @property
    def other(self) -> int:
        """Neither answered nor abandoned: timeouts, exits, withdrawn, unknown, and who is still waiting."""
        return self.offered - self.answered - self.abandoned

    @property
    def sl_answered(self) -> Ratio:
        """Answered within T / answered: Asterisk's ServicelevelPerf, but for who is still talking."""
        return Ratio(self.answered_within_t, self.answered)

    @property
    def sl_inclusive(self) -> Ratio:
        """(Answered + abandoned within T) / (answered + abandoned): Asterisk's ServicelevelPerf2 without timeouts.

        Asterisk's numerator and denominator hold the timeouts and emptied queues too: its `Abandoned` counts them.
        """
        return Ratio(self.answered_within_t + self.abandoned_within_t, self.answered + self.abandoned)

    @property
    def sl_offered(self) -> Ratio:
        """Answered within T / (offered - short abandons): timeouts and long abandons count against it."""
        return Ratio(self.answered_within_t, self.offered - self.short_abandons)

    @property
    def asa(self) -> Ratio:
        """Average speed of answer in seconds: the waits of the answered / how many they are.

        Asterisk's `Holdtime` is a moving average instead: three quarters the old one, one quarter the newest call.
        """
        return Ratio(self.answer_wait_s, self.answer_waits)

    @property
    def att(self) -> Ratio:
        """Average talk time in seconds, of the calls whose end is known; Asterisk's `TalkTime` moves as `Holdtime`."""
        return Ratio(self.talk_s, self.talks)

    @property
    def answer_rate(self) -> Ratio:
        """Answered / offered."""
        return Ratio(self.answered, self.offered)

    @property
    def abandon_rate(self) -> Ratio:
        """Abandoned / offered."""
        return Ratio(self.abandoned, self.offered)

    @property
    def abandon_rate_net(self) -> Ratio:
        """Abandoned / offered, short abandons left out of both."""
        return Ratio(self.abandoned - self.short_abandons, self.offered - self.short_abandons)


@dataclass(frozen=True, slots=True)
class WaitBucket:
    """Visits that waited longer than `over_s` (or not at all, in the first) and up to `up_to_s`; None: any longer."""

    over_s: float
    up_to_s: float | None
    answered: int
    abandoned: int
    other: int


def tally(visits: VisitColumns, group: Ints, groups: int, targets: Targets) -> list[QueueFigures]:
    """Figures of each group of visits: `group` tells the group of each, 0 to `groups` - 1."""
    wait, gone = visits.wait_s, visits.outcome == ABANDONED
    gone &= ~visits.answered
    within = wait <= visits.target_s(targets)  # False where the wait is not known
    known = visits.answered & ~np.isnan(wait)
    talked = visits.answered & ~np.isnan(visits.talk_s)

    def count(flags: Flags) -> list[int]:
        return [int(n) for n in np.bincount(group[flags], minlength=groups)]

    def total(values: Floats, flags: Flags) -> list[float]:
        return [float(s) for s in np.bincount(group[flags], weights=values[flags], minlength=groups)]

    longest = np.full(groups, -1.0)
    waited = ~np.isnan(wait)
    np.maximum.at(longest, group[waited], wait[waited])
    kinds = np.bincount(group * len(OUTCOMES) + visits.outcome, minlength=groups * len(OUTCOMES))
    kinds = kinds.reshape(groups, len(OUTCOMES))
    columns = zip(
        count(np.ones(len(visits), dtype=np.bool_)),
        count(visits.answered),
        count(gone),
        [{OUTCOMES[i]: int(row[i]) for i in np.flatnonzero(row)} for row in kinds],
        count(visits.answered & within),
        count(gone & within),
        count(gone & (wait < targets.short_s)),
        total(wait, known),
        count(known),
        total(visits.talk_s, talked),
        count(talked),
        [None if value < 0 else float(value) for value in longest],
        strict=True,
    )
    return [QueueFigures(*row) for row in columns]


def wait_buckets(visits: VisitColumns) -> list[WaitBucket]:
    """How long was waited, by what came of it; visits whose wait is not known are in none."""
    known = ~np.isnan(visits.wait_s)
    # side="left": who waited exactly 20 s is among those up to 20 s, as within T.
    place = np.searchsorted(np.array(WAIT_ENDS_S, dtype=np.float64), visits.wait_s[known], side="left")
    answered, gone = visits.answered[known], visits.outcome[known] == ABANDONED
    buckets = len(WAIT_ENDS_S) + 1
    counts = [np.bincount(place[flags], minlength=buckets) for flags in (answered, gone & ~answered, ~answered & ~gone)]
    starts, ends = (0, *WAIT_ENDS_S), (*WAIT_ENDS_S, None)
    return [
        WaitBucket(starts[i], ends[i], int(counts[0][i]), int(counts[1][i]), int(counts[2][i])) for i in range(buckets)
    ]
