"""The stretch of time that an import is limited to."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class TimeRange:
    """since <= time < until; a missing bound is open. Falsy: no limit at all, and what is new is read.

    An import of a stretch reads it whole, known or not, and leaves how far its source was read as it was: what lies
    outside is not taken for read.
    """

    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return self.since is not None or self.until is not None

    @property
    def from_s(self) -> float:
        return self.since.timestamp() if self.since else 0.0

    @property
    def until_s(self) -> float:
        return self.until.timestamp() if self.until else float("inf")

    def holds(self, at_s: float) -> bool:
        """Whether a time, in seconds since 1970, lies within."""
        return self.from_s <= at_s < self.until_s


WHATEVER_IS_NEW = TimeRange()
