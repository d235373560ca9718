"""Sample queue_logs: written by hand or at random, and parsed into visits."""

import random
from collections.abc import Iterator
from heapq import heappop, heappush

from pbx.asterisk.formats.queue_log import parse_queue_log_line
from pbx.imports.visits_from_queue_log import FoldedHistory, QueueLogFold

T = 1_795_262_830  # 2026-11-21 12:07:10 UTC


def lines(*events: str) -> list[bytes]:
    """Lines of a queue_log, from `offset|callid|queue|agent|event|data…`; the offset is in seconds after T."""
    found = []
    for event in events:
        offset, _, rest = event.partition("|")
        found.append(f"{T + int(offset)}|{rest}".encode())
    return found


def fold(*events: str, into: QueueLogFold | None = None, at_end: bool = True) -> FoldedHistory:
    """The visits, missed rings and agent events that the events give."""
    into = into or QueueLogFold()
    for line in lines(*events):
        event = parse_queue_log_line(line)
        assert event is not None
        into.add(event)
    return into.take(at_end=at_end)


def write_days(calls: int, seed: int = 1) -> Iterator[str]:
    """A random queue_log of so many calls, as a busy site writes it: visits overlap, and end in every possible way."""
    rng = random.Random(seed)
    agents = [f"Agent {n:02}" for n in range(20)]
    pending: list[tuple[float, int, str]] = []
    now = float(T)
    for number in range(calls):
        now += rng.expovariate(1 / 6)
        for event in _events_of_call(rng, f"{int(now)}.{number}", agents):
            heappush(pending, (now + event[0], len(pending) + number, event[1]))
        while pending and pending[0][0] <= now:
            yield _line(*heappop(pending))
        if number % 500 == 499:
            yield f"{int(now)}|NONE|sales|{rng.choice(agents)}|{rng.choice(('PAUSE', 'UNPAUSE'))}|Lunch\n"
    while pending:
        yield _line(*heappop(pending))


def _line(at: float, _order: int, rest: str) -> str:
    return f"{int(at)}|{rest}\n"


def _events_of_call(rng: random.Random, callid: str, agents: list[str]) -> Iterator[tuple[float, str]]:
    queue, agent = rng.choice(("sales", "support", "billing")), rng.choice(agents)
    yield 0, f"{callid}|{queue}|NONE|ENTERQUEUE||+4930{rng.randrange(10**7):07}|1"
    wait = rng.randrange(1, 90)
    if rng.random() < 0.4:
        yield wait / 2, f"{callid}|{queue}|{rng.choice(agents)}|RINGNOANSWER|5000"
    outcome = rng.random()
    if outcome < 0.8:
        talk = rng.randrange(5, 900)
        yield wait, f"{callid}|{queue}|{agent}|CONNECT|{wait}|{callid}1|3"
        end = f"{wait}|{talk}|1"
        if outcome < 0.7:
            yield wait + talk, f"{callid}|{queue}|{agent}|{rng.choice(('COMPLETEAGENT', 'COMPLETECALLER'))}|{end}"
        else:
            yield wait + talk, f"{callid}|{queue}|{agent}|BLINDTRANSFER|6002|from-internal|{end}"
    else:
        yield wait, f"{callid}|{queue}|NONE|{rng.choice(('ABANDON', 'EXITWITHTIMEOUT', 'EXITEMPTY'))}|1|1|{wait}"
