"""The catalog: the dimensions and measures of each dataset. Each is defined here once.

A dimension is an expression, and a measure an aggregate, of the columns of a documented view (docs/queries.md). A ratio
has a numerator and a denominator, both aggregated, and divided at the end: it is never a mean of ratios. It is NULL
(n/a) when its denominator is 0.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pbx.analytics.formulas.queues import WAIT_ENDS_S
from pbx.formatting import OUTCOMES, PLAIN_DIRECTIONS, WEEKDAYS
from pbx.model.hangup_causes import CAUSE_NAMES, cause_text

Unit = Literal["calls", "rings", "callers", "share", "seconds", "number"]
CatalogName = Literal["calls", "queue_visits", "agent_rings", "trunk_calls"]
DimensionKind = Literal["moment", "cycle", "name", "range"]
TALK_ENDS_S = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
CALL_OUTCOMES = {
    "answered": "Answered",
    "no_answer": "Not answered",
    "busy": "Busy",
    "failed": "Failed",
    "congestion": "Congestion",
    "in_progress": "In progress",
    "unknown": "Unknown",
}
_FEW_VALUES = 16
ENDED_BY = {"caller": "Caller", "agent": "Agent", "called": "Called party", "": "Unknown"}


@dataclass(frozen=True)
class Dimension:
    """Something that rows are grouped or filtered by.

    `kind`: "moment" (intervals in order of time), "cycle" (hour of the day, weekday), "range" (of a number, by its
    upper end), or "name". `labels` gives the text of a value for people; a value without one is its own label, and
    `unknown` is the label of "" and NULL. `number_key`: for telephone numbers, the SQL of a key that is equal for all
    notations of a number (pbx.analytics.rows_to_columns.number_key).
    """

    label: str
    sql: str
    kind: DimensionKind = "name"
    labels: Mapping[Any, str] = field(default_factory=dict)
    unknown: str = "Unknown"
    number_key: str = ""

    def text(self, value: object) -> str:
        """The text of a value for people."""
        if value in self.labels:
            return self.labels[value]
        return self.unknown if value in (None, "") else str(value)


@dataclass(frozen=True)
class Measure:
    """A figure: an aggregate, or with `per` a ratio of two aggregates. A "share" is shown as a percentage.

    `definition` is a sentence for the reader. `source`: where the formula comes from, if not from this app.
    """

    label: str
    unit: Unit
    definition: str
    value: str
    per: str = ""
    source: str = ""
    better: Literal["", "up", "down"] = ""

    @property
    def sql(self) -> str:
        """The figure as an expression; a ratio is NULL when its denominator is 0."""
        return f"{self.value} / nullif({self.per}, 0)" if self.per else self.value


@dataclass(frozen=True)
class CatalogEntry:
    """The dimensions and measures of a view. `at` and `local` are the columns with a row's moment (UTC, PBX's zone)."""

    label: str
    rows: str  # what one row is
    at: str
    local: str
    dimensions: Mapping[str, Dimension]
    measures: Mapping[str, Measure]
    numbers: Mapping[str, str]  # columns of numbers that can be filtered by a range or drawn as a spread; their labels


def _times(local: str) -> dict[str, Dimension]:
    return {
        "quarter_hour": Dimension("15 minutes", f"time_bucket(INTERVAL 15 MINUTE, {local})", "moment"),
        "half_hour": Dimension("30 minutes", f"time_bucket(INTERVAL 30 MINUTE, {local})", "moment"),
        "hour": Dimension("Hour", f"date_trunc('hour', {local})", "moment"),
        "day": Dimension("Day", f"CAST({local} AS DATE)", "moment"),
        "week": Dimension("Week", f"CAST(date_trunc('week', {local}) AS DATE)", "moment"),
        "month": Dimension("Month", f"CAST(date_trunc('month', {local}) AS DATE)", "moment"),
        "hour_of_day": Dimension(
            "Hour of the day", f"hour({local})", "cycle", {hour: f"{hour:02}:00" for hour in range(24)}
        ),
        "weekday": Dimension("Weekday", f"isodow({local})", "cycle", dict(enumerate(WEEKDAYS, start=1))),
    }


def _range(label: str, column: str, ends_s: Sequence[int]) -> Dimension:
    """Ranges of seconds, each named by its upper end, which it includes; 0 names the range above all ends."""
    whens = " ".join(f"WHEN {column} <= {end} THEN {end}" for end in ends_s)
    labels: dict[Any, str] = {end: f"{start}–{end} s" for start, end in zip((0, *ends_s), ends_s, strict=False)} | {
        0: f"over {ends_s[-1]} s"
    }
    return Dimension(label, f"CASE {whens} WHEN {column} IS NOT NULL THEN 0 END", "range", labels)


_OUTCOME_LABELS: dict[Any, str] = {name: text for name, (text, *_) in OUTCOMES.items()}
_ABANDONED = "outcome = 'abandoned' AND NOT answered"
_SHORT = "count(*) FILTER (short_abandon)"
_VISITS = CatalogEntry(
    "Queue calls",
    "one caller's visit to a queue",
    "joined_at",
    "joined_local",
    {
        "queue": Dimension("Queue", "queue"),
        "agent": Dimension("Agent", "agent", unknown="No agent"),
        "outcome": Dimension("Outcome", "outcome", labels=_OUTCOME_LABELS),
        "did": Dimension("Number called", "did", unknown="No number called"),
        "caller": Dimension("Caller", "caller_number", unknown="No number", number_key="caller_key"),
        "hung_up_by": Dimension("Who hung up", "hung_up_by", labels=ENDED_BY),
        "transferred_to": Dimension("Transferred to", "transferred_to", unknown="Not transferred"),
        "wait_range": _range("Wait (range)", "wait_s", WAIT_ENDS_S),
        "talk_range": _range("Talk time (range)", "talk_s", TALK_ENDS_S),
        **_times("joined_local"),
    },
    {
        "offered": Measure("Offered", "calls", "Visits of callers to queues.", "count(*)"),
        "answered": Measure(
            "Answered",
            "calls",
            "Visits that an agent answered, transferred ones and those still talking included.",
            "count(*) FILTER (answered)",
        ),
        "abandoned": Measure(
            "Abandoned",
            "calls",
            "Visits in which the caller hung up before an answer.",
            f"count(*) FILTER ({_ABANDONED})",
            better="down",
        ),
        "short_abandons": Measure("Short abandons", "calls", "Callers who hung up after less than 5 seconds.", _SHORT),
        "callers": Measure(
            "Callers",
            "callers",
            "Different caller numbers, whatever their notation.",
            "count(DISTINCT nullif(caller_key, 0))",
        ),
        "answer_rate": Measure(
            "Answer rate",
            "share",
            "Answered calls ÷ offered calls.",
            "count(*) FILTER (answered)",
            "count(*)",
            better="up",
        ),
        "abandon_rate": Measure(
            "Abandon rate",
            "share",
            "Abandoned calls ÷ offered calls.",
            f"count(*) FILTER ({_ABANDONED})",
            "count(*)",
            better="down",
        ),
        "sl_answered": Measure(
            "Service level (answered calls)",
            "share",
            "Calls answered within their queue's target time ÷ all answered calls.",
            "count(*) FILTER (answered AND within_target)",
            "count(*) FILTER (answered)",
            "As Asterisk's ServicelevelPerf (apps/app_queue.c), but counting calls still in progress",
            "up",
        ),
        "sl_inclusive": Measure(
            "Service level (answered + abandoned)",
            "share",
            "Calls answered or abandoned within target ÷ all answered and abandoned calls.",
            f"count(*) FILTER ((answered OR {_ABANDONED}) AND within_target)",
            f"count(*) FILTER (answered OR {_ABANDONED})",
            "As Asterisk's ServicelevelPerf2 (apps/app_queue.c), without timeouts and emptied queues",
            "up",
        ),
        "sl_offered": Measure(
            "Service level (offered calls)",
            "share",
            "Calls answered within target ÷ offered calls, without callers who hung up in under 5 seconds.",
            "count(*) FILTER (answered AND within_target)",
            f"(count(*) - {_SHORT})",
            better="up",
        ),
        "asa": Measure(
            "Speed of answer (average, ASA)",
            "seconds",
            "Total wait of answered calls ÷ answered calls with a known wait.",
            "sum(wait_s) FILTER (answered)",
            "count(wait_s) FILTER (answered)",
            better="down",
        ),
        "att": Measure(
            "Average agent talk time (ATT)",
            "seconds",
            "Total talk time ÷ answered calls with a known talk time.",
            "sum(talk_s) FILTER (answered)",
            "count(talk_s) FILTER (answered)",
        ),
        "talk": Measure("Talk time", "seconds", "Total talk time.", "sum(talk_s) FILTER (answered)"),
        "max_wait": Measure(
            "Longest wait",
            "seconds",
            "The longest wait of any caller, abandoned ones included.",
            "max(wait_s)",
            better="down",
        ),
        "median_wait": Measure(
            "Median wait",
            "seconds",
            "In half of the visits, the wait was at most this long.",
            "median(wait_s)",
            better="down",
        ),
        "p90_wait": Measure(
            "90th percentile of the wait",
            "seconds",
            "In nine of ten visits, the wait was at most this long.",
            "quantile_cont(wait_s, 0.9)",
            better="down",
        ),
    },
    {"wait_s": "Wait (s)", "talk_s": "Talk time (s)"},
)
_ENDED = "count(*) FILTER (outcome NOT IN ('in_progress', 'unknown'))"
_CALLS = CatalogEntry(
    "Calls",
    "one call, with all its legs",
    "started_at",
    "started_local",
    {
        "direction": Dimension("Direction", "direction", labels=PLAIN_DIRECTIONS),
        "outcome": Dimension("Outcome", "outcome", labels=CALL_OUTCOMES),
        "queue": Dimension("Queues", "queue", unknown="No queue"),
        "agent": Dimension("Agent", "agent", unknown="No agent"),
        "did": Dimension("Number called", "did", unknown="No number called"),
        "external": Dimension(
            "External number",
            "CASE direction WHEN 'outbound' THEN to_number WHEN 'internal' THEN '' ELSE from_number END",
            unknown="Internal or no number",
            number_key="CASE direction WHEN 'outbound' THEN to_key WHEN 'internal' THEN 0 ELSE from_key END",
        ),
        "from_number": Dimension("From", "from_number", unknown="No number", number_key="from_key"),
        "to_number": Dimension("To", "to_number", unknown="No number", number_key="to_key"),
        "trunk": Dimension("Trunk", "trunk", unknown="No trunk"),
        "hung_up_by": Dimension("Who hung up", "hung_up_by", labels=ENDED_BY),
        "language": Dimension("Language", "language"),
        "recorded": Dimension("Recorded", "recorded", labels={True: "Recorded", False: "Not recorded"}),
        "wait_range": _range("Wait (range)", "wait_s", WAIT_ENDS_S),
        "talk_range": _range("Talk time (range)", "talk_s", TALK_ENDS_S),
        **_times("started_local"),
    },
    {
        "calls": Measure("Calls", "calls", "Calls that began in the period.", "count(*)"),
        "inbound": Measure("Inbound", "calls", "Calls from outside.", "count(*) FILTER (direction = 'inbound')"),
        "outbound": Measure("Outbound", "calls", "Calls to outside.", "count(*) FILTER (direction = 'outbound')"),
        "internal": Measure(
            "Internal", "calls", "Calls between extensions.", "count(*) FILTER (direction = 'internal')"
        ),
        "answered": Measure("Answered", "calls", "Answered calls.", "count(*) FILTER (answered)"),
        "answer_rate": Measure(
            "Answer rate",
            "share",
            "Answered calls ÷ calls with a known outcome.",
            "count(*) FILTER (answered)",
            _ENDED,
            better="up",
        ),
        "average_talk": Measure(
            "Average talk time",
            "seconds",
            "Total talk time ÷ answered calls with a known talk time.",
            "sum(talk_s) FILTER (answered)",
            "count(talk_s) FILTER (answered)",
        ),
        "average_wait": Measure(
            "Average wait time",
            "seconds",
            "Total time from the start of calls to their answer ÷ calls for which it is known.",
            "sum(wait_s)",
            "count(wait_s)",
            better="down",
        ),
        "talk": Measure("Talk time", "seconds", "Total talk time of answered calls.", "sum(talk_s) FILTER (answered)"),
        "median_talk": Measure(
            "Median talk time",
            "seconds",
            "Half of the answered calls had at most this talk time.",
            "median(talk_s) FILTER (answered)",
        ),
        "recorded_share": Measure(
            "Recorded", "share", "Calls with a recording ÷ all calls.", "count(*) FILTER (recorded)", "count(*)"
        ),
    },
    {"wait_s": "Wait (s)", "talk_s": "Talk time (s)", "duration_s": "Duration (s)", "rating": "Rating"},
)
_RINGS = CatalogEntry(
    "Rings of agents",
    "one ring of an agent's phone for a queue call",
    "rang_at",
    "rang_local",
    {
        "agent": Dimension("Agent", "agent", unknown="No agent"),
        "queue": Dimension("Queue", "queue"),
        "answered": Dimension("Answered", "answered", labels={True: "Answered", False: "Missed"}),
        **_times("rang_local"),
    },
    {
        "rings": Measure("Rings", "rings", "Rings of agents' phones, answered or missed.", "count(*)"),
        "missed": Measure(
            "Missed rings", "rings", "Rings that nobody answered.", "count(*) FILTER (NOT answered)", better="down"
        ),
        "missed_rate": Measure(
            "Missed ring rate",
            "share",
            "Missed rings ÷ all rings.",
            "count(*) FILTER (NOT answered)",
            "count(*)",
            better="down",
        ),
        "average_ring": Measure(
            "Average ring time", "seconds", "Total ring time ÷ rings with a known time.", "sum(ring_s)", "count(ring_s)"
        ),
    },
    {"ring_s": "Ring time (s)"},
)
_TRUNKS = CatalogEntry(
    "Trunk calls",
    "one call attempt (seizure) on a trunk",
    "started_at",
    "started_local",
    {
        "trunk": Dimension("Trunk", "trunk"),
        "direction": Dimension("Direction", "direction", labels=PLAIN_DIRECTIONS),
        "outcome": Dimension("Outcome", "outcome", labels=CALL_OUTCOMES),
        "cause": Dimension("Hang-up cause", "cause", labels={cause: cause_text(cause) for cause in CAUSE_NAMES}),
        **_times("started_local"),
    },
    {
        "seizures": Measure(
            "Call attempts (seizures)", "calls", "Channels used on a trunk, inbound and outbound.", "count(*)"
        ),
        "answered": Measure("Answered", "calls", "Answered call attempts.", "count(*) FILTER (answered)"),
        "asr": Measure(
            "Answer-seizure ratio (ASR)",
            "share",
            "Answered call attempts ÷ call attempts that have ended.",
            "count(*) FILTER (answered)",
            _ENDED,
            "ITU-T E.411",
            "up",
        ),
        "acd": Measure(
            "Average call duration (ACD)",
            "seconds",
            "Total talk time ÷ answered call attempts with a known length.",
            "sum(talk_s) FILTER (answered)",
            "count(talk_s) FILTER (answered)",
        ),
        "pdd": Measure(
            "Post-dial delay (PDD)",
            "seconds",
            "Total time from dialling to the first ringing ÷ outbound attempts for which it was observed.",
            "sum(pdd_s) FILTER (direction = 'outbound')",
            "count(pdd_s) FILTER (direction = 'outbound')",
            better="down",
        ),
        "talk": Measure("Talk time", "seconds", "Total talk time.", "sum(talk_s) FILTER (answered)"),
    },
    {"talk_s": "Talk time (s)", "pdd_s": "Post-dial delay (s)"},
)
# How a number is spread: the columns of a box plot, with their labels, definitions and aggregates.
_SPREAD = {
    "lowest": ("Lowest", "The lowest value.", "min({})"),
    "p5": ("5th percentile", "One in twenty is below.", "quantile_cont({}, 0.05)"),
    "lower_quartile": ("Lower quartile", "A quarter is below.", "quantile_cont({}, 0.25)"),
    "median": ("Median", "Half is below.", "quantile_cont({}, 0.5)"),
    "upper_quartile": ("Upper quartile", "A quarter is above.", "quantile_cont({}, 0.75)"),
    "p95": ("95th percentile", "One in twenty is above.", "quantile_cont({}, 0.95)"),
    "highest": ("Highest", "The highest value.", "max({})"),
}
CATALOG: dict[CatalogName, CatalogEntry] = {
    "queue_visits": _VISITS,
    "calls": _CALLS,
    "agent_rings": _RINGS,
    "trunk_calls": _TRUNKS,
}


def spread_measures(number: str) -> dict[str, Measure]:
    """The measures that describe how a column of numbers is spread."""
    unit: Unit = "seconds" if number.endswith("_s") else "number"
    return {name: Measure(label, unit, text, sql.format(number)) for name, (label, text, sql) in _SPREAD.items()}


def catalog_text() -> str:
    """The dimensions and measures as Markdown, for docs/questions.md."""
    return "\n\n".join(_entry_text(name, entry) for name, entry in CATALOG.items())


def _entry_text(name: str, entry: CatalogEntry) -> str:
    measures = [
        f"| `{key}` | {one.label} | {one.definition}{f' {one.source}.' if one.source else ''} | {one.unit} |"
        for key, one in entry.measures.items()
    ]
    dimensions = ", ".join(f"`{key}` ({one.label}{_values_text(one)})" for key, one in entry.dimensions.items())
    numbers = ", ".join(f"`{key}` ({label})" for key, label in entry.numbers.items())
    return "\n".join(
        [
            f"### {name}\n\n{entry.label}: {entry.rows}.\n",
            "| measure | label | definition | unit |\n|---|---|---|---|",
            *measures,
            f"\nDimensions: {dimensions}.\n\nNumbers, for filters and spreads: {numbers}.",
        ]
    )


def _values_text(dimension: Dimension) -> str:
    """The values that a filter can name, if they are fixed and few."""
    values = [json.dumps(value) if isinstance(value, bool) else str(value or '""') for value in dimension.labels]
    if dimension.kind == "range":
        values = [*map(str, [value for value in dimension.labels if value]), "0"]
    return f": {', '.join(values)}" if 0 < len(values) <= _FEW_VALUES else ""
