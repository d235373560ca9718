"""Figures of trunks, from seizures: one channel taken on a trunk, in either direction."""

from dataclasses import dataclass

import numpy as np

from pbx.analytics.formulas.concurrency import Load
from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.formulas.ratio import Ratio

# Q.850 causes that tell that the network did its part: normal clearing, user busy, no user responding, no answer, call
# rejected (by the called user). ITU-T E.425 counts these for NER.
EFFECTIVE_CAUSES = (16, 17, 18, 19, 21)
EFFECTIVE = ("ANSWERED", "BUSY", "NO ANSWER")  # of the CDR's dispositions


@dataclass(frozen=True)
class SeizureColumns:
    """Seizures as columns of equal length, in no order. `trunk` is a place in `trunks`; not known: NaN, cause -1.

    `open`: neither answered nor, as far as anybody saw, ended. `effective`: the network did its part, see EFFECTIVE.
    `unsure`: failed without a cause that would tell whose fault it was.
    """

    at_s: Ints
    trunk: Ints
    outbound: Flags
    answered: Flags
    effective: Flags
    open: Flags
    unsure: Flags
    cause: Ints
    end_s: Floats
    billsec_s: Floats
    pdd_s: Floats
    trunks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True)
class TrunkFigures:
    """Counts and sums of some seizures, and the figures made of them."""

    seizures: int = 0  # all that were tried, the open ones included
    open: int = 0  # neither answered nor known how they ended: in no ratio
    answered: int = 0
    effective: int = 0  # answered, busy, no answer, rejected by the called user
    unsure: int = 0  # failed, and no Q.850 cause tells whether the called user rejected it: not among the effective
    outbound: int = 0
    billsec_s: float = 0.0
    billed: int = 0  # answered seizures whose length is known
    pdd_s: float = 0.0
    pdds: int = 0  # outbound seizures whose post-dial delay was seen
    pdd_median_s: float | None = None
    concurrency_peak: int = 0
    busy_s: float = 0.0  # of all calls within the period, those that began before included
    period_s: float = 0.0

    @property
    def asr(self) -> Ratio:
        """Answer-seizure ratio, ITU-T E.411: answered / seizures."""
        return Ratio(self.answered, self.seizures - self.open)

    @property
    def ner(self) -> Ratio:
        """Network effectiveness ratio, ITU-T E.425: (answered + busy + no answer + rejected by the called) / seizures.

        Without a Q.850 cause (the CDR has none) a rejected call can't be told from a failed one, and counts as failed:
        then it is at least this, and at most `ner_most`.
        """
        return Ratio(self.effective, self.seizures - self.open)

    @property
    def ner_most(self) -> Ratio:
        """NER if all that may have been rejected by the called user were."""
        return Ratio(self.effective + self.unsure, self.seizures - self.open)

    @property
    def acd(self) -> Ratio:
        """Average call duration in seconds: billsec of the answered / how many they are."""
        return Ratio(self.billsec_s, self.billed)

    @property
    def pdd(self) -> Ratio:
        """Mean post-dial delay in seconds, from dialling to the first ringing; live events tell it, CDR doesn't."""
        return Ratio(self.pdd_s, self.pdds)

    @property
    def concurrency_mean(self) -> Ratio:
        """Time-weighted mean of calls at once: busy seconds / seconds."""
        return Ratio(self.busy_s, self.period_s)

    @property
    def traffic_erlang(self) -> float | None:
        """Busy seconds / seconds of the period: of an hour, its traffic in erlang; ringing occupies a line too."""
        return self.concurrency_mean.value


@dataclass(frozen=True, slots=True)
class CauseCount:
    """How often calls ended so: the Q.850 cause, or the CDR's disposition where no cause is known (None)."""

    cause: int | None
    disposition: str
    count: int


def tally_trunks(
    seizures: SeizureColumns, group: Ints, loads: list[Load], lengths_s: list[float]
) -> list[TrunkFigures]:
    """Figures of each group of seizures; `group` is outside 0 .. len(loads) - 1 for those counted in none.

    `loads` and `lengths_s`: the concurrency and the length of each group's time, by `sweep`.
    """
    groups = len(loads)
    counted = (group >= 0) & (group < groups)

    def count(flags: Flags) -> list[int]:
        return [int(n) for n in np.bincount(group[counted & flags], minlength=groups)]

    def total(values: Floats, flags: Flags) -> list[float]:
        chosen = counted & flags
        return [float(s) for s in np.bincount(group[chosen], weights=values[chosen], minlength=groups)]

    billed = seizures.answered & ~np.isnan(seizures.billsec_s)
    delayed = seizures.outbound & ~np.isnan(seizures.pdd_s)
    columns = zip(
        count(np.ones(len(seizures), dtype=np.bool_)),
        count(seizures.open),
        count(seizures.answered),
        count(seizures.effective),
        count(seizures.unsure),
        count(seizures.outbound),
        total(seizures.billsec_s, billed),
        count(billed),
        total(seizures.pdd_s, delayed),
        count(delayed),
        _medians(group[counted & delayed], seizures.pdd_s[counted & delayed], groups),
        [load.peak for load in loads],
        [load.busy_s for load in loads],
        lengths_s,
        strict=True,
    )
    return [TrunkFigures(*row) for row in columns]


def _medians(group: Ints, values: Floats, groups: int) -> list[float | None]:
    order = np.lexsort((values, group))
    values, counts = values[order], np.bincount(group, minlength=groups)
    first = np.cumsum(counts) - counts
    return [
        float(values[start + (count - 1) // 2] + values[start + count // 2]) / 2 if count else None
        for start, count in zip(first, counts, strict=True)
    ]
