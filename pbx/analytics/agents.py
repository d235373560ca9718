"""Figures of agents over a period: calls, talk time, missed rings, sessions, pauses by reason, occupancy."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

import numpy as np
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import load_columns
from pbx.analytics.formulas.agents import AgentFigures, AgentSpans, PauseFigures, overlap_s, spans_of
from pbx.analytics.formulas.intervals import Ints, epochs, interval_edges
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.queues import FigureFilter, by_agent
from pbx.analytics.rows_to_columns import cached_in_session

_Sums = tuple[float | None, float, int, dict[str, PauseFigures]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RING_COLUMNS = ("agent", "queue", "ring_s")
_EVENT_COLUMNS = ("agent", "queue", "kind", "reason")


@dataclass(frozen=True, slots=True)
class AgentSession:
    """A time span in which an agent was logged in to at least one queue, limited to the period."""

    agent: str
    from_at: datetime
    until_at: datetime
    open: bool  # still logged in at the end of the period


@dataclass(frozen=True, slots=True)
class AgentPause:
    """A time span in which an agent was paused in at least one queue, limited to the period."""

    agent: str
    from_at: datetime
    until_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class AgentDay:
    """An agent's day in the PBX's time zone: first login, last logout, time logged in, time paused of that."""

    agent: str
    day_at: datetime  # start of the day, in UTC
    first_in_at: datetime
    last_out_at: datetime
    logged_in_s: float
    paused_s: float


@dataclass(frozen=True)
class _Presence:
    """When agents were logged in and paused in the period. Spans are owned by an agent's index in `agents`."""

    agents: tuple[str, ...]
    logins: AgentSpans  # merged
    pauses: AgentSpans
    reasons: np.ndarray[tuple[int], np.dtype[np.int64]]  # of each pause, an index into `reason_names`
    reason_names: tuple[str, ...]
    known: Flags  # of each agent, whether a login was ever recorded
    reached_s: float  # the period's end, or now


def agent_figures(session: Session, wanted: FigureFilter) -> list[AgentFigures]:
    """Figures of every agent who was logged in, rang or took a call, sorted by calls (most first), then by name.

    A queue limits them to what happened in that queue. A DID limits only the calls. Pauses count while the agent was
    logged in; where no login was recorded, all pauses count.
    """
    taken = by_agent(session, wanted)
    rings = load_columns(session, "agent_rings", wanted.connection_id, wanted.since, wanted.until, _RING_COLUMNS)
    rings = rings.narrowed({"queue": wanted.queue, "agent": wanted.agent})
    counts = np.bincount(rings.columns["agent"], minlength=len(rings.names["agent"]))
    seconds = np.bincount(rings.columns["agent"], weights=rings.columns["ring_s"], minlength=len(counts))
    missed = {name: (int(counts[i]), float(seconds[i])) for i, name in enumerate(rings.names["agent"]) if counts[i]}
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
    logins, until_s = presence.logins, presence.reached_s
    found = [
        AgentSession(presence.agents[int(who)], _at(start), _at(end), bool(end >= until_s))
        for who, start, end in zip(logins.whose, logins.start_s, logins.end_s, strict=True)
    ]
    return sorted(found, key=lambda item: (item.agent, item.from_at))


def agent_pauses(session: Session, wanted: FigureFilter) -> list[AgentPause]:
    """When agents were paused and why, by agent, then by time. A pause in several queues at the same time is one."""
    presence, found = _presence(session, wanted), []
    for code in np.unique(presence.reasons):
        merged, reason = presence.pauses.where(presence.reasons == code).merged(), presence.reason_names[code]
        for who, start, end in zip(merged.whose, merged.start_s, merged.end_s, strict=True):
            found.append(AgentPause(presence.agents[int(who)], _at(start), _at(end), reason))
    return sorted(found, key=lambda item: (item.agent, item.from_at))


