"""Notes above the figures: how much of the period has data, and which period it is compared with."""

from collections.abc import Callable
from datetime import datetime, time, timedelta

from sqlmodel import Session

from pbx.analytics.coverage import MIN_GAP, Coverage
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.queues import FigureFilter
from pbx.formatting import count_text, duration_text
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import note
from pbx.ui.period_bar import Period

COMPARABLE_PERCENT = 99  # a period with data for less than this is not compared
CoverageOf = Callable[[Session, int, datetime, datetime], Coverage]


def coverage_notes(site: Site, period: Period, covered: Coverage, how_to: str = "") -> None:
    """Note when the data begins and how much of the period has none; `how_to`: how to get the missing data."""
    if covered.begins_at and covered.begins_at > period.since:
        note(f"The data begins {site.local(covered.begins_at)}; nothing earlier was recorded. {how_to}".strip())
    if covered.gaps:
        unseen = sum(((end - start) for start, end in covered.gaps), timedelta())
        share = Ratio(unseen.total_seconds(), (period.seen_until - period.since).total_seconds())
        missing = f"{duration_text(unseen.total_seconds())} ({share.percent_text()} of the period)"
        note(f"No data for {missing}, in {count_text(len(covered.gaps), 'gap')}: not recorded live and not imported.")


def compared(session: Session, site: Site, period: Period, coverage_of: CoverageOf) -> FigureFilter | None:
    """The previous period, with a note that names it; None, with a note that says why, if either lacks data.

    If the end of this period has no data yet, as when today's import is still to come, both periods end there.
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
    why_not = _missing_data(site, then, before.since, before.until) if then else "there is no data for this period"
    why_not = why_not or _missing_data(site, covered, since, until, "this period")
    if why_not:
        note(f"No comparison with the previous period: {why_not}.")
        return None
    note(f"Compared with {_span_text(site, before.since, before.until)}.")
    return before


def _missing_data(site: Site, covered: Coverage, since: datetime, until: datetime, what: str = "") -> str:
    """Why a time range has too little data to be compared; "" if it has enough. `what`: its name in the sentence."""
    unseen = sum((end - start for start, end in covered.gaps), timedelta())
    if unseen <= max((until - since) * (100 - COMPARABLE_PERCENT) / 100, MIN_GAP):
        return ""
    start, end = covered.gaps[0]
    if start == since and covered.begins_at and covered.begins_at >= since:
        began = (max(end, covered.begins_at) if end >= until else end).astimezone(site.zone)
        return f"the data begins on {began.day} {began:%b} at {began:%H:%M}"
    return f"{duration_text(unseen.total_seconds())} of {what or _span_text(site, since, until)} had no data"


def _span_text(site: Site, since: datetime, until: datetime) -> str:
    """A time range in words: 28 Nov, 22 Nov – 28 Nov, or 28 Nov 00:00 – 28 Nov 14:40."""
    first, end = since.astimezone(site.zone), until.astimezone(site.zone)
    if first.time() != time.min or end.time() != time.min:
        return f"{first.day} {first:%b} {first:%H:%M} – {end.day} {end:%b} {end:%H:%M}"
    last = end - timedelta(days=1)
    days = f"{first.day} {first:%b}", f"{last.day} {last:%b}"
    return days[0] if days[0] == days[1] else f"{days[0]} – {days[1]}"
