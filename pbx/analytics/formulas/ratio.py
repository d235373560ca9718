"""A figure with what it was made of, so that nothing divided by nothing is ever shown as a number."""

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
        return None if self.value is None else 100 * self.value

    def percent_text(self, digits: int = 1) -> str:
        """Say a share: 83.3%, or n/a."""
        return NOT_APPLICABLE if self.percent is None else f"{self.percent:.{digits}f}%"

    def duration_text(self) -> str:
        """Say a mean of seconds: 0:17, or n/a."""
        return NOT_APPLICABLE if self.value is None else duration_text(self.value)

    def parts_text(self) -> str:
        """Say what it was made of: 5 of 6."""
        return f"{_number(self.numerator)} of {_number(self.denominator)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
