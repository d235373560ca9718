"""How many calls there were at once: a sweep over their beginnings and ends."""

from dataclasses import dataclass

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints


@dataclass(frozen=True, slots=True)
class Load:
    """Of an interval: the most calls at once, and the seconds that all of them together lasted within it."""

    peak: int
    busy_s: float


@dataclass(frozen=True)
class Levels:
    """How many calls there were from each change on, in order of time; the first entry stands for the time before."""

    at_s: Floats
    level: Ints
    busy_s: Floats  # seconds of all calls together up to each change


def levels(start_s: Floats, end_s: Floats) -> Levels:
    """The changes that calls from `start_s` to `end_s` (epoch seconds) make.

    One that ends in the moment another begins is not at once with it; one of no length is never at once with any.
    """
    lasting = end_s > start_s
    # Milliseconds and, as the last bit, whether a call begins: in order by plain numbers, the ends of a moment first.
    changes = np.concatenate([_milliseconds(start_s[lasting]) * 2 + 1, _milliseconds(end_s[lasting]) * 2])
    changes.sort()
    at = np.append(-np.inf, (changes >> 1) / 1000)
    level = np.append(0, np.cumsum((changes & 1) * 2 - 1))
    busy = np.zeros(len(at))
    if len(at) > 2:
        busy[2:] = np.cumsum(level[1:-1] * np.diff(at[1:]))
    return Levels(at, level, busy)


def sweep(found: Levels, edges_s: Ints) -> list[Load]:
    """The load of each interval between two edges (epoch seconds). Calls of before the first edge count from there."""
    if len(edges_s) < 2:
        return []
    at, level, busy = found.at_s, found.level, found.busy_s
    before = np.searchsorted(at, edges_s, side="right") - 1  # the last change at or before each edge
    since = np.where(before > 0, edges_s - at[before], 0.0)
    reached = busy[before] + level[before] * since
    # Of each interval the level it began with and those reached within; a change as it ends is the next one's.
    last = np.searchsorted(at, edges_s[1:], side="left")
    bounds = np.stack([before[:-1], last], axis=1).ravel()
    peaks = np.maximum.reduceat(np.append(level, 0), bounds)[::2]
    return [Load(int(peak), float(busy_s)) for peak, busy_s in zip(peaks, np.diff(reached), strict=True)]


def _milliseconds(at_s: Floats) -> Ints:
    return np.rint(at_s * 1000).astype(np.int64)
