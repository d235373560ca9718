"""Concurrent calls: how many there are at each moment, from a sweep over their starts and ends."""

from dataclasses import dataclass

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints


@dataclass(frozen=True, slots=True)
class Load:
    """The peak of concurrent calls in an interval, and the busy seconds of all calls in it."""

    peak: int
    busy_s: float


@dataclass(frozen=True)
class Levels:
    """The number of concurrent calls after each change, in order of time. The first entry precedes every call."""

    at_s: Floats
    level: Ints
    busy_s: Floats  # busy seconds of all calls up to each change


def levels(start_s: Floats, end_s: Floats) -> Levels:
    """The levels of concurrency that calls from `start_s` to `end_s` (seconds since 1970) cause.

    A call that ends when another begins is not concurrent with it. A call without length is concurrent with none.
    """
    lasting = end_s > start_s
    # Milliseconds with a last bit that is 1 for a start: sorting puts the ends before the starts of the same moment.
    changes = np.concatenate([_milliseconds(start_s[lasting]) * 2 + 1, _milliseconds(end_s[lasting]) * 2])
    changes.sort()
    at = np.append(-np.inf, (changes >> 1) / 1000)
    level = np.append(0, np.cumsum((changes & 1) * 2 - 1))
    busy = np.zeros(len(at))
    if len(at) > 2:
        busy[2:] = np.cumsum(level[1:-1] * np.diff(at[1:]))
    return Levels(at, level, busy)


def sweep(found: Levels, edges_s: Ints) -> list[Load]:
    """The load of each interval between two edges (seconds since 1970). Earlier calls count from the first edge on."""
    if len(edges_s) < 2:
        return []
    at, level, busy = found.at_s, found.level, found.busy_s
    before = np.searchsorted(at, edges_s, side="right") - 1  # the last change at or before each edge
    since = np.where(before > 0, edges_s - at[before], 0.0)
    reached = busy[before] + level[before] * since
    # Each interval has the level it starts with and those reached in it; a change at its end belongs to the next one.
    last = np.searchsorted(at, edges_s[1:], side="left")
    bounds = np.stack([before[:-1], last], axis=1).ravel()
    peaks = np.maximum.reduceat(np.append(level, 0), bounds)[::2]
    return [Load(int(peak), float(busy_s)) for peak, busy_s in zip(peaks, np.diff(reached), strict=True)]


def _milliseconds(at_s: Floats) -> Ints:
    return np.rint(at_s * 1000).astype(np.int64)
