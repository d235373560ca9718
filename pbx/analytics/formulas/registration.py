"""How long a trunk was registered while it was observed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pbx.analytics.formulas.ratio import Ratio

REGISTERED = "registered"


@dataclass(frozen=True, slots=True)
class Registration:
    """A trunk's registration in a period: seconds registered, seconds observed, and flaps.

    A flap is a change from registered to any other state.
    """

    registered_s: float
    observed_s: float
    flaps: int
    period_s: float

    @property
    def uptime(self) -> Ratio:
        """Registration uptime: seconds seen registered / seconds observed. Time without snapshots counts in neither."""
        return Ratio(self.registered_s, self.observed_s)

    @property
    def coverage(self) -> Ratio:
        """Observed seconds / seconds in the period."""
        return Ratio(self.observed_s, self.period_s)


def registration(
    samples: Sequence[tuple[datetime, str]], since: datetime, until: datetime, tolerance_s: float
) -> Registration:
    """The registration from samples (moment, state) in order of time. A state lasts until the next sample.

    Where the next sample comes later than `tolerance_s`, the time in between is a gap and not observed. Include the
    last sample before `since` and the first after `until`: they cover the edges of the period. A trunk that was
    registered before a gap and not after it counts as a flap.
    """
    registered_s = observed_s = 0.0
    flaps = 0
    for (at, state), (then, next_state) in pairwise(samples):
        if state == REGISTERED != next_state and since <= then < until:
            flaps += 1
        if (then - at).total_seconds() > tolerance_s:
            continue
        held_s = max((min(then, until) - max(at, since)).total_seconds(), 0.0)
        observed_s += held_s
        registered_s += held_s if state == REGISTERED else 0.0
    return Registration(registered_s, observed_s, flaps, max((until - since).total_seconds(), 0.0))
