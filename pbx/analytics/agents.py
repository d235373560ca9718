"""Figures of agents over a period: calls, talk time, missed rings, sessions, pauses by reason, occupancy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from sqlmodel import Session

from pbx.analytics.engine import query, query_arrow, rows_of
from pbx.analytics.formulas.agents import AgentFigures, AgentSpans, PauseFigures, spans_of
from pbx.analytics.formulas.intervals import Floats, Ints, epochs, interval_edges
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.queues import FigureFilter, by_agent
from pbx.analytics.rows_to_columns import cached_in_session

_Sums = tuple[float | None, float, int, dict[str, PauseFigures]]
_RING_COLUMNS = ("agent", "queue", "ring_s")
_EVENT_COLUMNS = ("agent", "queue", "kind", "reason")
# Fields of AgentFigures as aggregates of the dataset agent_rings.
RING_SUMS = {"non_response": "count(*)", "missed_ring_s": "sum(ring_s)"}
_NARROWED = "($agent IS NULL OR agent = $agent) AND ($queue IS NULL OR queue = $queue)"
_CODES = 1 << 24  # a change is at_s * _CODES + code; the code is below this
_LOGOUT, _UNPAUSE, _LOGIN, _FIRST_PAUSE = range(4)  # in one second, those that end a span come before others
# The changes of each agent and queue in order: the last ones before the period, and those in it.
_CHANGES = f"""
WITH reasons AS (
    SELECT reason, row_number() OVER (ORDER BY reason) - 1 AS code FROM (SELECT DISTINCT reason FROM {{rows}})
), events AS (
    SELECT agent, queue, kind, at_s, at_s * {_CODES} + CASE kind WHEN 'logout' THEN {_LOGOUT}
        WHEN 'unpause' THEN {_UNPAUSE} WHEN 'login' THEN {_LOGIN} ELSE {_FIRST_PAUSE} + code END AS change
    FROM {{rows}} JOIN reasons USING (reason)
    WHERE ($agent IS NULL OR agent = $agent) AND ($queue IS NULL OR queue IN ($queue, ''))
)
SELECT agent, queue = '' AS everywhere, bool_or(kind = 'login') AS known,
    bool_or(kind IN ('pause', 'unpause')) AS pauses,
    list_sort(list_filter([
        max(change) FILTER (at_s < $since AND kind IN ('login', 'logout')),
        max(change) FILTER (at_s < $since AND kind <> 'login')
    ], lambda change: change IS NOT NULL) || coalesce(list(change) FILTER (at_s >= $since), [])) AS changes
