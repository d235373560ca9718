"""Who was lost and not spoken to since: callbacks owed, and callers who come again."""

from dataclasses import dataclass

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.ratio import Ratio


@dataclass(frozen=True, slots=True)
class CallbackFigures:
    """Of the abandoned visits of a period, by caller: one caller owes one callback, however often he tried."""

    abandoned: int  # visits
    without_number: int  # visits of callers nobody can call back
    callers: int  # different numbers among the others
    owed: int  # callers with no answered call from or to them after their last abandoned one
    called_back: int
    call_back_s: float  # from the end of each caller's last abandoned visit to that call, of all called back

    @property
    def time_to_call_back(self) -> Ratio:
        """Mean seconds until a caller who had given up was spoken to."""
        return Ratio(self.call_back_s, self.called_back)

    @property
    def owed_share(self) -> Ratio:
        return Ratio(self.owed, self.callers)


def next_answer(caller: Ints, at_s: Ints, answered: Ints, answered_at_s: Ints) -> Floats:
    """For each caller and moment, when the next answered call from or to him began (epoch seconds); NaN: none did.

    `answered` are the numbers of answered calls, in no order. Numbers are `number_key`s below 2**31, 0 is nobody's.
    """
    calls = np.sort((answered << 32) | answered_at_s)
    place = np.searchsorted(calls, (caller << 32) | at_s, side="right")
    following = np.append(calls, -1)[place]
    found = np.where((following >> 32) == caller, (following & 0xFFFFFFFF).astype(np.float64), np.nan)
    return np.where(caller == 0, np.nan, found)


def callback_figures(caller: Ints, ended_s: Ints, next_s: Floats) -> CallbackFigures:
    """Of abandoned visits: who gave up, when, and when he was next spoken to (`next_answer`)."""
    known = caller != 0
    order = np.lexsort((ended_s[known], caller[known]))
    sorted_callers = caller[known][order]
    last = np.append(sorted_callers[1:] != sorted_callers[:-1], True)[: len(order)]
    ended, spoken = ended_s[known][order][last], next_s[known][order][last]
    back = ~np.isnan(spoken)
    return CallbackFigures(
        abandoned=len(caller),
        without_number=int(len(caller) - known.sum()),
        callers=int(last.sum()),
        owed=int((~back).sum()),
        called_back=int(back.sum()),
        call_back_s=float((spoken[back] - ended[back]).sum()),
    )
