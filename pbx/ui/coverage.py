"""What is not known of a period, said above its figures."""

from datetime import timedelta

from pbx.metrics.ratio import Ratio
from pbx.store.coverage import Coverage
from pbx.ui.bar import Period
from pbx.ui.sites import Site
from pbx.ui.words import note
from pbx.wording import count_text, duration_text


def say_coverage(at: Site, period: Period, covered: Coverage, how_to: str = "") -> None:
    """Say since when history is known, and how much of the period nobody observed; `how_to`: what to do about it."""
    if covered.begins_at and covered.begins_at > period.before.since:
        note(f"History begins {at.local(covered.begins_at)}: of what was before nothing is known. {how_to}".strip())
    if covered.gaps:
        unseen = sum(((end - start) for start, end in covered.gaps), timedelta())
        share = Ratio(unseen.total_seconds(), (period.seen_until - period.since).total_seconds())
        said = f"{count_text(len(covered.gaps), 'gap')}, {duration_text(unseen.total_seconds())} in all"
        note(f"{said} ({share.percent_text()} of the period): nobody listened, and no import tells of it.")