FROM events GROUP BY agent, queue ORDER BY agent, queue
"""


class AgentSession(NamedTuple):
    """A time span in which an agent was logged in to at least one queue, limited to the period."""

    agent: str
    from_at: datetime
    until_at: datetime
    open: bool  # still logged in at the end of the period


class AgentPause(NamedTuple):
    """A time span in which an agent was paused in at least one queue, limited to the period."""

    agent: str
    from_at: datetime
    until_at: datetime
    reason: str


class AgentDay(NamedTuple):
    """An agent's day in the PBX's time zone: first login, last logout, time logged in, time paused of that."""

    agent: str
    day_at: datetime  # start of the day, in UTC
    first_in_at: datetime
    last_out_at: datetime
    logged_in_s: float
    paused_s: float


@dataclass(frozen=True)
class _Presence:
    """When agents were logged in and paused in the period. Agents and reasons are indexes into their sorted names."""

    agents: list[str]
    reasons: list[str]
    logins: AgentSpans  # of each agent, merged
    pauses: AgentSpans  # of each agent, merged
    pauses_by_reason: AgentSpans  # of each agent and reason (agent * number of reasons + reason), merged
    known: Flags  # of each agent, whether a login was ever recorded
    reached_s: float  # the period's end, or now


def agent_figures(session: Session, wanted: FigureFilter) -> list[AgentFigures]:
    """Figures of every agent who was logged in, rang or took a call, sorted by calls (most first), then by name.

    A queue limits them to what happened in that queue. A DID limits only the calls. Pauses count while the agent was
    logged in; where no login was recorded, all pauses count.
    """
    taken = by_agent(session, wanted)
    rows = rows_of(session, "agent_rings", wanted.connection_id, _RING_COLUMNS, wanted.since, wanted.until)
    sql = f"SELECT agent, {', '.join(RING_SUMS.values())} FROM {rows} WHERE {_NARROWED} GROUP BY agent"
    missed = {name: sums for name, *sums in query(session, sql, {"agent": wanted.agent, "queue": wanted.queue})}
    presence = _presence_sums(session, wanted)
    found = []
    for name in {*taken, *missed, *presence} - {""}:
        calls, (count, ring_s) = taken.get(name), missed.get(name, (0, 0.0))
        logged_in_s, paused_s, sessions, pauses = presence.get(name, (None, 0.0, 0, {}))
        answered = (calls.answered, calls.talk_s, calls.talks) if calls else (0, 0.0, 0)
        found.append(AgentFigures(name, *answered, count, ring_s, logged_in_s, paused_s, sessions, pauses))
    return sorted(found, key=lambda agent: (-agent.calls, agent.agent))


def pause_reasons(session: Session, wanted: FigureFilter) -> dict[str, PauseFigures]:
    """The pauses of all agents by reason, the longest total first; "" for pauses without a reason."""
    found: dict[str, PauseFigures] = {}
    for _, _, _, pauses in _presence_sums(session, wanted).values():
        for reason, pause in pauses.items():
            total = found.get(reason, PauseFigures(0, 0.0))
            found[reason] = PauseFigures(total.count + pause.count, total.paused_s + pause.paused_s)
    return dict(sorted(found.items(), key=lambda item: (-item[1].paused_s, item[0])))


def agent_sessions(session: Session, wanted: FigureFilter) -> list[AgentSession]:
    """When agents were logged in, by agent, then by time."""
    presence = _presence(session, wanted)
    logins = presence.logins
    names = map(presence.agents.__getitem__, logins.whose.tolist())
    still_open = (logins.end_s >= presence.reached_s).tolist()
    return list(map(AgentSession, names, _moments(logins.start_s), _moments(logins.end_s), still_open))


def agent_pauses(session: Session, wanted: FigureFilter) -> list[AgentPause]:
    """When agents were paused and why, by agent, then by time. A pause in several queues at the same time is one."""
    presence = _presence(session, wanted)
    pauses, reasons = presence.pauses_by_reason, len(presence.reasons) or 1
    order = np.lexsort((pauses.start_s, pauses.whose // reasons))
    owners, start, end = pauses.whose[order], pauses.start_s[order], pauses.end_s[order]
    names = map(presence.agents.__getitem__, (owners // reasons).tolist())
    why = map(presence.reasons.__getitem__, (owners % reasons).tolist())
    return list(map(AgentPause, names, _moments(start), _moments(end), why))


def agent_days(session: Session, wanted: FigureFilter, zone: tzinfo) -> list[AgentDay]:
    """Agents' days in `zone`, by day, then agent. A session across midnight is split presence."""
    presence = _presence(session, wanted)
    edges, agents = interval_edges(wanted.since, wanted.until, zone, "day"), len(presence.agents)
    if not edges or not len(presence.logins):
        return []
    logins, pauses = (_by_day(spans, edges, agents) for spans in (presence.logins, presence.pauses))
    logins, owners = logins.merged(), agents * (len(edges) - 1)
    paused_s = np.bincount(pauses.whose, weights=pauses.within_s(logins), minlength=owners)
    in_s, (days, first) = logins.total_s(owners), np.unique(logins.whose, return_index=True)
    last = np.append(first[1:], len(logins)) - 1
    return list(
        map(
            AgentDay,
            map(presence.agents.__getitem__, (days % agents).tolist()),
            map(edges.__getitem__, (days // agents).tolist()),
            _moments(logins.start_s[first]),
            _moments(logins.end_s[last]),
            in_s[days].tolist(),
            paused_s[days].tolist(),
        )
    )


def _by_day(spans: AgentSpans, edges: list[datetime], agents: int) -> AgentSpans:
    """Spans split at the edges of days, owned by day * agents + agent."""
    bounds = epochs(edges).astype(np.float64)
    first = np.searchsorted(bounds, spans.start_s, side="right") - 1
    last = np.searchsorted(bounds, spans.end_s, side="left") - 1
    first, last = np.maximum(first, 0), np.minimum(last, len(bounds) - 2)
    days = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(len(spans)), days)
    day = np.arange(len(which)) - np.repeat(np.cumsum(days) - days, days) + first[which]
    start, end = np.maximum(spans.start_s[which], bounds[day]), np.minimum(spans.end_s[which], bounds[day + 1])
    return AgentSpans(day * agents + spans.whose[which], start, end)


def _presence(session: Session, wanted: FigureFilter) -> _Presence:
    """Agents' presence, from all events ever recorded: an agent who never logged out is still logged in."""
    return cached_in_session(session, ("presence", _presence_key(wanted)), lambda: _find_presence(session, wanted))


def _presence_key(wanted: FigureFilter) -> FigureFilter:
    return replace(wanted, did=None, chosen=None)  # they don't change when agents were logged in


def _find_presence(session: Session, wanted: FigureFilter) -> _Presence:
    until = min(wanted.until, datetime.now(UTC))
    since_s, until_s = wanted.since.timestamp(), until.timestamp()
    rows = rows_of(session, "agent_events", wanted.connection_id, _EVENT_COLUMNS, None, until)
    reasons = [name for (name,) in query(session, f"SELECT DISTINCT reason FROM {rows} ORDER BY reason")]
    values = {"agent": wanted.agent, "queue": wanted.queue, "since": since_s}
    found = query_arrow(session, _CHANGES.format(rows=rows), values).combine_chunks()
    names = found["agent"].to_pylist()
    agents = sorted(set(names))
    places = {name: place for place, name in enumerate(agents)}
    whose = np.array([places[name] for name in names], np.int64)  # of each agent and queue
    everywhere, known, pauses = (found[name].to_numpy().astype(np.bool_) for name in ("everywhere", "known", "pauses"))
    changes = pc.list_flatten(found["changes"]).to_numpy().astype(np.int64)
    owner = np.repeat(np.arange(len(names)), pc.list_value_length(found["changes"]).to_numpy().astype(np.int64))
    at_s, code = changes // _CODES, changes % _CODES
    single = np.bincount(whose[pauses & ~everywhere], minlength=len(agents)) > 0
    counted = ~(single[whose] & everywhere)  # see _pauses
    logs = (code == _LOGIN) | (code == _LOGOUT)
    logins, _ = spans_of(owner[logs], at_s[logs], code[logs] == _LOGIN, until_s)
    paused, reason = _pauses(owner, at_s, code, counted, until_s)
    logins, paused = (replace(spans, whose=whose[spans.whose]) for spans in (logins, paused))
    by_reason = replace(paused, whose=paused.whose * (len(reasons) or 1) + reason)
    logged_in, at_all, by_reason = (spans.cut(since_s, until_s).merged() for spans in (logins, paused, by_reason))
    known_agents = np.bincount(whose[known], minlength=len(agents)) > 0
    return _Presence(agents, reasons, logged_in, at_all, by_reason, known_agents, until_s)


def _pauses(owner: Ints, at_s: Ints, code: Ints, counted: Flags, until_s: float) -> tuple[AgentSpans, Ints]:
    """The pauses by agent and queue, and their reasons; a logout ends a pause too.

    Asterisk writes PAUSEALL, without a queue, and then a PAUSE for each queue. PAUSEALL counts only for agents without
    any PAUSE of a single queue, because each queue may end its pause separately. `counted` is set for those agents and
    queues whose changes count.
    """
    (places,) = np.nonzero((code != _LOGIN) & counted[owner])
    spans, begun = spans_of(owner[places], at_s[places], code[places] >= _FIRST_PAUSE, until_s)
    return spans, code[places][begun] - _FIRST_PAUSE


def _presence_sums(session: Session, wanted: FigureFilter) -> dict[str, _Sums]:
    """By agent: seconds logged in (None: no login was recorded), seconds paused, sessions, pauses by reason."""
    return cached_in_session(
        session, ("sums", _presence_key(wanted)), lambda: _sum_presence(_presence(session, wanted))
    )


def _sum_presence(presence: _Presence) -> dict[str, _Sums]:
    agents, reasons = len(presence.agents), len(presence.reasons) or 1
    in_s, sessions = presence.logins.total_s(agents), np.bincount(presence.logins.whose, minlength=agents)
    paused_s = np.bincount(presence.pauses.whose, weights=_counted_s(presence, presence.pauses), minlength=agents)
    by_reason: list[dict[str, PauseFigures]] = [{} for _ in range(agents)]
    pauses = presence.pauses_by_reason
    of_agents = replace(pauses, whose=pauses.whose // reasons)
    counts = np.bincount(pauses.whose, minlength=agents * reasons)
    seconds = np.bincount(pauses.whose, weights=_counted_s(presence, of_agents), minlength=agents * reasons)
    for place in np.flatnonzero(seconds > 0).tolist():
        reason = presence.reasons[place % reasons]
        by_reason[place // reasons][reason] = PauseFigures(int(counts[place]), float(seconds[place]))
    return {
        name: (float(in_s[i]) if presence.known[i] else None, float(paused_s[i]), int(sessions[i]), by_reason[i])
        for i, name in enumerate(presence.agents)
        if sessions[i] or paused_s[i]
    }


def _counted_s(presence: _Presence, pauses: AgentSpans) -> Floats:
    """The seconds of each pause that count: those while logged in, or all if no login of the agent was recorded."""
    return np.where(presence.known[pauses.whose], pauses.within_s(presence.logins), pauses.end_s - pauses.start_s)


def _moments(epoch_s: Floats) -> Iterator[datetime]:
    return map(datetime.fromtimestamp, epoch_s.tolist(), repeat(UTC))
