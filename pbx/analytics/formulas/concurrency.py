"""Concurrent calls: how many there are at each moment, from a sweep over their starts and ends."""

from dataclasses import dataclass

import numpy as np

from pbx.analytics.formulas.intervals import Floats, Ints

_CHANGE_BITS = 44  # of a change: enough until the year 2248


@dataclass(frozen=True, slots=True)
class Load:
    """The peak of concurrent calls in an interval, and the busy seconds of all calls in it."""

    peak: int
    busy_s: float


@dataclass(frozen=True)
class Levels:
    """The number of concurrent calls after each change, in order of time. The first entry precedes every call."""

    at_ms: Ints
    level: Ints
    busy_ms: Ints  # busy time of all calls up to each change


def levels(start_s: Floats, end_s: Floats) -> Levels:
    """The levels of concurrency that calls from `start_s` to `end_s` (seconds since 1970) cause.

    A call that ends when another begins is not concurrent with it. A call without length is concurrent with none.
    """
    return levels_of(np.sort(_changes(start_s, end_s)))


def changes_of_groups(start_s: Floats, end_s: Floats, group: Ints, groups: int) -> list[Ints]:
    """The changes of concurrency in each group of calls, for `levels_of`. Sorting all together is the fastest."""
    lasting = np.concatenate([group[end_s > start_s]] * 2)
    changes = (lasting << _CHANGE_BITS) + _changes(start_s, end_s)
    changes.sort()
    parts = np.split(changes, np.searchsorted(changes, np.arange(1, groups) << _CHANGE_BITS))
    return [part - (number << _CHANGE_BITS) for number, part in enumerate(parts)]


def levels_of(changes: Ints) -> Levels:
    """The levels that sorted changes cause."""
    at, level, busy = (np.zeros(len(changes) + 1, np.int64) for _ in range(3))
    at[0] = np.iinfo(np.int64).min
    np.right_shift(changes, 1, out=at[1:])
    np.cumsum((changes & 1) * 2 - 1, out=level[1:])
    np.cumsum(level[1:-1] * np.diff(at[1:]), out=busy[2:])
    return Levels(at, level, busy)


def sweep(found: Levels, edges_s: Ints) -> list[Load]:
    """The load of each interval between two edges (seconds since 1970). Earlier calls count from the first edge on."""
    if len(edges_s) < 2:
        return []
    at, level, busy, edges = found.at_ms, found.level, found.busy_ms, edges_s * 1000
    before = np.searchsorted(at, edges, side="right") - 1  # the last change at or before each edge
    reached = busy[before] + level[before] * np.where(before > 0, edges - at[before], 0)
    # Each interval has the level it starts with and those reached in it; a change at its end belongs to the next one.
    last = np.searchsorted(at, edges[1:], side="left")
    bounds = np.stack([before[:-1], last], axis=1).ravel()
    peaks = np.maximum.reduceat(np.append(level, 0), bounds)[::2].tolist()
    return [Load(peak, busy_s) for peak, busy_s in zip(peaks, (np.diff(reached) / 1000).tolist(), strict=True)]


def _changes(start_s: Floats, end_s: Floats) -> Ints:
    """The starts and ends of calls in milliseconds, with a last bit that is 1 for a start.

    Sorting them puts the ends before the starts of the same moment.
    """
    lasting = end_s > start_s
    return np.concatenate([_milliseconds(start_s[lasting]) * 2 + 1, _milliseconds(end_s[lasting]) * 2])


def _milliseconds(at_s: Floats) -> Ints:
    return np.rint(at_s * 1000).astype(np.int64)
