"""Figures of agents: time logged in and paused, calls taken, and rings missed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.formulas.ratio import Ratio


@dataclass(frozen=True)
class AgentSpans:
    """Time spans of owners, as columns of equal length in no order.

    `whose`: the owner, a small integer. `start_s` and `end_s` are in seconds since 1970; the end is not included.
    """

    whose: Ints
    start_s: Floats
    end_s: Floats

    def __len__(self) -> int:
        return len(self.whose)

    def where(self, mask: Flags) -> "AgentSpans":
        """The spans whose flag is set."""
        return AgentSpans(self.whose[mask], self.start_s[mask], self.end_s[mask])

    def cut(self, since_s: float, until_s: float) -> "AgentSpans":
        """The parts of the spans within a period."""
        cut = AgentSpans(self.whose, np.maximum(self.start_s, since_s), np.minimum(self.end_s, until_s))
        return cut.where(cut.end_s > cut.start_s)

    def merged(self) -> "AgentSpans":
        """The spans without overlaps, by owner, then time: spans of one owner that touch or overlap become one."""
        if not len(self):
            return self
        apart = self._apart_s()
        order = np.argsort(self.start_s + self.whose * apart)
        whose, start, end = self.whose[order], self.start_s[order], self.end_s[order]
        reached = np.maximum.accumulate(end + whose * apart)
        first = np.append(True, (start + whose * apart)[1:] > reached[:-1])
        last = np.append(first[1:], True)
        return AgentSpans(whose[first], start[first], (reached - whose * apart)[last])

    def within_s(self, other: "AgentSpans") -> Floats:
        """Of each span, the seconds that are also in spans of the same owner in `other`, which must be merged."""
        if not len(self) or not len(other):
            return np.zeros(len(self))
        apart = max(self.plus(other)._apart_s(), 1.0)
        starts = other.start_s + other.whose * apart
        before = np.append(0.0, np.cumsum(other.end_s - other.start_s))

        def until(at_s: Floats) -> Floats:
            """The seconds of all spans in `other` up to a moment of each owner of `self`."""
            last = np.maximum(np.searchsorted(starts, at_s + self.whose * apart, side="right") - 1, 0)
            length = other.end_s[last] - other.start_s[last]
            passed = np.where(other.whose[last] < self.whose, length, np.clip(at_s - other.start_s[last], 0.0, length))
            return before[last] + np.where(other.whose[last] > self.whose, 0.0, passed)

        return until(self.end_s) - until(self.start_s)

    def plus(self, other: "AgentSpans") -> "AgentSpans":
        """These spans and the others."""
        return AgentSpans(
            np.concatenate([self.whose, other.whose]),
            np.concatenate([self.start_s, other.start_s]),
            np.concatenate([self.end_s, other.end_s]),
        )

    def total_s(self, owners: int) -> Floats:
        """Seconds of each of `owners` owners. The spans must be merged."""
        return np.bincount(self.whose, weights=self.end_s - self.start_s, minlength=owners).astype(np.float64)

    def _apart_s(self) -> float:
        """A number of seconds that shifts each owner's times beyond those of the previous one."""
        return float(self.end_s.max() - self.start_s.min()) + 1.0


@dataclass(frozen=True, slots=True)
class PauseFigures:
    """How often, and how many seconds in total, an agent was paused for one reason."""

    count: int
    paused_s: float


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """What an agent did in a period."""

    agent: str
    calls: int = 0  # visits answered
    talk_s: float = 0.0
    talks: int = 0  # answered visits whose talk time is known
    non_response: int = 0  # RINGNOANSWER, many per call
    missed_ring_s: float = 0.0  # total ring time of those
    logged_in_s: float | None = None  # None: no login was recorded, as for a member set in queues.conf
    paused_s: float = 0.0  # while logged in
    sessions: int = 0
    pauses: Mapping[str, PauseFigures] = field(default_factory=dict)  # by reason; "" where none was given

    @property
    def att(self) -> Ratio:
        """Average talk time (ATT) in seconds: talk time / answered visits whose talk time is known."""
        return Ratio(self.talk_s, self.talks)

    @property
    def non_response_rate(self) -> Ratio:
        """Missed rings / all rings that ended: missed rings and calls taken."""
        return Ratio(self.non_response, self.non_response + self.calls)

    @property
    def occupancy(self) -> Ratio:
        """Talk time / (logged-in time - paused time); n/a when no login was recorded.

        The talk time is that of the visits that joined in the period, including talk after the period's end.
        """
        return Ratio(self.talk_s, (self.logged_in_s or 0.0) - (self.paused_s if self.logged_in_s else 0.0))


def spans_of(whose: Ints, at_s: Ints, begins: Flags, ends_s: float) -> tuple[AgentSpans, Ints]:
    """The spans between changes: one starts at each change with `begins` set, and ends at its owner's next change.

    The changes are in order of owner, then time; among those in the same second, the ones that end a span come first.
    A span without a next change lasts until `ends_s`. The second result is the index of the change that started each
    span, for looking up its reason.
    """
    at = at_s.astype(np.float64)
    same = np.append(whose[1:] == whose[:-1], False)[: len(whose)]
    following = np.where(same, np.append(at[1:], 0.0)[: len(at)], np.maximum(at, ends_s))
    (places,) = np.nonzero(begins)
    return AgentSpans(whose[places], at[places], following[places]), places
