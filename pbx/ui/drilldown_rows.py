"""The rows that drill-downs list: calls, the channels of trunks (seizures), and visits to queues."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import NamedTuple, cast, get_args

from sqlmodel import Session

from pbx.analytics.call_lists import CallSelection, Seizure, SeizureSelection, selected_calls, selected_seizures
from pbx.analytics.calls import CallQuestion
from pbx.analytics.formulas.queues import OUTCOMES
from pbx.analytics.queues import FigureFilter, Selection
from pbx.analytics.visit_lists import ListedVisit, count_visits, visits_page
from pbx.export.tables import CellValue
from pbx.formatting import (
    DIRECTIONS,
    DISPOSITIONS,
    NOTHING,
    PLAIN_DIRECTIONS,
    RECORDING_STATES,
    WEEKDAYS,
    duration_text,
)
from pbx.formatting import OUTCOMES as OUTCOME_WORDS
from pbx.model.call import CallDirection
from pbx.model.hangup_causes import cause_text
from pbx.store.calls import calls_by_id
from pbx.store.engine import reading
from pbx.store.models import CallRow
from pbx.ui.active_pbx import Site
from pbx.ui.call_columns import call_cells
from pbx.ui.drilldown import Drilldown, int_param, number_param, span_param, span_text
from pbx.ui.period_bar import Period
from pbx.ui.table import TableCell
from pbx.ui.transcript_search import NONE_LABELS

NO_CAUSE = -1
OPEN_WHEN_EXPORTED = "In progress at export"  # in a file, which doesn't change when the call ends
_OWN_BARS = ("answered", "transferred", "abandoned")  # outcomes that aren't counted as "other"
_KINDS = {"answered": "answered", "abandoned": "abandoned", "other": "ended otherwise"}


class CallQuery(NamedTuple):
    """Which calls to list: those that the page counts, and the selected ones among them."""

    counted: CallQuestion
    selection: CallSelection = CallSelection()


class SeizureQuery(NamedTuple):
    """Which seizures to list: of one trunk or of all (None), that began in a time range, and the selected ones."""

    trunk: str | None
    since: datetime
    until: datetime
    selection: SeizureSelection = SeizureSelection()


def _narrow_calls(params: Mapping[str, str], query: CallQuery, period: Period) -> tuple[CallQuery, list[str]]:
    counted, words = query.counted, []
    if span := span_param(params, counted.since, counted.until):
        counted = replace(counted, since=span[0], until=span[1])
        words.append(span_text(span, period))
    if (direction := params.get("direction")) in get_args(CallDirection):
        counted = replace(counted, direction=cast(CallDirection, direction))
        words.append(DIRECTIONS[direction or ""])
    for name, label in (("queue", "queue"), ("agent", "agent"), ("did", "number called")):
        if name in params:
            counted = replace(counted, **{name: params[name]})  # type: ignore[arg-type]
            words.append(f"{label} {params[name]}" if params[name] else f"no {label}")
    weekday, hour, week_words = _hour_of_week(params)
    words += week_words
    if number := params.get("number"):
        words.append(f"with {number}")
    disposition = params.get("disposition")
    if disposition is not None:
        words.append(DISPOSITIONS.get(disposition, disposition) if disposition else "unknown outcome")
    return CallQuery(counted, CallSelection(number or None, disposition, weekday, hour)), words


def _load_calls(session: Session, site: Site, query: CallQuery, offset: int, limit: int) -> tuple[int, list[CallRow]]:
    return selected_calls(session, query.counted, query.selection, site.zone, offset=offset, limit=limit)


def _call_values(call: CallRow) -> Sequence[CellValue]:
    return (
        *(call.started_at, call.from_number, call.to_number, PLAIN_DIRECTIONS.get(call.direction, call.direction)),
        *(call.did, call.queue, call.agent, DISPOSITIONS.get(call.disposition, call.disposition)),
        *(call.duration_s, call.talk_s, call.wait_s, call.linkedid),
    )


def _interactions_filters(site: Site, query: CallQuery) -> dict[str, str | list[str]] | None:
    """The filters of Interactions that find the same calls; None where no filters do."""
    counted, selection = query
    first, last = (moment.astimezone(site.zone) for moment in (counted.since, counted.until))
    complete_days = first.time() == last.time() == time.min
    without_filter = (counted.did, counted.agent, selection.disposition, selection.weekday)
    if not complete_days or any(value is not None for value in without_filter):
        return None
    days = [first.date().isoformat(), (last - timedelta(seconds=1)).date().isoformat()]
    queue = NONE_LABELS["queue"] if counted.queue == "" else counted.queue
    optional = {"direction": (counted.direction or "").capitalize(), "queue": queue, "number": selection.number}
    filters: dict[str, str | list[str]] = {"period": "Custom range", "days": days}
    return filters | {name: value for name, value in optional.items() if value}


CALLS: Drilldown[CallQuery, CallRow] = Drilldown(
    title="Calls",
    key="selected_calls",
    columns=(call_columns := ("Started|", "From", "To", "Duration>", "Recording|", "Transcript|")),
    narrow=_narrow_calls,
    load=_load_calls,
    cells=lambda site, calls: [call_cells(site, call)[: len(call_columns)] for call in calls],
    call_id=lambda call: call.id,
    export_columns=(
        *("Started", "From", "To", "Direction", "Number called", "Queue", "Agent", "Outcome"),
        *("Duration (s)", "Talk time (s)", "Wait time (s)", "Call ID (linkedid)"),
    ),
    export_values=_call_values,
    filters=_interactions_filters,
)


def _narrow_seizures(params: Mapping[str, str], query: SeizureQuery, period: Period) -> tuple[SeizureQuery, list[str]]:
    trunk, since, until, _ = query
    words = []
    if span := span_param(params, since, until):
        since, until = span
        words.append(span_text(span, period))
    if named := params.get("trunk"):
        trunk = named
        words.append(f"trunk {named}")
    disposition, cause = params.get("disposition"), int_param(params, "cause", 128)
    if cause is not None:
        words.append(cause_text(cause))
    elif disposition is not None:
        cause = NO_CAUSE
        words.append(f"{DISPOSITIONS.get(disposition, disposition)}, cause unknown")
    return SeizureQuery(trunk, since, until, SeizureSelection(cause, disposition)), words


def _load_seizures(
    session: Session, site: Site, query: SeizureQuery, offset: int, limit: int
) -> tuple[int, list[Seizure]]:
    return selected_seizures(session, site.active.id, *query, offset=offset, limit=limit)


def _direction(seizure: Seizure) -> str:
    return "outbound" if seizure.outbound else "inbound"


def _outcome_text(seizure: Seizure) -> str:
    return DISPOSITIONS.get(seizure.disposition, seizure.disposition) if seizure.disposition else "In progress"


def _seizure_cells(site: Site, seizure: Seizure) -> list[TableCell]:
    return [
        {"text": site.local(seizure.started_at, seconds=True), "sub": DIRECTIONS[_direction(seizure)]},
        seizure.from_number or "Unknown",
        seizure.to_number or "Unknown",
        seizure.trunk,
        {"text": _outcome_text(seizure), "sub": cause_text(seizure.cause)},
        duration_text(seizure.duration_s),
        NOTHING if seizure.pdd_s is None else f"{seizure.pdd_s:.1f} s",
    ]


def _seizure_values(seizure: Seizure) -> Sequence[CellValue]:
    outcome = _outcome_text(seizure) if seizure.disposition else OPEN_WHEN_EXPORTED
    return (
        *(seizure.started_at, seizure.from_number, seizure.to_number, PLAIN_DIRECTIONS[_direction(seizure)]),
        *(seizure.trunk, outcome, seizure.cause, seizure.duration_s, seizure.billsec_s, seizure.pdd_s),
    )


SEIZURES: Drilldown[SeizureQuery, Seizure] = Drilldown(
    title="Calls over trunks",
    key="seizures",
    columns=("Started|", "From", "To", "Trunk|", "Outcome|", "Duration>", "Post-dial delay>"),
    narrow=_narrow_seizures,
    load=_load_seizures,
    cells=lambda site, seizures: [_seizure_cells(site, seizure) for seizure in seizures],
    call_id=lambda seizure: seizure.call_id,
    export_columns=(
        *("Started", "From", "To", "Direction", "Trunk", "Outcome", "Cause (Q.850)"),
        *("Duration (s)", "Billed (s)", "Post-dial delay (s)"),
    ),
    export_values=_seizure_values,
)


def _narrow_visits(params: Mapping[str, str], query: FigureFilter, period: Period) -> tuple[FigureFilter, list[str]]:
    words, present = [], None
    if span := span_param(params, query.since, query.until):
        if "present" in params:
            present = span
        else:
            query = replace(query, since=span[0], until=span[1])
        words.append(f"waiting or in progress {span_text(span, period)}" if present else span_text(span, period))
    query = replace(query, queue=params.get("queue", query.queue), agent=params.get("agent"), did=params.get("did"))
    labels = (("queue", "queue"), ("agent", "agent"), ("did", "number called"))
    words += [f"{label} {params[name] or 'unknown'}" for name, label in labels if name in params]
    if (target := params.get("target")) is not None:
        words.append(f"transferred to {transfer_text(target) or 'an unknown number'}")
    weekday, hour, week_words = _hour_of_week(params)
    words += week_words
    over_s, up_to_s = number_param(params, "over"), number_param(params, "upto")
    if over_s is not None:
        to = f"up to {duration_text(up_to_s)}" if up_to_s is not None else "or more"
        words.append(f"waited {duration_text(over_s)} {to}" if over_s or up_to_s is None else f"waited {to}")
    outcomes, answered = None, None
    if (kind := params.get("kind")) in _KINDS:
        answered = kind == "answered"
        other = tuple(outcome for outcome in OUTCOMES if outcome not in _OWN_BARS)
        outcomes = {"abandoned": ("abandoned",), "other": other}.get(kind or "")
        words.append(_KINDS[kind or ""])
    elif (outcome := params.get("outcome")) in OUTCOMES:
        outcomes = (outcome,)
        words.append("unknown outcome" if outcome == "unknown" else OUTCOME_WORDS[outcome][0].lower())
    over_s = over_s or None  # the first bucket includes those who waited 0 s
    selection = Selection(outcomes, answered, weekday, hour, over_s, up_to_s, present, target)
    return replace(query, chosen=selection, zone=period.zone), words


def _load_visits(
    session: Session, site: Site, query: FigureFilter, offset: int, limit: int
) -> tuple[int, list[ListedVisit]]:
    total = count_visits(session, query, Selection(), site.zone)
    return total, visits_page(session, query, Selection(), site.zone, offset=offset, limit=limit) if limit else []


def _visit_cells(site: Site, visits: Sequence[ListedVisit]) -> list[list[TableCell]]:
    with reading(site.engine) as session:
        calls = calls_by_id(session, [visit.call_id for visit in visits if visit.call_id is not None])
    return [_cells_of_visit(site, visit, calls.get(visit.call_id or 0)) for visit in visits]


def _cells_of_visit(site: Site, visit: ListedVisit, call: CallRow | None) -> list[TableCell]:
    text, tone, _ = OUTCOME_WORDS[visit.outcome]
    recording: TableCell = NOTHING
    if call is not None:
        state, state_tone = RECORDING_STATES.get(call.state, (call.state, "idle"))
        transcript = "Transcribed" if call.transcription == "completed" else ""
        recording = {"text": state, "tone": state_tone, "sub": transcript}
    return [
        site.local(visit.joined_at, seconds=True),
        caller_cell(visit),
        {"text": visit.queue, "sub": f"dialled {visit.did}" if visit.did else ""},
        {"text": text, "tone": tone, "sub": f"to {transfer_text(visit.target)}" if visit.target else ""},
        duration_text(visit.wait_s),
        duration_text(visit.talk_s),
        visit.agent or NOTHING,
        recording,
    ]


def caller_cell(visit: ListedVisit) -> TableCell:
    """The caller's name with the number below it, or the number alone."""
    named = visit.caller_name and visit.caller_name != visit.caller
    text = visit.caller_name if named else visit.caller or "No caller ID"
    return {"text": text, "sub": visit.caller if named else ""}


