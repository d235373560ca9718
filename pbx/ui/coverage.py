"""What is known of a period and of the one before it, reported above the figures."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlmodel import Session

from pbx.analytics.coverage import MIN_GAP, Coverage
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.queues import FigureFilter
from pbx.formatting import count_text, duration_text
from pbx.ui.active_pbx import Site
from pbx.ui.elements import note
from pbx.ui.period_bar import Period

COMPARABLE_PERCENT = 99  # a period observed less than this is not compared
CoverageOf = Callable[[Session, int, datetime, datetime], Coverage]


def say_coverage(site: Site, period: Period, covered: Coverage, how_to: str = "") -> None:
    """Say since when history is known, and how much of the period nobody observed; `how_to`: what to do about it."""
    if covered.begins_at and covered.begins_at > period.since:
        note(f"History begins {site.local(covered.begins_at)}: of what was before nothing is known. {how_to}".strip())
    if covered.gaps:
        unseen = sum(((end - start) for start, end in covered.gaps), timedelta())
        share = Ratio(unseen.total_seconds(), (period.seen_until - period.since).total_seconds())
        said = f"{count_text(len(covered.gaps), 'gap')}, {duration_text(unseen.total_seconds())} in all"
        note(f"{said} ({share.percent_text()} of the period): nobody listened, and no import tells of it.")


def compared(session: Session, site: Site, period: Period, coverage_of: CoverageOf) -> FigureFilter | None:
    """The period before, to compare with, and a note that names it; None, and a note why, if either wasn't observed.

    What isn't known yet of the period, as the import of today is still to come, is left out of the one before too.
    """
    since, until = period.since, period.seen_until
    if since >= until:
        return None
    covered = coverage_of(session, site.active.id, since, until)
    if covered.gaps and covered.gaps[-1][1] >= until:
        until = covered.gaps[-1][0]
        covered = Coverage(covered.begins_at, covered.gaps[:-1])
    before = period.wanted.before(site.zone, until)
    then = coverage_of(session, site.active.id, before.since, before.until) if since < until else None
    why_not = _unobserved(site, then, before.since, before.until) if then else "there is no data for this period"
    why_not = why_not or _unobserved(site, covered, since, until, "this period")
    if why_not:
        note(f"No comparison with the previous period: {why_not}.")
        return None
    note(f"Compared with {_span_text(site, before.since, before.until)}.")
    return before


def _unobserved(site: Site, covered: Coverage, since: datetime, until: datetime, what: str = "") -> str:
    """Say why a span isn't known well enough to be compared; "" if it is. `what`: what the span is called."""
    unseen = sum((end - start for start, end in covered.gaps), timedelta())
    if unseen <= max((until - since) * (100 - COMPARABLE_PERCENT) / 100, MIN_GAP):
        return ""
    start, end = covered.gaps[0]
    if start == since and covered.begins_at and covered.begins_at >= since:
        began = (max(end, covered.begins_at) if end >= until else end).astimezone(site.zone)
        return f"history begins on {began.day} {began:%b} at {began:%H:%M}"
    said = duration_text(unseen.total_seconds())
    return f"{said} of {what or _span_text(site, since, until)} had no data"


def _span_text(site: Site, since: datetime, until: datetime) -> str:
    return f"{site.local(since)} – {site.local(until)}"
