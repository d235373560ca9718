"""Figures of agents over a period: calls and talk, rings in vain, sessions, pauses by reason, occupancy."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

import numpy as np
from sqlmodel import Session

from pbx.analytics.formulas.agents import AgentFigures, AgentSpans, PauseFigures, overlap_s, spans_of
from pbx.analytics.formulas.intervals import Ints, epochs, interval_edges
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.packs import Packed, load_columns, remembered
from pbx.analytics.queues import FigureFilter, by_agent

_Sums = tuple[float | None, float, int, dict[str, PauseFigures]]
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AgentSession:
    """A stretch in which an agent was logged in to at least one queue, cut to the period."""

    agent: str
    from_at: datetime
    until_at: datetime
    open: bool  # he is still logged in


@dataclass(frozen=True, slots=True)
class AgentPause:
    """A stretch in which an agent was paused in at least one queue, cut to the period."""

    agent: str
    from_at: datetime
    until_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class AgentDay:
    """An agent's day in the PBX's zone: first login, last logout, seconds logged in and of these paused."""

    agent: str
    day_at: datetime  # its beginning, in UTC
    first_in_at: datetime
    last_out_at: datetime
    logged_in_s: float
    paused_s: float


@dataclass(frozen=True)
class _Presence:
    """Who was logged in and paused when, within the period; agents by their places in `agents`."""

    agents: tuple[str, ...]
    logins: AgentSpans  # merged
    pauses: AgentSpans
    reasons: np.ndarray[tuple[int], np.dtype[np.int64]]  # of each pause, a place in `reason_names`
    reason_names: tuple[str, ...]
    known: Flags  # of each agent, whether anything ever told of a login
    reached_s: float  # the period's end, or now


def agent_figures(session: Session, wanted: FigureFilter) -> list[AgentFigures]:
    """Figures of every agent who was there, rang or took a call, the most calls first, then by name.

    With a queue: what he did in it. A DID narrows the calls only. Pauses count while he was logged in, and all of them
    where no login is known.
    """
    taken = by_agent(session, wanted)
    rings = load_columns(session, "rings", wanted.connection_id, wanted.since, wanted.until)
    rings = rings.narrowed({"queue": wanted.queue, "agent": wanted.agent})
    vain = np.bincount(rings.columns["agent"], minlength=len(rings.names["agent"]))
    vain_s = np.bincount(rings.columns["agent"], weights=rings.columns["ring_s"], minlength=len(vain))
    rung = {name: (int(vain[i]), float(vain_s[i])) for i, name in enumerate(rings.names["agent"]) if vain[i]}
    there = _presences(session, wanted)
    found = []
    for name in {*taken, *rung, *there} - {""}:
        calls, (count, ring_s) = taken.get(name), rung.get(name, (0, 0.0))
        logged_in_s, paused_s, sessions, pauses = there.get(name, (None, 0.0, 0, {}))
        done = (calls.answered, calls.talk_s, calls.talks) if calls else (0, 0.0, 0)
        found.append(AgentFigures(name, *done, count, ring_s, logged_in_s, paused_s, sessions, pauses))
    return sorted(found, key=lambda agent: (-agent.calls, agent.agent))


def pause_reasons(session: Session, wanted: FigureFilter) -> dict[str, PauseFigures]:
    """The pauses of all agents wanted, by reason, the longest in all first; "" where none was given."""
    found: dict[str, PauseFigures] = {}
    for _, _, _, pauses in _presences(session, wanted).values():
        for reason, pause in pauses.items():
            sofar = found.get(reason, PauseFigures(0, 0.0))
            found[reason] = PauseFigures(sofar.count + pause.count, sofar.paused_s + pause.paused_s)
    return dict(sorted(found.items(), key=lambda item: (-item[1].paused_s, item[0])))


def agent_sessions(session: Session, wanted: FigureFilter) -> list[AgentSession]:
    """When agents were logged in, by agent, then in order of time."""
    there = _presence(session, wanted)
    logins, until_s = there.logins, there.reached_s
    found = [
        AgentSession(there.agents[int(who)], _at(start), _at(end), bool(end >= until_s))
        for who, start, end in zip(logins.whose, logins.start_s, logins.end_s, strict=True)
    ]
    return sorted(found, key=lambda item: (item.agent, item.from_at))


def agent_pauses(session: Session, wanted: FigureFilter) -> list[AgentPause]:
    """When agents were paused and why, by agent, then in order of time; in several queues at once counts once."""
    there, found = _presence(session, wanted), []
    for code in np.unique(there.reasons):
        merged, reason = there.pauses.where(there.reasons == code).merged(), there.reason_names[code]
        for who, start, end in zip(merged.whose, merged.start_s, merged.end_s, strict=True):
            found.append(AgentPause(there.agents[int(who)], _at(start), _at(end), reason))
    return sorted(found, key=lambda item: (item.agent, item.from_at))


def agent_days(session: Session, wanted: FigureFilter, zone: tzinfo) -> list[AgentDay]:
    """Agents' days in `zone`, by day, then agent: a session over midnight is cut there."""
    there = _presence(session, wanted)
    edges, agents = interval_edges(wanted.since, wanted.until, zone, "day"), len(there.agents)
    if not edges or not agents:
        return []
    logins, owners = _by_day(there.logins, edges, agents), agents * (len(edges) - 1)
    in_s, paused_s = logins.total_s(owners), overlap_s(logins, _by_day(there.pauses, edges, agents), owners)
    first, last = np.full(owners, np.inf), np.zeros(owners)
    np.minimum.at(first, logins.whose, logins.start_s)
    np.maximum.at(last, logins.whose, logins.end_s)
    found = [
        AgentDay(
            there.agents[i % agents],
            edges[i // agents],
            _at(first[i]),
            _at(last[i]),
            float(in_s[i]),
            float(paused_s[i]),
        )
        for i in np.flatnonzero(in_s).tolist()
    ]
    return sorted(found, key=lambda item: (item.day_at, item.agent))


def _by_day(spans: AgentSpans, edges: list[datetime], agents: int) -> AgentSpans:
    """Spans cut at the edges of days, owned by day * agents + agent."""
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
    """From all changes there ever were: who logged in long ago and never out is still there."""
    return remembered(session, ("presence", _question(wanted)), lambda: _find_presence(session, wanted))


def _question(wanted: FigureFilter) -> FigureFilter:
    return replace(wanted, did=None, chosen=None)  # which tell nothing of agents' presence


def _find_presence(session: Session, wanted: FigureFilter) -> _Presence:
    until = min(wanted.until, datetime.now(UTC))
    changes = load_columns(session, "changes", wanted.connection_id, BEGINNING, until)
    if wanted.queue is not None:
        queues = [changes.code("queue", name) for name in (wanted.queue, "")]
        changes = changes.where(np.isin(changes.columns["queue"], queues))
    changes = changes.narrowed({"agent": wanted.agent}).compact("agent")
    since_s, until_s = wanted.since.timestamp(), until.timestamp()
    agents = changes.names["agent"]
    login, logout = (changes.columns["kind"] == changes.code("kind", kind) for kind in ("login", "logout"))
    logins, _ = _spans(changes.where(login | logout), "login", until_s)
    known = np.bincount(changes.columns["agent"][login], minlength=len(agents)) > 0
    pausing = _pausing(changes)
    pauses, places = _spans(pausing, "pause", until_s)
    reasons = pausing.columns["reason"][places]
    within = np.minimum(pauses.end_s, until_s) > np.maximum(pauses.start_s, since_s)
    return _Presence(
        agents,
        logins.cut(since_s, until_s).merged(),
        pauses.where(within).cut(since_s, until_s),
        reasons[within],
        changes.names["reason"],
        known,
        until_s,
    )


def _pausing(changes: Packed) -> Packed:
    """Changes that begin or end a pause; a logout ends it too.

    Asterisk writes PAUSEALL, which stands in no queue, and then a PAUSE for each: the former counts only of agents of
    whom nothing else tells, as single queues may end the pause one by one.
    """
    of = changes.columns
    paused, unpaused = (of["kind"] == changes.code("kind", kind) for kind in ("pause", "unpause"))
    queued = (paused | unpaused) & (of["queue"] != changes.code("queue", ""))
    single = np.bincount(of["agent"][queued], minlength=len(changes.names["agent"])) > 0
    ended = of["kind"] == changes.code("kind", "logout")
    return changes.where(
        (paused | unpaused | ended) & ~(single[of["agent"]] & (of["queue"] == changes.code("queue", "")))
    )


def _spans(
    changes: Packed, begins: str, until_s: float
) -> tuple[AgentSpans, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Stretches per agent and queue, owned by the agent."""
    of, queues = changes.columns, max(len(changes.names["queue"]), 1)
    spans, places = spans_of(
        of["agent"] * queues + of["queue"], of["at"], of["kind"] == changes.code("kind", begins), until_s
    )
    return AgentSpans(spans.whose // queues, spans.start_s, spans.end_s), places


def _presences(session: Session, wanted: FigureFilter) -> dict[str, _Sums]:
    """By agent: seconds logged in (None: no login is known), seconds paused, sessions, pauses by reason."""
    return remembered(session, ("sums", _question(wanted)), lambda: _sum_up(_presence(session, wanted)))


def _sum_up(there: _Presence) -> dict[str, _Sums]:
    agents = len(there.agents)
    in_s, sessions = there.logins.total_s(agents), np.bincount(there.logins.whose, minlength=agents)
    paused_s = _while_in(there, there.pauses)
    by_reason: list[dict[str, PauseFigures]] = [{} for _ in range(agents)]
    reasons = max(len(there.reason_names), 1)
    pairs, pair = np.unique(there.pauses.whose * reasons + there.reasons, return_inverse=True)  # of agent and reason
    pauses = AgentSpans(pair, there.pauses.start_s, there.pauses.end_s).merged()
    counts, who = np.bincount(pauses.whose, minlength=len(pairs)), pairs // reasons
    within = overlap_s(_logins_of(there, who), pauses, len(pairs))
    seconds = np.where(there.known[who], within, pauses.total_s(len(pairs)))
    for place in np.flatnonzero(seconds > 0):
        reason = there.reason_names[int(pairs[place] % reasons)]
        by_reason[int(who[place])][reason] = PauseFigures(int(counts[place]), float(seconds[place]))
    return {
        name: (float(in_s[i]) if there.known[i] else None, float(paused_s[i]), int(sessions[i]), by_reason[i])
        for i, name in enumerate(there.agents)
        if sessions[i] or paused_s[i]
    }


def _logins_of(there: _Presence, agents: Ints) -> AgentSpans:
    """The logins of each of these agents, owned by its place among them."""
    logins = there.logins  # in order of agent
    first, last = (np.searchsorted(logins.whose, agents, side=side) for side in ("left", "right"))
    owner = np.repeat(np.arange(len(agents)), last - first)
    rows = np.arange(len(owner)) - np.repeat(np.cumsum(last - first) - last, last - first)
    return AgentSpans(owner, logins.start_s[rows], logins.end_s[rows])


def _while_in(there: _Presence, pauses: AgentSpans) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    agents = len(there.agents)
    return np.where(there.known, overlap_s(there.logins, pauses, agents), pauses.total_s(agents))


def _at(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(float(epoch_s), UTC)
