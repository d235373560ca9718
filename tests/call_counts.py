"""Checks that all queries count the same calls of a queue as its stored visits."""

from collections import Counter, defaultdict
from datetime import datetime, tzinfo

from sqlalchemy import text
from sqlmodel import Session

from pbx.analytics.agents import agent_figures
from pbx.analytics.call_lists import CallSelection, selected_calls
from pbx.analytics.calls import CallDimension, CallQuestion, call_counts, call_heat_map, call_totals
from pbx.analytics.queues import FigureFilter, Selection, figures_by, queue_intervals, queue_totals
from pbx.analytics.visit_lists import count_visits
from pbx.store.agent_names import extension_names
from pbx.store.calls import CallFilter, call_queues, count_calls, find_calls
from pbx.store.models import CallRow

ALL = 1_000_000
Counted = tuple[int, int, int, int]  # visits, answered visits, calls, answered calls


def counts_from_visits(session: Session, connection_id: int, since: datetime, until: datetime) -> dict[str, Counted]:
    """By queue, the counts of the stored visits that joined in a period, calculated without the app's queries."""
    pbx = {"pbx": connection_id, "since": int(since.timestamp()), "until": int(until.timestamp())}
    connection = session.connection()
    call_of: dict[str, int] = {}
    for query in (
        "SELECT uniqueid, call_id FROM call_legs WHERE connection_id = :pbx",
        "SELECT linkedid, id FROM calls WHERE connection_id = :pbx",
    ):
        call_of |= {row[0]: row[1] for row in connection.execute(text(query), pbx)}
    rows = connection.execute(
        text(
            "SELECT uniqueid, queue, outcome, connected_at FROM queue_visits"
            " WHERE connection_id = :pbx AND joined_at >= :since AND joined_at < :until"
        ),
        pbx,
    ).all()
    calls, answered = defaultdict(set), defaultdict(set)
    visits, answered_visits = Counter(row.queue for row in rows), Counter[str]()
    for row in rows:
        calls[row.queue].add(call_of[row.uniqueid])  # the call of every visit is stored
        if row.outcome in ("answered", "transferred") or row.connected_at is not None:
            answered_visits[row.queue] += 1
            answered[row.queue].add(call_of[row.uniqueid])
    return {queue: (visits[queue], answered_visits[queue], len(calls[queue]), len(answered[queue])) for queue in visits}


def assert_all_agree(
    session: Session, connection_id: int, since: datetime, until: datetime, zone: tzinfo
) -> dict[str, Counted]:
    """Assert that the queries of all pages and lists count the same calls of each queue, and return these counts.

    No call may begin before the period or end after it.
    """
    expected = counts_from_visits(session, connection_id, since, until)
    period = FigureFilter(connection_id, since, until)
    board = figures_by(session, period, "queue")
    assert board.keys() == expected.keys()
    everything = CallQuestion(connection_id, since, until)
    by_queue = {one.label: (one.calls, one.answered) for one in call_counts(session, everything, zone, "queue")}
    assert by_queue.keys() - {""} == expected.keys() <= set(call_queues(session, connection_id))
    total = call_totals(session, everything).calls
    assert total == count_calls(session, CallFilter(connection_id, since, until))
    for queue, counted in expected.items():
        assert _counts_by_query(session, connection_id, since, until, zone, queue) == dict.fromkeys(QUERIES, counted)
        assert (board[queue].offered, board[queue].answered, *by_queue[queue]) == counted
    none, _ = by_queue.get("", (0, 0))
    assert none == count_calls(session, CallFilter(connection_id, since, until, queue=""))
    assert none == call_totals(session, CallQuestion(connection_id, since, until, queue="")).calls
    for agent in agent_figures(session, period):
        of_agent = FigureFilter(connection_id, since, until, agent=agent.agent)
        assert agent.calls == count_visits(session, of_agent, Selection(answered=True), zone)
    return expected


QUERIES = (
    *("Queues", "Queues by day", "Queues by agent", "Agents"),
    *("Explore", "Explore by day", "Explore by hour", "Explore by direction", "Explore by outcome", "Explore by agent"),
    *("Explore by weekday", "Calls below Explore", "Interactions"),
)


def _counts_by_query(
    session: Session, connection_id: int, since: datetime, until: datetime, zone: tzinfo, queue: str
) -> dict[str, Counted]:
    """The counts by each query. A number that it doesn't count is taken from Queues or Explore."""
    wanted = FigureFilter(connection_id, since, until, queue)
    question = CallQuestion(connection_id, since, until, queue=queue)
    offered, figures = queue_totals(session, wanted), call_totals(session, question)
    found = {"Queues": (offered.offered, offered.answered, figures.calls, figures.answered)}
    days = [one.figures for one in queue_intervals(session, wanted, zone, "day")]
    found["Queues by day"] = (sum(day.offered for day in days), sum(day.answered for day in days), *found["Queues"][2:])
    by_agent = figures_by(session, wanted, "agent")
    agents = sum(one.answered for name, one in by_agent.items() if name)
    found["Queues by agent"] = (sum(one.offered for one in by_agent.values()), agents, *found["Queues"][2:])
    taken = {one.agent: one.calls for one in agent_figures(session, wanted) if one.calls}
    found["Agents"] = (offered.offered, sum(taken.values()), *found["Queues"][2:])

    def with_visits(calls: int, answered: int) -> Counted:
        return offered.offered, offered.answered, calls, answered

    found["Explore"] = with_visits(figures.calls, figures.answered)
    dimensions: tuple[CallDimension, ...] = ("day", "hour", "direction")
    for by in dimensions:
        counts = call_counts(session, question, zone, by)
        found[f"Explore by {by}"] = with_visits(sum(one.calls for one in counts), sum(one.answered for one in counts))
    ended = {one.label: one.calls for one in call_counts(session, question, zone, "disposition")}
    found["Explore by outcome"] = with_visits(sum(ended.values()), ended.get("ANSWERED", 0))
    names = extension_names(session, connection_id)
    counts = call_counts(session, question, zone, "agent")
    found["Explore by agent"] = with_visits(sum(one.calls for one in counts), sum(one.answered for one in counts))
    _, calls = selected_calls(session, question, CallSelection(), zone, offset=0, limit=ALL)
    # Only if no call has two queues or two visits does each have one agent.
    if all(call.queue == queue for call in calls) and figures.answered == offered.answered:
        assert {names.get(one.label, one.label): one.answered for one in counts if one.answered} == taken
    cells = call_heat_map(session, question, zone)
    found["Explore by weekday"] = with_visits(sum(n or 0 for day in cells for n in day), figures.answered)
    listed, _ = selected_calls(session, question, CallSelection(), zone, offset=0, limit=ALL)
    answered, _ = selected_calls(session, question, CallSelection(disposition="ANSWERED"), zone, offset=0, limit=1)
    assert listed == len(calls)
    found["Calls below Explore"] = with_visits(listed, answered)
    filters = CallFilter(connection_id, since, until, queue=queue)
    calls_of_list = find_calls(session, filters, offset=0, limit=ALL)
    assert _ids(calls_of_list) == _ids(calls)
    found["Interactions"] = with_visits(count_calls(session, filters), figures.answered)
    return found


def _ids(calls: list[CallRow]) -> list[int]:
    return sorted(call.id or 0 for call in calls)
