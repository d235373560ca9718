"""Figures of queues, from visits. A visit is one caller's stay in one queue.

Asterisk's own counters (QueueStatus, apps/app_queue.c of 16 to 22) count the same calls differently:

- They count from the start of Asterisk, the load of app_queue or `queue reset stats`. A reload of queues.conf keeps
  them.
- `Completed` (callscompleted) counts a call when it ends, including transfers. It is our `answered` without the calls
  that are still in progress.
- `Abandoned` (callsabandoned) counts every caller who left without an agent: also timeouts, emptied queues and
  withdrawn calls, but not exits by key. Our `abandoned` counts only callers who hung up.
- `ServicelevelPerf` = 100 * callscompletedinsl / callscompleted is our `sl_answered`: answered within `servicelevel`
  seconds. Asterisk shows 0.0 when no call was completed; ours is n/a.
- `ServicelevelPerf2` = 100 * (callscompletedinsl + callsabandonedinsl) / (callscompleted + callsabandoned) is our
  `sl_inclusive`, with Asterisk's wider `Abandoned` in numerator and denominator: a timeout within T improves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pbx.analytics.formulas.ratio import Ratio
from pbx.model.history import VisitOutcome

Flags = NDArray[np.bool_]
OUTCOMES: tuple[str, ...] = get_args(VisitOutcome)
# Upper bounds of the waiting-time buckets in seconds, each included in its bucket. They contain the usual targets.
WAIT_ENDS_S = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)


@dataclass(frozen=True, slots=True)
class Targets:
    """The answer target T, within which a call should be answered, and the limit of a short abandon, in seconds.

    T is the queue's own `servicelevel` (`by_queue`), otherwise `answer_s`. A caller who hangs up before `short_s`
    counts as a short abandon.
    """

    answer_s: float = 20.0
    short_s: float = 5.0
    by_queue: Mapping[str, float] = field(default_factory=dict)

    def of(self, queue: str | None) -> float:
        """The answer target T of a queue."""
        return self.by_queue.get(queue or "", self.answer_s)


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Counts and sums of a set of visits, and the ratios calculated from them."""

    offered: int = 0  # ENTERQUEUE, one per visit
    answered: int = 0  # an agent took the call, including calls transferred or still in progress
    abandoned: int = 0  # the caller hung up
    outcomes: Mapping[str, int] = field(default_factory=dict)  # visits by outcome; outcomes without visits left out
    answered_within_t: int = 0
    abandoned_within_t: int = 0
    short_abandons: int = 0
    answer_wait_s: float = 0.0  # total wait of answered visits whose wait is known
    answer_waits: int = 0  # how many these are
    talk_s: float = 0.0  # total talk time of answered visits that have ended
    talks: int = 0  # how many these are
    max_wait_s: float | None = None  # includes abandoned visits

    @property
    def other(self) -> int:
        """Visits neither answered nor abandoned: timeouts, exits, withdrawn, unknown, and callers still waiting."""
        return self.offered - self.answered - self.abandoned

    @property
    def sl_answered(self) -> Ratio:
        """Service level of answered calls: answered within T / answered.

        It is Asterisk's ServicelevelPerf, plus the calls still in progress.
        """
        return Ratio(self.answered_within_t, self.answered)

    @property
    def sl_inclusive(self) -> Ratio:
        """Service level including abandons: (answered within T + abandoned within T) / (answered + abandoned).

        It is Asterisk's ServicelevelPerf2 without timeouts and emptied queues, which Asterisk counts as abandoned.
        """
        return Ratio(self.answered_within_t + self.abandoned_within_t, self.answered + self.abandoned)

    @property
    def sl_offered(self) -> Ratio:
        """Service level of calls offered, excluding short abandons: answered within T / (offered - short abandons).

        Timeouts and long abandons lower it.
        """
        return Ratio(self.answered_within_t, self.offered - self.short_abandons)

    @property
    def asa(self) -> Ratio:
        """Average speed of answer (ASA) in seconds: total wait of answered visits / number of answered visits.

        Asterisk's `Holdtime` is a moving average: three quarters of the previous value, one quarter of the newest call.
        """
        return Ratio(self.answer_wait_s, self.answer_waits)

    @property
    def att(self) -> Ratio:
        """Average talk time (ATT) in seconds of calls that have ended; Asterisk's `TalkTime` is a moving average."""
        return Ratio(self.talk_s, self.talks)

    @property
    def answer_rate(self) -> Ratio:
        """Answered / calls offered."""
        return Ratio(self.answered, self.offered)

    @property
    def abandon_rate(self) -> Ratio:
        """Abandoned / calls offered."""
        return Ratio(self.abandoned, self.offered)

    @property
    def abandon_rate_net(self) -> Ratio:
        """Abandon rate excluding short abandons: (abandoned - short abandons) / (offered - short abandons)."""
        return Ratio(self.abandoned - self.short_abandons, self.offered - self.short_abandons)


@dataclass(frozen=True, slots=True)
class WaitBucket:
    """Visits by wait: longer than `over_s` (the first bucket: from 0) and up to `up_to_s` seconds; None: no limit."""

    over_s: float
    up_to_s: float | None
    answered: int
    abandoned: int
    other: int