def transfer_text(target: str) -> str:
    """Return the number a call was transferred to, without the dialplan context: 221 for 221@from-internal."""
    return target.partition("@")[0]


def _visit_values(visit: ListedVisit) -> Sequence[CellValue]:
    outcome = OPEN_WHEN_EXPORTED if visit.outcome == "in_progress" else OUTCOME_WORDS[visit.outcome][0]
    return (
        *(visit.joined_at, visit.caller, visit.caller_name, visit.queue, visit.did, outcome),
        *(visit.wait_s, visit.talk_s, visit.ring_s, visit.agent, transfer_text(visit.target), visit.uniqueid),
    )


VISITS: Drilldown[FigureFilter, ListedVisit] = Drilldown(
    title="Calls",
    export_title="Queue calls",
    key="visits",
    columns=("Joined|", "Caller", "Queue", "Outcome|", "Wait time>", "Talk time>", "Agent", "Recording|"),
    narrow=_narrow_visits,
    load=_load_visits,
    cells=_visit_cells,
    call_id=lambda visit: visit.call_id,
    export_columns=(
        *("Joined", "Caller", "Caller name", "Queue", "Number called", "Outcome"),
        *("Wait time (s)", "Talk time (s)", "Ring time (s)", "Agent", "Transferred to", "Uniqueid"),
    ),
    export_values=_visit_values,
)


