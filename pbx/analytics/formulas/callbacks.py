"""Callbacks: which abandoned callers were reached later, how long it took, and which are still owed a call."""

from dataclasses import dataclass

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints
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


def next_answer(caller: Ints, at_s: Ints, answered: Ints, answered_at_s: Ints) -> Floats:
    """When the next answered call from or to each caller began, after each moment; NaN where there was none.

    `answered` are the other parties' numbers of answered calls, in no order, and `answered_at_s` when these began. All
    times are in seconds since 1970. Numbers are `number_key`s below 2**31; 0 means unknown.
    """
    calls = np.sort((answered << 32) | answered_at_s)
    place = np.searchsorted(calls, (caller << 32) | at_s, side="right")
    following = np.append(calls, -1)[place]
    found = np.where((following >> 32) == caller, (following & 0xFFFFFFFF).astype(np.float64), np.nan)
    return np.where(caller == 0, np.nan, found)


def callback_figures(caller: Ints, ended_s: Ints, next_s: Floats) -> CallbackFigures:
    """Callback figures from abandoned visits: their callers, when they ended, and the result of `next_answer`."""
    known = caller != 0
    order = np.lexsort((ended_s[known], caller[known]))
    sorted_callers = caller[known][order]
    last = np.append(sorted_callers[1:] != sorted_callers[:-1], True)[: len(order)]
    ended, reached = ended_s[known][order][last], next_s[known][order][last]
    back = ~np.isnan(reached)
    return CallbackFigures(
        abandoned=len(caller),
        without_number=int(len(caller) - known.sum()),
        callers=int(last.sum()),
        owed=int((~back).sum()),
        called_back=int(back.sum()),
        call_back_s=float((reached[back] - ended[back]).sum()),
    )
