"""Callbacks: which abandoned callers were reached later, how long it took, and which are still owed a call."""

from dataclasses import dataclass

from pbx.analytics.formulas.ratio import Ratio


@dataclass(frozen=True, slots=True)
class CallbackFigures:
    """Callbacks of a period. A caller who abandoned several times is owed one callback."""

    abandoned: int  # visits
    without_number: int  # abandoned visits without a caller number to call back
    callers: int  # distinct numbers of the other abandoned visits
    owed: int  # callers with no answered call from or to them after their last abandoned one
    called_back: int  # callers with such a call
    call_back_s: float  # total time from the end of each caller's last abandoned visit to that call

    @property
    def time_to_call_back(self) -> Ratio:
        """Mean seconds from a caller's last abandoned visit to the answered call."""
        return Ratio(self.call_back_s, self.called_back)

    @property
    def owed_share(self) -> Ratio:
        """Callers still owed a callback / callers who abandoned."""
        return Ratio(self.owed, self.callers)
