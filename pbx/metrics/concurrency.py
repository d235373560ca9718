"""How many calls there were at once: a sweep over their beginnings and ends."""

from dataclasses import dataclass

import numpy as np

from pbx.metrics.intervals import Floats, Ints


@dataclass(frozen=True, slots=True)
class Load:
    """Of an interval: the most calls at once, and the seconds that all of them together lasted within it."""

    peak: int
    busy_s: float


def sweep(start_s: Floats, end_s: Floats, edges_s: Ints) -> list[Load]:
    """The load of each interval between two edges, from calls that lasted from `start_s` to `end_s` (epoch seconds).

    Calls that began before the first edge count from there. One that ends in the moment another begins is not at once
    with it; one of no length is never at once with any.
    """
    if len(edges_s) < 2:
        return []
    lasting = end_s > start_s
    start_s, end_s = start_s[lasting], end_s[lasting]
    # Milliseconds and, as the last bit, whether a call begins: in order by plain numbers, the ends of a moment first.
    changes = np.concatenate([_milliseconds(start_s) * 2 + 1, _milliseconds(end_s) * 2])
    changes.sort()
    at = np.append(-np.inf, (changes >> 1) / 1000)
    level = np.append(0, np.cumsum((changes & 1) * 2 - 1))
    busy = np.zeros(len(at))
    if len(at) > 2:
        busy[2:] = np.cumsum(level[1:-1] * np.diff(at[1:]))
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
