"""How long a trunk was registered, as far as anybody looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pbx.analytics.formulas.ratio import Ratio

REGISTERED = "registered"


@dataclass(frozen=True, slots=True)
class Registration:
    """Of a period: seconds seen registered, seconds seen at all, and changes from registered to anything else."""

    registered_s: float
    observed_s: float
    flaps: int
    period_s: float

    @property
    def uptime(self) -> Ratio:
        """registration_uptime: seconds seen registered / seconds observed. What nobody saw counts in neither."""
        return Ratio(self.registered_s, self.observed_s)

    @property
    def coverage(self) -> Ratio:
        """Observed seconds / seconds in the period."""
        return Ratio(self.observed_s, self.period_s)


def registration(
    looks: Sequence[tuple[datetime, str]], since: datetime, until: datetime, tolerance_s: float
) -> Registration:
    """From looks in order of time: each state held until the next look, unless that came after `tolerance_s`: a gap.

    The last look before `since` and the first after `until` may be among them: they tell the edges, which are cut.
    A trunk registered before a gap and not after it did change: a flap, whenever it was.
    """
    registered_s = observed_s = 0.0
    flaps = 0
    for (at, state), (then, next_state) in pairwise(looks):
        if state == REGISTERED != next_state and since <= then < until:
            flaps += 1
        if (then - at).total_seconds() > tolerance_s:
            continue
        held_s = max((min(then, until) - max(at, since)).total_seconds(), 0.0)
        observed_s += held_s
        registered_s += held_s if state == REGISTERED else 0.0
    return Registration(registered_s, observed_s, flaps, max((until - since).total_seconds(), 0.0))
