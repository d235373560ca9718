"""Headline figures: each with its definition, what it is made of, and how it stood in the period before."""

from typing import Literal

import streamlit as st

from pbx.analytics.formulas.ratio import NOT_APPLICABLE, Ratio
from pbx.formatting import duration_text
from pbx.ui.elements import plain

FigureValue = Ratio | float | None
FigureKind = Literal["count", "percent", "duration", "number"]
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
    """A figure; call it within `figure_tiles`. None, and a Ratio over nothing, is n/a. `about` is a line below it.

    `before`: the same figure of the period before, None where it isn't compared. `better` tells which way is good:
    it colours the change. A share changes by percentage points, a count by percent, a duration by itself.
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
    """A grid for figures; `key` tells several of a page apart."""
    return st.container(key=f"figures{'_' + key if key else ''}")


def value_text(value: FigureValue, kind: FigureKind, digits: int = 1) -> str:
    """Say a figure: 1,234, 83.3%, 17 s, 2.4, or n/a."""
    number = _number(value, kind)
    if number is None:
        return NOT_APPLICABLE
    if kind == "percent":
        return f"{number:.{digits}f}%"
    if kind == "duration":
        return duration_text(number)
    return f"{number:,.0f}" if kind == "count" else f"{number:,.{digits}f}"


def _number(value: FigureValue, kind: FigureKind) -> float | None:
    if isinstance(value, Ratio):
        return value.percent if kind == "percent" else value.value
    return value


def _change(value: FigureValue, before: FigureValue, kind: FigureKind, digits: int) -> tuple[str | None, str]:
    """The change with its sign (None where there is nothing to compare), and what it is a change from."""
    now, then = _number(value, kind), _number(before, kind)
    if before is None:
        return None, ""
    if then is None:
        return None, "n/a before"
    said = f"from {value_text(before, kind, digits)}"
    if now is None:
        return None, said
    if value_text(value, kind, digits) == value_text(before, kind, digits):
        return None, f"unchanged, {said}"
    # Of the figures as they are shown, or the three would not add up.
    if kind == "percent":
        return f"{round(now, digits) - round(then, digits):+.{digits}f} pp", said
    if kind == "duration":
        return ("-" if now < then else "+") + duration_text(abs(round(now) - round(then))), said
    if not then:
        return None, said
    share = 100 * (now - then) / then
    text = f"{share:+.1f}%" if abs(share) < 1 else f"{share:+.0f}%"
    return (text if any(digit in text for digit in "123456789") else None), said


def _help(definition: str, value: FigureValue, before: FigureValue, kind: FigureKind, digits: int) -> str:
    said = [plain(definition)]
    if isinstance(value, Ratio):
        said.append(f"{value.parts_text()} = {value_text(value, kind, digits)}")
    if isinstance(before, Ratio):
        said.append(f"Before: {before.parts_text()} = {value_text(before, kind, digits)}")
    return "\n\n".join(said)
