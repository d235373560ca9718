"""Queue figures in plain Python, visit by visit, to compare the SQL's results with."""

from collections import Counter
from collections.abc import Iterable, Sequence

from pbx.analytics.formulas.callbacks import CallbackFigures
from pbx.analytics.formulas.queues import OUTCOMES, WAIT_ENDS_S, QueueFigures, Targets, WaitBucket
from pbx.analytics.rows_to_columns import number_key
from pbx.store.models import VisitRow


def is_answered(visit: VisitRow) -> bool:
    return visit.connected_at is not None or visit.outcome in ("answered", "transferred")


def is_abandoned(visit: VisitRow) -> bool:
    return visit.outcome == "abandoned" and not is_answered(visit)


def figures(visits: Sequence[VisitRow], targets: Targets) -> QueueFigures:
    """The figures of visits."""

    def within(visit: VisitRow) -> bool:
        return visit.wait_s is not None and visit.wait_s <= targets.of(visit.queue)

    outcomes = Counter(visit.outcome for visit in visits)
    answered = [visit for visit in visits if is_answered(visit)]
    abandoned = [visit for visit in visits if is_abandoned(visit)]
    waits = [visit.wait_s for visit in answered if visit.wait_s is not None]
    talks = [visit.talk_s for visit in answered if visit.talk_s is not None]
    return QueueFigures(
        offered=len(visits),
        answered=len(answered),
        abandoned=len(abandoned),
        outcomes={name: outcomes[name] for name in OUTCOMES if outcomes[name]},
        answered_within_t=sum(map(within, answered)),
        abandoned_within_t=sum(map(within, abandoned)),
        short_abandons=sum(visit.wait_s is not None and visit.wait_s < targets.short_s for visit in abandoned),
        answer_wait_s=sum(waits),
        answer_waits=len(waits),
        talk_s=sum(talks),
        talks=len(talks),
        max_wait_s=max((visit.wait_s for visit in visits if visit.wait_s is not None), default=None),
    )


def wait_buckets(visits: Iterable[VisitRow]) -> list[WaitBucket]:
    """Visits by waiting time and outcome."""
    counts: Counter[tuple[float, str]] = Counter()
    for visit in visits:
        if visit.wait_s is not None:
            kind = "answered" if is_answered(visit) else "abandoned" if is_abandoned(visit) else "other"
            counts[max((end for end in (0, *WAIT_ENDS_S) if end < visit.wait_s), default=0), kind] += 1
    return [
        WaitBucket(over_s, up_to_s, *(counts[over_s, kind] for kind in ("answered", "abandoned", "other")))
        for over_s, up_to_s in zip((0, *WAIT_ENDS_S), (*WAIT_ENDS_S, None), strict=True)
    ]


def next_answer(caller: int, ended_s: int, answers: Iterable[tuple[int, int]]) -> int | None:
    """When the next answered call from or to a caller began, after the second in which a visit ended."""
    return min((at_s for number, at_s in answers if caller and number == caller and at_s > ended_s), default=None)


def ended_s(visit: VisitRow) -> int:
    """The second in which an abandoned visit ended."""
    return int(visit.joined_at.timestamp()) + int(visit.wait_s or 0)


def callback_figures(visits: Iterable[VisitRow], answers: Sequence[tuple[int, int]]) -> CallbackFigures:
    """Callback figures of visits. `answers`: the number and the second of each answered call."""
    ended = [(number_key(visit.caller), ended_s(visit)) for visit in visits if is_abandoned(visit)]
    last = {caller: max(at_s for one, at_s in ended if one == caller) for caller, _ in ended if caller}
    reached = {caller: next_answer(caller, at_s, answers) for caller, at_s in last.items()}
    back_s = [at_s - last[caller] for caller, at_s in reached.items() if at_s is not None]
    without = sum(caller == 0 for caller, _ in ended)
    return CallbackFigures(len(ended), without, len(last), len(last) - len(back_s), len(back_s), float(sum(back_s)))
