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

    def plus(self, other: "AgentSpans") -> "AgentSpans":
        """These spans and the others."""
        return AgentSpans(
            np.concatenate([self.whose, other.whose]),
            np.concatenate([self.start_s, other.start_s]),
            np.concatenate([self.end_s, other.end_s]),
        )

    def cut(self, since_s: float, until_s: float) -> "AgentSpans":
        """The parts of the spans within a period."""
        cut = AgentSpans(self.whose, np.maximum(self.start_s, since_s), np.minimum(self.end_s, until_s))
        return cut.where(cut.end_s > cut.start_s)

    def merged(self) -> "AgentSpans":
        """The spans without overlaps, by owner, then time: spans of one owner that touch or overlap become one."""
        order = np.lexsort((self.start_s, self.whose))
        whose, start, end = self.whose[order], self.start_s[order], self.end_s[order]
        if not len(whose):
            return self
        apart = float(end.max() - start.min()) + 1.0  # shifts each owner's times beyond those of the previous one
        reached = np.maximum.accumulate(end + whose * apart)
        first = np.append(True, (start + whose * apart)[1:] > reached[:-1])
        last = np.append(first[1:], True)
        return AgentSpans(whose[first], start[first], (reached - whose * apart)[last])

    def total_s(self, owners: int) -> Floats:
        """Seconds of each of `owners` owners; overlaps count once."""
        own = self.merged()
        return np.bincount(own.whose, weights=own.end_s - own.start_s, minlength=owners).astype(np.float64)


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

    A span without a next change lasts until `ends_s`. Among changes in the same second, those that end a span come
    first. The second result is the index of the change that started each span, for looking up its reason.
    """
    order = np.lexsort((begins, at_s, whose))
    owner, at, begin = whose[order], at_s[order].astype(np.float64), begins[order]
    same = np.append(owner[1:] == owner[:-1], False)[: len(owner)]
    following = np.where(same, np.append(at[1:], 0.0)[: len(at)], np.maximum(at, ends_s))
    return AgentSpans(owner[begin], at[begin], following[begin]), order[begin]


def overlap_s(one: AgentSpans, other: AgentSpans, owners: int) -> Floats:
    """Seconds of each owner that are in both sets of spans."""
    return one.total_s(owners) + other.total_s(owners) - one.plus(other).total_s(owners)
