"""Figures of trunks, from seizures. A seizure is one channel taken on a trunk, inbound or outbound."""

from dataclasses import dataclass

from pbx.analytics.formulas.ratio import Ratio

EFFECTIVE_DISPOSITIONS = ("ANSWERED", "BUSY", "NO ANSWER")  # of the CDR's dispositions


@dataclass(frozen=True, slots=True)
class TrunkFigures:
    """Counts and sums of a set of seizures, and the ratios calculated from them."""

    seizures: int = 0  # all, including open ones
    open: int = 0  # not answered, and no end was recorded; left out of every ratio
    answered: int = 0
    effective: int = 0  # answered, busy, no answer, rejected by the called user
    unsure: int = 0  # failed without a Q.850 cause that shows whether the called user rejected it; not in `effective`
    outbound: int = 0
    billsec_s: float = 0.0
    billed: int = 0  # answered seizures whose length is known
    pdd_s: float = 0.0
    pdds: int = 0  # outbound seizures whose post-dial delay is known
    concurrency_peak: int = 0
    busy_s: float = 0.0  # of all calls within the period, including those that began before it
    period_s: float = 0.0

    @property
    def asr(self) -> Ratio:
        """Answer-seizure ratio (ASR), ITU-T E.411: answered / seizures."""
        return Ratio(self.answered, self.seizures - self.open)

    @property
    def ner(self) -> Ratio:
        """Network effectiveness ratio (NER), ITU-T E.425.

        (Answered + busy + no answer + rejected by the called user) / seizures. Without a Q.850 cause, which the CDR
        doesn't have, a rejected call looks like a failed one and counts as failed. So this is the lower bound of NER,
        and `ner_upper` is the upper one.
        """
        return Ratio(self.effective, self.seizures - self.open)

    @property
    def ner_upper(self) -> Ratio:
        """NER if every `unsure` call was rejected by the called user."""
        return Ratio(self.effective + self.unsure, self.seizures - self.open)

    @property
    def acd(self) -> Ratio:
        """Average call duration (ACD) in seconds: billsec of answered calls / answered calls whose billsec is known."""
        return Ratio(self.billsec_s, self.billed)

    @property
    def pdd(self) -> Ratio:
        """Mean post-dial delay (PDD) in seconds, from dialling to the first ringing. Only live events contain it."""
        return Ratio(self.pdd_s, self.pdds)

    @property
    def concurrency_mean(self) -> Ratio:
        """Time-weighted mean of concurrent calls: busy seconds / seconds of the period."""
        return Ratio(self.busy_s, self.period_s)


@dataclass(frozen=True, slots=True)
class CauseCount:
    """How many calls ended with a Q.850 cause, or with a disposition of the CDR where the cause is unknown (None)."""

    cause: int | None
    disposition: str
    count: int