def _agent_calls(params: Mapping[str, str], query: FigureFilter, period: Period) -> tuple[FigureFilter, list[str]]:
    """The calls that an agent took, those that joined in the selected part of a day."""
    query = replace(query, chosen=Selection(answered=True))
    if not (span := span_param(params, query.since, query.until)):
        return query, []
    first, last = (moment.astimezone(period.zone) for moment in span)
    day = "" if first.date() == last.date() else f"{last:%a} {last.day} {last:%b} "
    text = f"joined {first:%a} {first.day} {first:%b} {first:%H:%M} – {day}{last:%H:%M}"
    return replace(query, since=span[0], until=span[1]), [text]


AGENT_CALLS: Drilldown[FigureFilter, ListedVisit] = replace(
    VISITS,
    title="Calls taken",
    key="agent_calls",
    columns=("Joined|", "Caller", "Queue|", "Wait time>", "Talk time>"),
    narrow=_agent_calls,
    cells=lambda site, visits: [
        [
            site.local(visit.joined_at, seconds=True),
            caller_cell(visit),
            visit.queue,
            duration_text(visit.wait_s),
            duration_text(visit.talk_s),
        ]
        for visit in visits
    ],
    export_columns=(),
)


def _hour_of_week(params: Mapping[str, str]) -> tuple[int | None, int | None, list[str]]:
    """The selected weekday and hour, and both in words; the one counts only with the other."""
    weekday, hour = int_param(params, "weekday", 7), int_param(params, "hour", 24)
    if weekday is None or hour is None:
        return None, None, []
    return weekday, hour, [f"{WEEKDAYS[weekday]} {hour:02}:00–{(hour + 1) % 24:02}:00"]
