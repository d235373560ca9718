"""A trunk's status over a time range, and how long it was registered, from the samples of the PBX's snapshots.

Samples of days that are not sealed are read for all trunks together: see pbx.analytics.engine.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from pbx.analytics.engine import query_columns, rows_of
from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.registration import REGISTERED, Registration
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.model.snapshot import TrunkState
from pbx.store.snapshots import GAP_INTERVALS

_COLUMNS = ("trunk", "state", "channels", "roundtrip_ms")
SAMPLE_MARGIN = timedelta(days=1)  # samples before and after the range, for the state at its edges


@dataclass(frozen=True)
class TrunkPoint:
    """A trunk from `taken_at` until its state changes or a bucket of time ends.

    `channels` is the peak and `roundtrip_ms` the mean of the samples in that time; None when none has a round trip.
    """

    taken_at: datetime
    state: TrunkState
    channels: int
    roundtrip_ms: float | None


class _TrunkSamples(NamedTuple):
    """Samples of a trunk in order of time; `state` is an index into `states`."""

    at_s: Ints
    state: Ints
    channels: Ints
    roundtrip_ms: Floats
    states: tuple[TrunkState, ...]

    def where(self, mask: NDArray[np.bool_]) -> "_TrunkSamples":
        """The samples whose flag is set."""
        return _TrunkSamples(
            self.at_s[mask], self.state[mask], self.channels[mask], self.roundtrip_ms[mask], self.states
        )


def trunk_history(
    session: Session, connection_id: int, trunk: str, since: datetime, until: datetime, points: int = 1500
) -> list[TrunkPoint]:
    """A trunk's history for a chart: a point at each change of state, and at most about `points` points otherwise."""
    begin, end = int(since.timestamp()), int(until.timestamp())
    found = _load(session, connection_id, trunk, since, until)
    found = found.where((found.at_s >= begin) & (found.at_s < end))
    if not len(found.at_s):
        return []
    bucket = found.at_s // max(1, math.ceil((end - begin) / points))
    changed = (np.diff(found.state) != 0) | (np.diff(bucket) != 0)
    first = np.append(0, np.flatnonzero(changed) + 1)
    measured = ~np.isnan(found.roundtrip_ms)
    trips = np.add.reduceat(np.where(measured, found.roundtrip_ms, 0.0), first)
    counts = np.add.reduceat(measured.astype(np.int64), first)
    return [
        TrunkPoint(datetime.fromtimestamp(at, UTC), found.states[state], channels, trip / count if count else None)
        for at, state, channels, trip, count in zip(
            found.at_s[first].tolist(),
            found.state[first].tolist(),
            np.maximum.reduceat(found.channels, first).tolist(),
            trips.tolist(),
            counts.tolist(),
            strict=True,
        )
    ]


def trunk_registration(
    session: Session, connection_id: int, trunk: str, since: datetime, until: datetime, interval_s: float
) -> Registration:
    """Uptime, flaps and coverage of a trunk, from samples that should come every `interval_s` seconds.

    It computes the same as `registration` of pbx.analytics.formulas, in columns.
    """
    reached = min(until, datetime.now(UTC))
    if since >= reached:
        return Registration(0.0, 0.0, 0, 0.0)
    begin, end = int(since.timestamp()), int(reached.timestamp())
    edge_s = int(interval_s * GAP_INTERVALS)
    found = _load(session, connection_id, trunk, since, until)
    found = found.where((found.at_s >= begin - edge_s) & (found.at_s < end + edge_s))
    at, then = found.at_s[:-1], found.at_s[1:]
    up = np.array([state == REGISTERED for state in found.states] or [False], np.bool_)[found.state]
    held = np.where(then - at <= edge_s, np.maximum(np.minimum(then, end) - np.maximum(at, begin), 0), 0)
    fell = up[:-1] & ~up[1:] & (then >= begin) & (then < end)
    return Registration(float(held[up[:-1]].sum()), float(held.sum()), int(fell.sum()), float(end - begin))


def _load(session: Session, connection_id: int, trunk: str, since: datetime, until: datetime) -> _TrunkSamples:
    key = ("trunk samples", connection_id, trunk, since, until)
    return cached_in_session(session, key, lambda: _read(session, connection_id, trunk, since, until))


def _read(session: Session, connection_id: int, trunk: str, since: datetime, until: datetime) -> _TrunkSamples:
    rows = rows_of(session, "trunk_samples", connection_id, _COLUMNS, since - SAMPLE_MARGIN, until + SAMPLE_MARGIN)
    sql = f"SELECT at_s, state, channels, roundtrip_ms FROM {rows} WHERE trunk = $trunk ORDER BY at_s"
    found = query_columns(session, sql, {"trunk": trunk})
    states = tuple(cast(TrunkState, name) for name in found.names["state"])
    return _TrunkSamples(found["at_s"], found["state"], found["channels"], found["roundtrip_ms"], states)
