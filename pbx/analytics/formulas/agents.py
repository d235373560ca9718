"""Figures of agents: how long they were logged in and paused, what they took and let ring."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.formulas.ratio import Ratio


@dataclass(frozen=True)
class AgentSpans:
    """Stretches of time: whose (a small number), from when up to when (epoch seconds); in no order."""

    whose: Ints
    start_s: Floats
    end_s: Floats

    def __len__(self) -> int:
        return len(self.whose)

    def where(self, mask: Flags) -> "AgentSpans":
        return AgentSpans(self.whose[mask], self.start_s[mask], self.end_s[mask])

    def plus(self, other: "AgentSpans") -> "AgentSpans":
        return AgentSpans(
            np.concatenate([self.whose, other.whose]),
            np.concatenate([self.start_s, other.start_s]),
            np.concatenate([self.end_s, other.end_s]),
        )

    def cut(self, since_s: float, until_s: float) -> "AgentSpans":
        """Only what lies within."""
        cut = AgentSpans(self.whose, np.maximum(self.start_s, since_s), np.minimum(self.end_s, until_s))
        return cut.where(cut.end_s > cut.start_s)

    def merged(self) -> "AgentSpans":
        """Without overlaps: what touches or overlaps, of one owner, is one span; in order of owner, then time."""
        order = np.lexsort((self.start_s, self.whose))
        whose, start, end = self.whose[order], self.start_s[order], self.end_s[order]
        if not len(whose):
            return self
        apart = float(end.max() - start.min()) + 1.0  # so far from one owner's time to the next one's
        reached = np.maximum.accumulate(end + whose * apart)
        first = np.append(True, (start + whose * apart)[1:] > reached[:-1])
        last = np.append(first[1:], True)
        return AgentSpans(whose[first], start[first], (reached - whose * apart)[last])

    def total_s(self, owners: int) -> Floats:
        """Seconds of each owner; overlaps count once."""
        own = self.merged()
        return np.bincount(own.whose, weights=own.end_s - own.start_s, minlength=owners).astype(np.float64)


@dataclass(frozen=True, slots=True)
class PauseFigures:
    """The pauses an agent made for one reason."""

    count: int
    paused_s: float


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """What an agent did in a period."""

    agent: str
    calls: int = 0  # taken
    talk_s: float = 0.0
    talks: int = 0  # whose length is known
    non_response: int = 0  # RINGNOANSWER, many per call
    rang_in_vain_s: float = 0.0
    logged_in_s: float | None = None  # None: nothing tells of a login, as of a member written into queues.conf
    paused_s: float = 0.0  # while logged in
    sessions: int = 0
    pauses: Mapping[str, PauseFigures] = field(default_factory=dict)  # by reason; "" where none was given

    @property
    def att(self) -> Ratio:
        """Average talk time in seconds."""
        return Ratio(self.talk_s, self.talks)

    @property
    def non_response_rate(self) -> Ratio:
        """Rings nobody took / all rings that ended: those and the calls taken."""
        return Ratio(self.non_response, self.non_response + self.calls)

    @property
    def occupancy(self) -> Ratio:
        """Talk / (logged-in time - paused time); n/a without a known login.

        The talk is of the visits that joined in the period, also of what was said after its end.
        """
        return Ratio(self.talk_s, (self.logged_in_s or 0.0) - (self.paused_s if self.logged_in_s else 0.0))


def spans_of(whose: Ints, at_s: Ints, begins: Flags, ends_s: float) -> tuple[AgentSpans, Ints]:
    """Stretches between changes: each change that `begins` one lasts until its owner's next change of any kind.

    What was not ended lasts until `ends_s`. Of changes in one second those that end come first. The second result is
    the place of each span's change among the given ones, by which its reason is known.
    """
    order = np.lexsort((begins, at_s, whose))
    owner, at, begin = whose[order], at_s[order].astype(np.float64), begins[order]
    same = np.append(owner[1:] == owner[:-1], False)[: len(owner)]
    following = np.where(same, np.append(at[1:], 0.0)[: len(at)], np.maximum(at, ends_s))
    return AgentSpans(owner[begin], at[begin], following[begin]), order[begin]


def overlap_s(one: AgentSpans, other: AgentSpans, owners: int) -> Floats:
    """Seconds of each owner that lie in both."""
    return one.total_s(owners) + other.total_s(owners) - one.plus(other).total_s(owners)
