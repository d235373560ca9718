"""Headline figures, each with its definition, its parts, and its change from the previous period."""

from typing import Literal

import streamlit as st

from pbx.analytics.formulas.ratio import NOT_APPLICABLE, Ratio
from pbx.formatting import duration_text
from pbx.ui.page_elements import plain

FigureValue = Ratio | float | None
FigureKind = Literal["count", "percent", "duration", "seconds", "number"]
Better = Literal["up", "down", ""]


def figure_tile(
    label: str,
    value: FigureValue,
    before: FigureValue = None,
    *,
    kind: FigureKind,
    definition: str,
    better: Better = "",
    digits: int = 1,
    about: str = "",
) -> None:
    """A figure with its change; call it within `figure_tiles`. None, and a Ratio over 0, is shown as n/a.

    `before`: the figure of the previous period, None if it isn't compared. `better`: which direction is good; it
    colours the change. A share changes by percentage points, a count by percent, a duration by a duration. `about`: a
    line below the figure.
    """
    change, description = _change(value, before, kind, digits)
    colour: Literal["normal", "inverse", "off"] = "normal" if better == "up" else "inverse" if better else "off"
    with st.container(border=True, key=f"figure_{''.join(c if c.isalnum() else '_' for c in label.lower())}"):
        st.metric(
            plain(label),
            value_text(value, kind, digits),
            change,
            colour if change else "off",
            delta_arrow="auto" if change else "off",
            delta_description=description or None,
            help=_help(definition, value, before, kind, digits),
        )
        if about:
            st.caption(plain(about))


def figure_tiles(key: str = "") -> "st.delta_generator.DeltaGenerator":
    """A grid for figures; a page with several grids gives each a `key`."""
    return st.container(key=f"figures{'_' + key if key else ''}")


def value_text(value: FigureValue, kind: FigureKind, digits: int = 1) -> str:
    """Format a figure: 1,234, 83.3%, 17 s, 2.4 s, 2.4, or n/a."""
    number = _number(value, kind)
    if number is None:
        return NOT_APPLICABLE
    if kind == "percent":
        return f"{number:.{digits}f}%"
    if kind == "duration":
        return duration_text(number)
    if kind == "seconds":
        return f"{number:,.{digits}f} s"
    return f"{number:,.0f}" if kind == "count" else f"{number:,.{digits}f}"


def _number(value: FigureValue, kind: FigureKind) -> float | None:
    if isinstance(value, Ratio):
        return value.percent if kind == "percent" else value.value
    return value


def _change(value: FigureValue, before: FigureValue, kind: FigureKind, digits: int) -> tuple[str | None, str]:
    """The change with its sign (None if there is none), and the figure it is a change from."""
    now, then = _number(value, kind), _number(before, kind)
    if before is None:
        return None, ""
    if then is None:
        return None, "from n/a"
    previous = f"from {value_text(before, kind, digits)}"
    if now is None:
        return None, previous
    if value_text(value, kind, digits) == value_text(before, kind, digits):
        return None, f"unchanged at {previous.removeprefix('from ')}"
    # From the rounded figures, so that the two figures and the change add up.
    if kind == "percent":
        return f"{round(now, digits) - round(then, digits):+.{digits}f} pp", previous
    if kind == "duration":
        return ("-" if now < then else "+") + duration_text(abs(round(now) - round(then))), previous
    if kind == "seconds":
        return f"{round(now, digits) - round(then, digits):+.{digits}f} s", previous
    if not then:
        return None, previous
    share = 100 * (now - then) / then
    text = f"{share:+.1f}%" if abs(share) < 1 else f"{share:+.0f}%"
    return (text if any(digit in text for digit in "123456789") else None), previous


def _help(definition: str, value: FigureValue, before: FigureValue, kind: FigureKind, digits: int) -> str:
    lines = [plain(definition)]
    if isinstance(value, Ratio):
        lines.append(f"{_parts_text(value, kind)} = {value_text(value, kind, digits)}")
    if isinstance(before, Ratio):
        lines.append(f"Previous period: {_parts_text(before, kind)} = {value_text(before, kind, digits)}")
    return "\n\n".join(lines)


def _parts_text(ratio: Ratio, kind: FigureKind) -> str:
    """What a figure is made of: 3 of 4, or for a mean of seconds 76 s ÷ 4."""
    return (
        ratio.parts_text()
        if kind == "percent"
        else f"{ratio.numerator:,.1f}".removesuffix(".0") + f" s ÷ {ratio.denominator:,.0f}"
    )
