"""The time range that an import can be limited to."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class TimeRange:
    """The moments since <= moment < until; a missing bound leaves that side open.

    A range without any bound is false: the import reads what is new and moves its cursors. An import of a range reads
    every row in it, known or not, and leaves the cursors where they are, because it skips the rows outside.
    """

    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return self.since is not None or self.until is not None

    @property
    def from_s(self) -> float:
        """The lower bound in seconds since 1970; 0 without one."""
        return self.since.timestamp() if self.since else 0.0

    @property
    def until_s(self) -> float:
        """The upper bound in seconds since 1970; infinity without one."""
        return self.until.timestamp() if self.until else float("inf")

    def contains(self, at_s: float) -> bool:
        """Whether a moment, in seconds since 1970, is in the range."""
        return self.from_s <= at_s < self.until_s


ONLY_NEW = TimeRange()