def agent_days(session: Session, wanted: FigureFilter, zone: tzinfo) -> list[AgentDay]:
    """Agents' days in `zone`, by day, then agent. A session across midnight is split presence."""
    presence = _presence(session, wanted)
    edges, agents = interval_edges(wanted.since, wanted.until, zone, "day"), len(presence.agents)
    if not edges or not agents:
        return []
    logins, owners = _by_day(presence.logins, edges, agents), agents * (len(edges) - 1)
    in_s, paused_s = logins.total_s(owners), overlap_s(logins, _by_day(presence.pauses, edges, agents), owners)
    first, last = np.full(owners, np.inf), np.zeros(owners)
    np.minimum.at(first, logins.whose, logins.start_s)
    np.maximum.at(last, logins.whose, logins.end_s)
    found = [
        AgentDay(
            presence.agents[i % agents],
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
    events = load_columns(session, "agent_events", wanted.connection_id, EPOCH, until, _EVENT_COLUMNS)
    if wanted.queue is not None:
        queues = [events.code("queue", name) for name in (wanted.queue, "")]
        events = events.where(np.isin(events.columns["queue"], queues))
    events = events.narrowed({"agent": wanted.agent}).compact("agent")
    since_s, until_s = wanted.since.timestamp(), until.timestamp()
    agents = events.names["agent"]
    login, logout = (events.columns["kind"] == events.code("kind", kind) for kind in ("login", "logout"))
    logins, _ = _spans(events.where(login | logout), "login", until_s)
    known = np.bincount(events.columns["agent"][login], minlength=len(agents)) > 0
    pausing = _pausing(events)
    pauses, places = _spans(pausing, "pause", until_s)
    reasons = pausing.columns["reason"][places]
    within = np.minimum(pauses.end_s, until_s) > np.maximum(pauses.start_s, since_s)
    return _Presence(
        agents,
        logins.cut(since_s, until_s).merged(),
        pauses.where(within).cut(since_s, until_s),
        reasons[within],
        events.names["reason"],
        known,
        until_s,
    )


def _pausing(events: Columns) -> Columns:
    """The events that start or end a pause; a logout ends it too.

    Asterisk writes PAUSEALL, without a queue, and then a PAUSE for each queue. PAUSEALL counts only for agents without
    any PAUSE of a single queue, because each queue may end its pause separately.
    """
    of = events.columns
    paused, unpaused = (of["kind"] == events.code("kind", kind) for kind in ("pause", "unpause"))
    in_queue = (paused | unpaused) & (of["queue"] != events.code("queue", ""))
    single = np.bincount(of["agent"][in_queue], minlength=len(events.names["agent"])) > 0
    ended = of["kind"] == events.code("kind", "logout")
    return events.where(
        (paused | unpaused | ended) & ~(single[of["agent"]] & (of["queue"] == events.code("queue", "")))
    )


def _spans(
    events: Columns, begins: str, until_s: float
) -> tuple[AgentSpans, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The spans of each agent and queue, owned by the agent, and the index of the change that started each."""
    of, queues = events.columns, max(len(events.names["queue"]), 1)
    spans, places = spans_of(
        of["agent"] * queues + of["queue"], of["at_s"], of["kind"] == events.code("kind", begins), until_s
    )
    return AgentSpans(spans.whose // queues, spans.start_s, spans.end_s), places


def _presence_sums(session: Session, wanted: FigureFilter) -> dict[str, _Sums]:
    """By agent: seconds logged in (None: no login was recorded), seconds paused, sessions, pauses by reason."""
    return cached_in_session(
        session, ("sums", _presence_key(wanted)), lambda: _sum_presence(_presence(session, wanted))
    )


def _sum_presence(presence: _Presence) -> dict[str, _Sums]:
    agents = len(presence.agents)
    in_s, sessions = presence.logins.total_s(agents), np.bincount(presence.logins.whose, minlength=agents)
    paused_s = _paused_s(presence, presence.pauses)
    by_reason: list[dict[str, PauseFigures]] = [{} for _ in range(agents)]
    reasons = max(len(presence.reason_names), 1)
    pairs, pair = np.unique(
        presence.pauses.whose * reasons + presence.reasons, return_inverse=True
    )  # of agent and reason
    pauses = AgentSpans(pair, presence.pauses.start_s, presence.pauses.end_s).merged()
    counts, who = np.bincount(pauses.whose, minlength=len(pairs)), pairs // reasons
    within = overlap_s(_logins_of(presence, who), pauses, len(pairs))
    seconds = np.where(presence.known[who], within, pauses.total_s(len(pairs)))
    for place in np.flatnonzero(seconds > 0):
        reason = presence.reason_names[int(pairs[place] % reasons)]
        by_reason[int(who[place])][reason] = PauseFigures(int(counts[place]), float(seconds[place]))
    return {
        name: (float(in_s[i]) if presence.known[i] else None, float(paused_s[i]), int(sessions[i]), by_reason[i])
        for i, name in enumerate(presence.agents)
        if sessions[i] or paused_s[i]
    }


def _logins_of(presence: _Presence, agents: Ints) -> AgentSpans:
    """The logins of each of these agents, owned by the agent's index in `agents`."""
    logins = presence.logins  # in order of agent
    first, last = (np.searchsorted(logins.whose, agents, side=side) for side in ("left", "right"))
    owner = np.repeat(np.arange(len(agents)), last - first)
    rows = np.arange(len(owner)) - np.repeat(np.cumsum(last - first) - last, last - first)
    return AgentSpans(owner, logins.start_s[rows], logins.end_s[rows])


def _paused_s(presence: _Presence, pauses: AgentSpans) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    agents = len(presence.agents)
    return np.where(presence.known, overlap_s(presence.logins, pauses, agents), pauses.total_s(agents))


def _at(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(float(epoch_s), UTC)
