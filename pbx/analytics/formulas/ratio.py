"""A figure with its numerator and denominator, so that a division by zero is shown as n/a and never as a number."""

from dataclasses import dataclass

from pbx.formatting import duration_text

NOT_APPLICABLE = "n/a"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A numerator over a denominator: a share, or a mean (a sum over a count)."""

    numerator: float
    denominator: float

    @property
    def value(self) -> float | None:
        """The quotient; None when the denominator is 0."""
        return self.numerator / self.denominator if self.denominator else None

    @property
    def percent(self) -> float | None:
        """The quotient times 100; None when the denominator is 0."""
        return None if self.value is None else 100 * self.value

    def percent_text(self, digits: int = 1) -> str:
        """The share as text: 83.3%, or n/a."""
        return NOT_APPLICABLE if self.percent is None else f"{self.percent:.{digits}f}%"

    def duration_text(self) -> str:
        """The mean of seconds as text: 17 s, or n/a."""
        return NOT_APPLICABLE if self.value is None else duration_text(self.value)

    def parts_text(self) -> str:
        """The numerator and denominator as text: 5 of 6."""
        return f"{_number(self.numerator)} of {_number(self.denominator)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
